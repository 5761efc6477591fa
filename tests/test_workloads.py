"""Every workload that is found, whoever wrote it: its file promises no more and no less than what runs."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.case import DTYPES, Case
from bench.contracts import Program
from bench.registry import case_for, load_workload, scenario_names, workload_names

NAMES = workload_names()
TASKS = [(name, task) for name in NAMES for task in load_workload(name).scenarios]
SIZES = [(name, task, size) for name, task in TASKS for size in load_workload(name).sizes]
INFERENCE = [name for name, task in TASKS if task == "inference"]
TRAINING = [name for name, task in TASKS if task == "training"]


def a_case(name: str, task: str, size: str = "tiny", **fields: Any) -> Case:
    """A case of two samples, or of one where the workload knows no batches."""
    workload = load_workload(name)
    wanted: dict[str, Any] = {"task": task, "size": size, "backend": "cpu", "dtype": "fp32", "batch_size": 2}
    case = case_for(name, workload, **(wanted | fields))
    if workload.limits(case) is None:
        return case
    return case_for(name, workload, **(wanted | fields | {"batch_size": 1}))


def build(case: Case) -> Program:
    return load_workload(case.workload).build(case)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Offline, and on one thread: the runs here are too small to share."""
    import torch

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# What a file says, without torch.

def test_loading_sizing_and_limiting_a_workload_imports_no_torch() -> None:
    script = """
import sys
from bench.registry import case_for, load_workload, workload_names
for name in workload_names():
    workload = load_workload(name)
    for task in workload.scenarios:
        for size in workload.sizes:
            case = case_for(name, workload, backend="cpu", dtype="fp32", task=task, size=size)
            workload.work(case), workload.limits(case)
    heavy = {"torch", "transformers", "diffusers", "peft", "numpy", "pandas"} & set(sys.modules)
    assert not heavy, f"{name} imports {sorted(heavy)}"
print("imported", len(workload_names()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"imported {len(NAMES)}", done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_workload_says_what_it_is_and_serves_scenarios_that_exist(name: str) -> None:
    workload = load_workload(name)
    assert (importlib.import_module(f"workloads.{name.replace('-', '_')}").__doc__ or "").strip()
    assert workload.summary.strip()
    assert workload.source.strip()
    assert "tiny" in workload.sizes
    assert workload.default_size in workload.sizes.keys() - {"tiny"}
    assert set(workload.scenarios) <= {"inference", "training"}
    assert {s for served in workload.scenarios.values() for s in served} <= set(scenario_names())
    assert all(workload.scenarios.values())
    assert set(workload.dtypes) <= set(DTYPES)


@pytest.mark.parametrize(("name", "task", "size"), SIZES)
def test_every_size_is_possible_and_its_work_grows_with_the_batch(name: str, task: str, size: str) -> None:
    workload, case = load_workload(name), a_case(name, task, size)
    assert workload.limits(case) is None
    work = workload.work(case)
    assert work.flops is None or work.flops > 0
    assert work.bytes is None or work.bytes > 0
    assert not work.parts or sum(work.parts.values()) == pytest.approx(work.flops)
    if case.batch_size > 1:
        once = workload.work(a_case(name, task, size, batch_size=1))
        assert work.items == case.batch_size * once.items
        assert work.flops == pytest.approx(case.batch_size * (once.flops or 0))


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_a_tiny_step_is_small_enough_for_any_cpu(name: str, task: str) -> None:
    workload = load_workload(name)
    case = case_for(name, workload, backend="cpu", dtype="fp32", task=task, size="tiny")
    work = workload.work(case)
    assert (work.flops or 0) < 2e9  # a tenth of a second at 20 GFLOP/s
    assert (work.bytes or 0) < 2e9


@pytest.mark.parametrize(("name", "task", "fields", "reason"), [
    ("bert", "inference", {"seq_len": 513}, "512 position embeddings"),
    ("bert", "training", {"dtype": "fp16"}, "underflows"),
    ("resnet50", "training", {"dtype": "fp16"}, "underflows"),
    ("vit", "training", {"dtype": "fp16"}, "underflows"),
    ("dlrm", "training", {"dtype": "fp16"}, "underflows"),
    ("whisper", "inference", {"options": {"decoder_tokens": 449}}, "1 to 448"),
    ("whisper", "inference", {"options": {"decoder_tokens": 0}}, "1 to 448"),
    ("gemm", "inference", {"batch_size": 2}, "--batch-size 1"),
    ("membw", "inference", {"batch_size": 2}, "--batch-size 1"),
    ("collectives", "inference", {"batch_size": 2}, "--batch-size 1"),
])
def test_an_impossible_case_is_refused_in_words(name: str, task: str, fields: dict[str, Any],
                                                reason: str) -> None:
    workload = load_workload(name)
    wanted: dict[str, Any] = {"task": task, "backend": "cpu", "dtype": "fp32"}
    case = case_for(name, workload, **(wanted | fields))
    assert reason in (workload.limits(case) or "")


# FLOPs.

def test_the_flops_of_layers_are_those_worked_out_by_hand() -> None:
    from workloads._common import attention_flops, linear_flops

    assert linear_flops(2, 3, 4) == 48  # 2 * 4 outputs of 3 multiply-adds
    # Projections 4 * 2*3*4*4 = 384; scores and their use 2 * 2*3*3*4 = 144.
    assert attention_flops(3, 3, 4) == 528
    # Queries, output 2 * 2*3*4*4 = 192; one new key, value 2 * 2*1*4*2 = 32; 2 * 2*3*5*4 = 240.
    assert attention_flops(3, 5, 4, kv_width=2, projected=1) == 464


@pytest.mark.parametrize(("name", "size", "fields", "flops"), [
    # A layer: 8*128*768^2 + 4*128^2*768 + 4*128*768*3072 = 1,862,270,976; twelve of them.
    ("bert", "base", {"batch_size": 1, "seq_len": 128}, 22_347_251_712),
    # A layer: 8*384*1024^2 + 4*384^2*1024 + 4*384*1024*4096 = 10,267,656,192; 24 of them.
    ("bert", "large", {"batch_size": 1, "seq_len": 384}, 246_423_748_608),
    # Patches 2*196*768*768, 12 layers of 24*197*768^2 + 4*197^2*768, head 2*768*1000.
    ("vit", "base", {"batch_size": 1}, 35_127_656_448),
    # Layers 170,496 + 2,194,688 multiply-adds, pairs 27*27*128, twice, 2,048 samples.
    ("dlrm", "criteo", {"batch_size": 2048}, 10_070_000_000),
    ("resnet50", "full", {"batch_size": 1}, 2 * 4.09e9),  # torchvision's ResNet50_Weights: 4.09 GMAC
    ("unet", "sd15", {"batch_size": 1}, 803.3e9),  # 401.6 GMAC
    ("whisper", "small", {"batch_size": 1}, 408.1e9),
    ("gemm", "4096", {}, 137_438_953_472),  # 2 * 4096^3
])
def test_the_flops_of_real_sizes_are_the_published_ones(name: str, size: str, fields: dict[str, Any],
                                                        flops: float) -> None:
    work = load_workload(name).work(a_case(name, "inference", size, **fields))
    assert work.flops == pytest.approx(flops, rel=2e-3)


def test_a_copy_counts_its_bytes_once_read_and_once_written() -> None:
    for dtype in load_workload("membw").dtypes:
        work = load_workload("membw").work(a_case("membw", "inference", "64MiB", dtype=dtype))
        assert (work.bytes, work.flops, work.items) == (2 * 64 * 1024**2, None, 1)


DEEP = {("gpt2", "xl"), ("llama", "70b"), ("llama_lora", "8b"), ("llama_lora", "70b")}
"""Sizes that take seconds to build even on meta; none is left out."""


@pytest.mark.parametrize(("name", "task", "size"), [
    pytest.param(*args, marks=[pytest.mark.slow] if (args[0], args[2]) in DEEP else []) for args in SIZES])
def test_flops_are_those_that_torch_counts(name: str, task: str, size: str) -> None:
    import torch

    workload, case = load_workload(name), a_case(name, task, size)
    work = workload.work(case)
    if work.flops is None:
        pytest.skip("this workload counts bytes, not FLOPs")
    with torch.device("meta"):
        program = build(case)
        counted = _training_flops(program) if task == "training" else _inference_flops(program)
    for part, flops in counted.items():
        promised = work.flops if part == "total" else work.parts[part]
        assert promised == pytest.approx(flops, rel=0.01), part


def _training_flops(program: Program) -> dict[str, float]:
    one_batch = _counted(lambda: program.model(*program.batches[0]).backward())
    return {"total": program.accumulate * one_batch}


def _inference_flops(program: Program) -> dict[str, float]:
    import torch

    with torch.no_grad():
        if program.prefill is None or program.decode is None:
            return {"total": _counted(lambda: program.model(*program.inputs))}
        prefill, decode = program.prefill, program.decode
        token_B1 = torch.zeros(len(program.inputs[0]), 1, dtype=torch.long)
        position_1 = torch.zeros(1, dtype=torch.long)
        parts = {"prefill": _counted(lambda: prefill(*program.inputs)),
                 "decode": (program.new_tokens - 1) * _counted(lambda: decode(token_B1, position_1))}
    return parts | {"total": sum(parts.values())}


def _counted(run: Callable[[], Any]) -> float:
    """FLOPs of `run` on meta tensors (on CPU torch counts no SDPA), grouped products included."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def grouped(a: Any, b: Any, *_: Any, **__: Any) -> int:
        return int(2 * a[0] * a[-1] * b[-1])  # [rows, inputs] by [experts, inputs, outputs]

    mapping = {torch.ops.aten._grouped_mm: grouped} if hasattr(torch.ops.aten, "_grouped_mm") else {}
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    with counter:
        run()
    return float(counter.get_total_flops())


