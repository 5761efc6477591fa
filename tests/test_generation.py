"""Causal language models: a static KV cache changes speed and nothing else; training is what it says."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from bench.case import Case
from bench.contracts import Program
from bench.registry import case_for, load_workload

GENERATING = ["gpt2", "llama", "mixtral"]


def a_case(name: str, *, task: str = "inference", options: dict[str, Any] | None = None,
           **fields: Any) -> Case:
    wanted: dict[str, Any] = {"size": "tiny", "backend": "cpu", "dtype": "fp32", "batch_size": 2,
                              "seq_len": 12}
    if task == "inference":
        options = {"new_tokens": 6} | (options or {})
    return case_for(name, load_workload(name), task=task, options=options, **(wanted | fields))


def build(case: Case) -> Program:
    assert load_workload(case.workload).limits(case) is None
    return load_workload(case.workload).build(case)


def generate(program: Program, *, forced: Any = None) -> tuple[Any, Any]:
    """Return tokens [B, N] and logits [B, N, V] of a greedy generation, or of one fed with `forced`."""
    import torch

    assert program.prefill is not None
    assert program.decode is not None
    with torch.no_grad():
        logits_BV, next_B1 = program.prefill(*program.inputs)
        all_logits, tokens, prompt = [logits_BV], [next_B1], program.inputs[0].shape[1]
        for step in range(program.new_tokens - 1):
            fed_B1 = next_B1 if forced is None else forced[:, step:step + 1]
            logits_BV, next_B1 = program.decode(fed_B1, torch.tensor([prompt + step]))
            all_logits.append(logits_BV)
            tokens.append(next_B1)
    return torch.cat(tokens, 1), torch.stack(all_logits, 1)


def plain_twin(model: Any) -> Any:
    """The same weights in transformers' own model: its attention, its GELU, its experts."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = "sdpa"
    if config.model_type == "gpt2":
        config.activation_function = "gelu_new"
    if config.model_type == "mixtral":
        config._experts_implementation = "eager"
    twin = type(model)(config).eval()
    twin.load_state_dict(model.state_dict())
    return twin


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import torch

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Generation.

@pytest.mark.parametrize("name", GENERATING)
def test_generation_is_what_transformers_makes_without_a_cache_and_by_generate(name: str) -> None:
    import torch

    program = build(a_case(name))
    tokens_BN, logits_BNV = generate(program)
    twin, (prompt_BT,) = plain_twin(program.weights), program.inputs
    with torch.no_grad():
        seen = torch.cat([prompt_BT, tokens_BN[:, :-1]], 1)
        full_BNV = twin(input_ids=seen, use_cache=False).logits[:, prompt_BT.shape[1] - 1:]
        theirs = twin.generate(prompt_BT, max_new_tokens=6, do_sample=False)
    torch.testing.assert_close(logits_BNV, full_BNV, atol=1e-4, rtol=0)
    assert torch.equal(tokens_BN, theirs[:, prompt_BT.shape[1]:])


