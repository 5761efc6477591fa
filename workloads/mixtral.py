"""Mixtral-style mixture of experts: text generation. Each token meets 2 of 8 experts.

How the experts run, option `experts`, with the same result and the same FLOPs (of the experts that a
token is routed to, no more) and shapes that never change:
* `grouped_mm`: tokens sorted by expert, one grouped product. Reads an expert's weights once.
* `batched_mm`: gathers every token's own experts' weights, then batched products: plain operators, for
  devices that trace graphs and lack grouped products. It copies weights: 350 MB a token and layer
  in bf16 at 8x7b, so for few tokens at a time only.
"""

from __future__ import annotations

from typing import Any

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads import _causal

EXPERTS = ("grouped_mm", "batched_mm")

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "feed_forward": 128, "experts": 4,
             "vocab": 512, "positions": 512, "rope_theta": 1e4},
    # mistralai/Mixtral-8x7B-v0.1, config.json
    "8x7b": {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "feed_forward": 14336, "experts": 8,
             "vocab": 32000, "positions": 32768, "rope_theta": 1e6},
}
TOP_K = 2


def build(case: Case) -> Program:
    """Return generation. On the meta device the experts run as batched products.

    There the grouped product takes bf16 only and torch's FLOP counter does not know it.
    """
    import torch
    from transformers import MixtralConfig

    size = SIZES[case.size]
    torch.manual_seed(case.seed)
    on_meta = torch.empty(0).is_meta
    config = MixtralConfig(
        num_hidden_layers=size["layers"], hidden_size=size["hidden"], num_attention_heads=size["heads"],
        num_key_value_heads=size["kv_heads"], intermediate_size=size["feed_forward"],
        num_local_experts=size["experts"], num_experts_per_tok=TOP_K, vocab_size=size["vocab"],
        max_position_embeddings=size["positions"], rms_norm_eps=1e-5, sliding_window=None,
        rope_parameters={"rope_type": "default", "rope_theta": size["rope_theta"]},
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
        experts_implementation="batched_mm" if on_meta else case.options["experts"])
    model: Any = _causal.build_model("MixtralForCausalLM", config)
    _causal.keep_rotary_table(model, case)
    return _causal.generation(case, model, [layer.self_attn for layer in model.model.layers])


def work(case: Case) -> Work:
    """A feed-forward part is the router [C, E] and three products a chosen expert, [C, F] or [F, C].

    Bytes count the least: every token of a batch meeting the same two experts.
    """
    size = SIZES[case.size]
    expert = 3 * size["hidden"] * size["feed_forward"]
    return _causal.generation_work(case, _causal.Shape(
        layers=size["layers"], hidden=size["hidden"],
        kv_width=size["hidden"] // size["heads"] * size["kv_heads"],
        feed_forward=size["hidden"] * size["experts"] + TOP_K * expert, vocab=size["vocab"]))


def limits(case: Case) -> str | None:
    if case.options["experts"] not in EXPERTS:
        return f"option experts must be one of {', '.join(EXPERTS)}, got {case.options['experts']!r}"
    return _causal.limits(case, positions=SIZES[case.size]["positions"])


WORKLOAD = Workload(
    summary="Mixtral-style mixture-of-experts text generation",
    source="Jiang et al. 2024, arXiv:2401.04088; sizes from the published configuration of mistralai; "
           "FLOPs are those of the matrix products that run, two experts a token",
    sizes=SIZES,
    default_size="8x7b",
    scenarios={"inference": ("generation",)},
    build=build,
    work=work,
    seq_len=128,
    options={"new_tokens": 64, "experts": "grouped_mm"},
    limits=limits,
)