# Builds.

def _tensors(program: Program) -> list[Any]:
    """All that a program is made of: parameters, buffers, inputs, batches."""
    return [*program.model.parameters(), *program.model.buffers(), *program.inputs,
            *(tensor for batch in program.batches for tensor in batch)]


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_a_seed_makes_equal_builds_and_another_seed_others(name: str, task: str) -> None:
    import torch

    torch.manual_seed(99)  # whatever the process did before
    first, again, other = (_tensors(build(a_case(name, task, seed=seed))) for seed in (0, 0, 1))
    assert len(first) == len(again) == len(other)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_a_build_is_float32_on_the_host_whatever_the_dtype(name: str, task: str) -> None:
    import torch

    for dtype in {"fp32", "bf16"} & set(load_workload(name).dtypes):
        tensors = _tensors(build(a_case(name, task, dtype=dtype)))
        assert {str(tensor.device) for tensor in tensors} == {"cpu"}
        assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float32}


# Steps.

OUTPUTS = {"bert": (2, 128, 64), "resnet50": (2, 10), "vit": (2, 10), "dlrm": (2,), "unet": (2, 4, 16, 16),
           "whisper": (2, 64, 512), "gemm": (256, 256), "membw": (4096,),
           "collectives": (4096,)}


@pytest.mark.parametrize("name", INFERENCE)
def test_a_tiny_inference_gives_finite_output_of_the_documented_shape(name: str) -> None:
    import torch

    program = build(a_case(name, "inference"))
    assert not (program.weights or program.model).training
    with torch.no_grad():
        if program.prefill is None or program.decode is None:
            output = program.model(*program.inputs)
            assert tuple(output.shape) == OUTPUTS[name]
            assert output.isfinite().all()
            return
        logits_BV, next_B1 = program.prefill(*program.inputs)
        for step in range(2):
            assert logits_BV.isfinite().all()
            assert tuple(next_B1.shape) == (2, 1)
            assert torch.equal(next_B1, logits_BV.argmax(-1, keepdim=True))
            position_1 = torch.tensor([program.inputs[0].shape[1] + step])
            logits_BV, next_B1 = program.decode(next_B1, position_1)