def test_scaled_rotary_positions_are_those_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama-3.2-1B stretches its low frequencies; the tiny size does not."""
    import torch

    from workloads import llama

    monkeypatch.setitem(llama.SIZES, "tiny", llama.SIZES["tiny"] | {"rope": llama.SIZES["1b"]["rope"]})
    program = build(a_case("llama"))
    _, logits_BNV = generate(program)
    with torch.no_grad():
        full_BTV = plain_twin(program.weights)(input_ids=program.inputs[0], use_cache=False).logits
    torch.testing.assert_close(logits_BNV[:, 0], full_BTV[:, -1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", GENERATING)
def test_the_cache_keeps_its_place_and_an_old_generation_leaves_no_trace(name: str) -> None:
    import torch

    program = build(a_case(name))
    places = {key: (buffer.data_ptr(), buffer.shape) for key, buffer in program.model.named_buffers()}
    first, again = generate(program), generate(program)
    assert torch.equal(first[1], again[1])
    assert places == {key: (buffer.data_ptr(), buffer.shape) for key, buffer in program.model.named_buffers()}
    assert program.weights is not None
    caches = [buffer for key, buffer in program.model.named_buffers() if "cached_" in key]
    assert len(caches) == 2 * 2  # keys and values of two layers
    assert {buffer.shape[2] for buffer in caches} == {12 + 6}
    assert not set(program.weights.state_dict()) & {key for key, _ in program.weights.named_buffers()}


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "amp-bf16"])
@pytest.mark.parametrize("name", GENERATING)
def test_narrow_types_generate_nearly_the_same_logits(name: str, dtype: str) -> None:
    import torch

    case = a_case(name, seq_len=40)
    tokens_BN, exact_BNV = generate(build(case))
    program = build(case)
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    program.model.to(types.get(dtype, torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "amp-bf16"):
        _, logits_BNV = generate(program, forced=tokens_BN)
    assert logits_BNV.dtype == types.get(dtype, torch.bfloat16)
    errors_BN = (logits_BNV.float() - exact_BNV).norm(dim=-1) / exact_BNV.norm(dim=-1)
    # Of the median token: rounding decides a near tie of Mixtral's router, and one token's expert is another.
    assert errors_BN.median() < 4 * (2**-11 if dtype == "fp16" else 2**-8)


def test_rotary_angles_are_exact_at_far_positions_in_bf16() -> None:
    """Frequencies cast to bf16 would be 0.2 % off: 1 radian at position 500."""
    import torch

    program = build(a_case("llama", seq_len=500))
    model: Any = program.model.to(torch.bfloat16)[0].model
    x, position_11 = torch.zeros(1, dtype=torch.bfloat16), torch.tensor([[499]])
    cos_11D, sin_11D = model.base_model.rotary_emb(x, position_11)
    frequencies = 1e4 ** -(torch.arange(0, 16, 2) / 16)  # theta^(-2i/D), heads of 16
    angles = 499 * frequencies.repeat(2)
    torch.testing.assert_close(cos_11D[0, 0].float(), angles.cos(), atol=2**-8, rtol=0)
    torch.testing.assert_close(sin_11D[0, 0].float(), angles.sin(), atol=2**-8, rtol=0)


def test_both_ways_to_run_the_experts_agree() -> None:
    import torch

    grouped, batched = (generate(build(a_case("mixtral", options={"experts": way})))
                        for way in ("grouped_mm", "batched_mm"))
    torch.testing.assert_close(grouped[1], batched[1], atol=1e-5, rtol=0)


def test_tied_weights_stay_tied_in_another_type() -> None:
    import torch

    program = build(a_case("gpt2"))
    program.model.to(torch.bfloat16)
    model: Any = program.weights
    assert model.lm_head.weight is model.transformer.wte.weight
    # 2 x 12 C^2 weights and 13 C biases and norms, embeddings (512 + 256) C, last norm 2 C; C = 64.
    assert sum(p.numel() for p in program.model.parameters()) == 24 * 4096 + 26 * 64 + 768 * 64 + 128


def test_a_compiled_and_frozen_decode_still_writes_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freezing takes parameters for constants: a cache taken for one would give every step the same past."""
    import torch
    import torch._inductor.config

    from workloads import gpt2

    monkeypatch.setitem(gpt2.SIZES, "tiny", gpt2.SIZES["tiny"] | {"layers": 1})  # a quicker compile
    eager, compiled = build(a_case("gpt2")), build(a_case("gpt2"))
    tokens_BN, logits_BNV = generate(eager)
    assert compiled.decode is not None
    compiled.decode = torch.compile(compiled.decode, fullgraph=True, dynamic=False)
    with torch._inductor.config.patch(freezing=True):
        again_BN, again_BNV = generate(compiled)
    torch.testing.assert_close(again_BNV, logits_BNV, atol=1e-4, rtol=0)
    assert torch.equal(again_BN, tokens_BN)


# Training.

def gradients(program: Program) -> dict[str, Any]:
    """Gradients of one step's micro-batches, each weighing the same."""
    for batch in program.batches[:program.accumulate]:
        (program.model(*batch) / program.accumulate).backward()
    return {name: p.grad for name, p in program.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["gpt2", "llama", "llama_lora"])
def test_gradient_accumulation_equals_one_big_batch(name: str) -> None:
    import torch

    whole = gradients(build(a_case(name, task="training", batch_size=4)))
    parts = gradients(build(a_case(name, task="training", batch_size=2, options={"accumulate": 2})))
    assert whole.keys() == parts.keys()
    for key, gradient in whole.items():
        torch.testing.assert_close(parts[key], gradient, atol=1e-6, rtol=1e-3)


def test_the_loss_is_that_of_the_next_token() -> None:
    import torch

    program = build(a_case("gpt2", task="training"))
    input_BT, target_BT = program.batches[0]
    assert torch.equal(input_BT[:, 1:], target_BT[:, :-1])
    with torch.no_grad():
        log_p_BTV = plain_twin(program.weights)(input_ids=input_BT).logits.log_softmax(-1)
        expected = -log_p_BTV.gather(-1, target_BT[..., None]).mean()
        torch.testing.assert_close(program.model(input_BT, target_BT), expected)


def test_activation_checkpointing_changes_no_gradient() -> None:
    import torch

    plain = gradients(build(a_case("llama", task="training")))
    program = build(a_case("llama", task="training", options={"checkpointing": True}))
    model: Any = program.weights
    assert model.is_gradient_checkpointing
    for key, gradient in gradients(program).items():
        torch.testing.assert_close(gradient, plain[key])