@pytest.mark.parametrize("name", INFERENCE)
def test_every_input_changes_the_output(name: str) -> None:
    """Or else a device could leave it out and still pass for right."""
    import torch

    program = build(a_case(name, "inference"))
    run = program.prefill or program.model

    def output(inputs: list[Any]) -> Any:
        with torch.no_grad():
            out = run(*inputs)
        return (out[0] if isinstance(out, tuple) else out).clone()  # of a copy: its target is reused

    before = output(list(program.inputs))
    for index, tensor in enumerate(program.inputs):
        inputs = list(program.inputs)
        inputs[index] = tensor.roll(1, 0)
        assert not torch.allclose(output(inputs), before, rtol=1e-3, atol=1e-4), f"input {index}"


@pytest.mark.parametrize("name", INFERENCE)
def test_inference_is_captured_as_one_graph(name: str) -> None:
    """Ahead-of-time compilers need it: a break is a second graph, and a wait between the two."""
    import torch

    program = build(a_case(name, "inference"))
    runs = [(program.prefill or program.model, list(program.inputs))]
    if program.decode is not None:
        runs.append((program.decode, [torch.zeros(2, 1, dtype=torch.long), torch.tensor([3])]))
    with torch.no_grad():
        for model, inputs in runs:
            torch._dynamo.reset()
            eager, captured = model(*inputs), torch.compile(model, backend="eager", fullgraph=True)(*inputs)
            for a, b in zip(_outputs(eager), _outputs(captured), strict=True):
                torch.testing.assert_close(b, a)


def _outputs(output: Any) -> tuple[Any, ...]:
    return output if isinstance(output, tuple) else (output,)


@pytest.mark.parametrize("name", TRAINING)
def test_training_lowers_the_loss_of_a_batch(name: str) -> None:
    import torch

    program = build(a_case(name, "training"))
    assert program.model.training
    assert program.optimizer is not None
    optimizer = program.optimizer([p for p in program.model.parameters() if p.requires_grad])
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = program.model(*program.batches[0])
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", TRAINING)
def test_training_goes_round_distinct_batches(name: str) -> None:
    import torch

    program = build(a_case(name, "training"))
    assert 2 <= len(program.batches) // program.accumulate <= 4
    assert len(program.batches) % program.accumulate == 0
    assert not torch.equal(program.batches[0][0], program.batches[1][0])