def test_lora_trains_its_adapters_and_nothing_else() -> None:
    import torch

    program = build(a_case("llama_lora", task="training", options={"lora_rank": 8}))
    before = {name: p.detach().clone() for name, p in program.model.named_parameters()}
    trained = {name for name, p in program.model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    # 2 layers x rank 8 x (query and output 64 + 64 each, key and value 64 + 32 each).
    assert sum(before[name].numel() for name in trained) == 2 * 8 * (2 * 128 + 2 * 96)
    assert program.optimizer is not None
    optimizer = program.optimizer([p for p in program.model.parameters() if p.requires_grad])
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = program.model(*program.batches[0])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[0] - losses[-1] > 1e-3
    moved = {name for name, p in program.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == trained


def test_weights_loaded_under_lora_reach_the_model_that_trains() -> None:
    import torch

    program, other = (build(a_case("llama_lora", task="training", seed=seed)) for seed in (0, 1))
    assert program.weights is not None
    assert other.weights is not None
    program.weights.load_state_dict(other.weights.state_dict())
    batch = program.batches[0]
    torch.testing.assert_close(program.model(*batch), other.model(*batch))


# Arithmetic.

def test_the_work_of_a_generation_is_that_worked_out_by_hand() -> None:
    case = a_case("gpt2", batch_size=1, seq_len=4, options={"new_tokens": 3})
    work = load_workload("gpt2").work(case)
    # C = 64, 2 layers, V = 512, T = 4, L = 7. A layer's weights: 4 C^2 + 8 C^2 = 49,152; head 32,768.
    # Prefill: 2 * (2*4*49,152 + 4*4*4*64) + 2*32,768; decode step: 2 * (2*49,152 + 4*7*64) + 2*32,768.
    assert work.parts == {"prefill": 860_160, "decode": 2 * 265_728}
    assert work.flops == 860_160 + 531_456
    assert (work.item, work.items) == ("token", 3)
    # Weights 131,072 three times, a cache of 2*2*7*64 = 1,792 elements twice, 4 bytes each.
    assert work.bytes == 4 * (3 * 131_072 + 2 * 1_792)


def test_the_work_of_mixtral_counts_two_experts_a_token() -> None:
    case = a_case("mixtral", batch_size=1, seq_len=4, options={"new_tokens": 1})
    # A layer: queries and output 2*64*64, keys and values 2*64*32, router 64*4, two experts of
    # 3*64*128 each: 61,696. Prefill: 2 layers * (2*4*61,696 + 4*4*4*64) + 2*64*512.
    assert load_workload("mixtral").work(case).flops == 2 * (493_568 + 4_096) + 65_536


def test_the_work_of_training_is_three_forward_passes_of_all_micro_batches() -> None:
    case = a_case("llama", task="training", batch_size=2, seq_len=4, options={"accumulate": 3})
    work = load_workload("llama").work(case)
    # A layer: 2*64*64 + 2*64*32 + 3*64*128 = 36,864 weights; head 32,768; 6 sequences of 4 tokens.
    assert work.flops == 3 * 6 * (2 * (2 * 4 * 36_864 + 4 * 4 * 4 * 64) + 2 * 4 * 32_768)
    assert (work.item, work.items) == ("token", 24)
    recomputing = a_case("llama", task="training", batch_size=2, seq_len=4,
                         options={"accumulate": 3, "checkpointing": True})
    assert load_workload("llama").work(recomputing) == work


@pytest.mark.parametrize(("name", "fields", "reason"), [
    ("gpt2", {"seq_len": 251}, "257 positions are needed, but gpt2:tiny has 256"),
    ("gpt2", {"task": "training", "seq_len": 257}, "257 positions"),
    ("llama", {"options": {"new_tokens": 0}}, "new_tokens must be at least 1, got 0"),
    ("llama", {"task": "training", "options": {"accumulate": -1}}, "accumulate must be"),
    ("llama", {"task": "training", "dtype": "fp16"}, "underflows"),
    ("llama_lora", {"task": "training", "options": {"lora_rank": 0}}, "lora_rank must be"),
    ("mixtral", {"options": {"experts": "dense"}}, "must be one of grouped_mm, batched_mm, got 'dense'"),
])
def test_an_impossible_case_is_refused_in_words(name: str, fields: dict[str, Any], reason: str) -> None:
    assert reason in (load_workload(name).limits(a_case(name, **fields)) or "")


def test_training_may_use_every_position() -> None:
    assert load_workload("gpt2").limits(a_case("gpt2", task="training", seq_len=256)) is None