@pytest.mark.parametrize("name", TRAINING)
def test_losses_are_float32_in_bf16_too(name: str) -> None:
    import torch

    if "bf16" not in load_workload(name).dtypes:
        pytest.skip("this workload does not run in bf16")
    program = build(a_case(name, "training", dtype="bf16"))
    batch = [t.bfloat16() if t.is_floating_point() else t for t in program.batches[0]]
    loss = program.model.bfloat16()(*batch)
    assert loss.dtype == torch.float32
    assert loss.isfinite()


# What single workloads promise beside.

@pytest.mark.parametrize(("seq_len", "masked"), [(128, 19), (1, 1)])  # 0.15 * 128 = 19.2
def test_bert_masks_15_percent_of_every_sequence(seq_len: int, masked: int) -> None:
    from workloads.bert import MASK_TOKEN

    ids_BS, labels_BS = build(a_case("bert", "training", seq_len=seq_len)).batches[0]
    assert (labels_BS != -100).sum(1).tolist() == [masked, masked]
    assert (ids_BS[labels_BS != -100] == MASK_TOKEN).all()


def test_whisper_tokens_see_none_that_come_later() -> None:
    import torch

    program = build(a_case("whisper", "inference"))
    mel_BMT, tokens_BN = program.inputs
    later_BN = tokens_BN.clone()
    later_BN[:, -1] = (later_BN[:, -1] + 1) % 512
    with torch.no_grad():
        a, b = program.model(mel_BMT, tokens_BN), program.model(mel_BMT, later_BN)
    torch.testing.assert_close(a[:, :-1], b[:, :-1])
    assert not torch.allclose(a[:, -1], b[:, -1])


def test_every_table_of_dlrm_has_a_say() -> None:
    import torch

    program = build(a_case("dlrm", "inference"))
    dense_BD, indices_BT = program.inputs
    with torch.no_grad():
        before_B = program.model(dense_BD, indices_BT)
        for table in range(indices_BT.shape[1]):
            other_BT = indices_BT.clone()
            other_BT[:, table] = (other_BT[:, table] + 1) % 100
            assert not torch.allclose(program.model(dense_BD, other_BT), before_B), f"table {table}"


@pytest.mark.parametrize("sparse", [True, False])
def test_dlrm_learns_the_same_from_sparse_and_dense_gradients(sparse: bool) -> None:
    import torch

    program = build(a_case("dlrm", "training", options={"sparse_gradients": sparse}))
    program.model(*program.batches[0]).backward()
    gradient: Any = program.model.get_parameter("inner.tables.0.weight").grad
    assert gradient.is_sparse is sparse
    dense_RE = gradient.to_dense()
    reference = build(a_case("dlrm", "training", options={"sparse_gradients": not sparse}))
    reference.model(*reference.batches[0]).backward()
    other: Any = reference.model.get_parameter("inner.tables.0.weight").grad
    torch.testing.assert_close(dense_RE, other.to_dense())


def test_a_copy_fills_its_whole_target() -> None:
    import torch

    program = build(a_case("membw", "inference"))
    program.model(*program.inputs)
    assert torch.equal(program.model.get_buffer("target"), program.inputs[0])


# Shared parts.

def test_cross_entropy_is_float32_and_leaves_out_label_minus_100() -> None:
    import torch

    from workloads._common import cross_entropy

    logits_BSV = torch.tensor([[[0.0, 0.0], [50.0, 0.0]]], dtype=torch.bfloat16)
    loss = cross_entropy(logits_BSV, torch.tensor([[0, -100]]))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(0.693147)  # ln 2: two equal logits, the other left out


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_optimisers_move_bf16_weights_as_far_as_float32_ones(name: str) -> None:
    """torch 2.13's fused SGD leaves bf16 weights where they are on CPUs (pytorch issue 191763)."""
    import torch

    from workloads._common import optimizer

    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.nn.Parameter(torch.full((64,), 1.0, dtype=dtype))
        weight.grad = torch.ones_like(weight)
        optimizer(name, lr=0.25, weight_decay=0.0)([weight]).step()
        # One step from 1 by 0.25: SGD by lr times the gradient, AdamW by lr times its sign.
        torch.testing.assert_close(weight.detach().float(), torch.full((64,), 0.75))


def test_adamw_is_fused_where_torch_can() -> None:
    import torch

    from workloads._common import optimizer

    made = {device: optimizer("AdamW", lr=1e-4)([torch.nn.Parameter(torch.zeros(2, device=device))])
            for device in ("cpu", "meta")}
    assert made["cpu"].defaults["fused"] is True
    assert not made["meta"].defaults["fused"]


