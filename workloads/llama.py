"""The Llama architecture: text generation and pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads import _causal

if TYPE_CHECKING:
    from torch import nn

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "feed_forward": 128, "vocab": 512,
             "positions": 512, "tied": False, "rope": {"rope_type": "default", "rope_theta": 1e4}},
    # meta-llama/Llama-3.2-1B, config.json
    "1b": {"layers": 16, "hidden": 2048, "heads": 32, "kv_heads": 8, "feed_forward": 8192, "vocab": 128256,
           "positions": 131072, "tied": True,
           "rope": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}},
    # meta-llama/Meta-Llama-3-8B and -70B, config.json
    "8b": {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "feed_forward": 14336, "vocab": 128256,
           "positions": 8192, "tied": False, "rope": {"rope_type": "default", "rope_theta": 5e5}},
    "70b": {"layers": 80, "hidden": 8192, "heads": 64, "kv_heads": 8, "feed_forward": 28672, "vocab": 128256,
            "positions": 8192, "tied": False, "rope": {"rope_type": "default", "rope_theta": 5e5}},
}


def build(case: Case) -> Program:
    """Return generation, or pre-training by AdamW (settings of Llama, arXiv:2302.13971, section 2.3)."""
    import torch

    torch.manual_seed(case.seed)
    model: Any = build_model(case)
    if case.task == "training":
        if case.options["checkpointing"]:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return _causal.training(case, model, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
    return _causal.generation(case, model, [layer.self_attn for layer in model.model.layers])


def build_model(case: Case) -> nn.Module:
    """Return the Llama of `case.size` with rotary positions for as many tokens as the case needs."""
    from transformers import LlamaConfig

    size = SIZES[case.size]
    model = _causal.build_model("LlamaForCausalLM", LlamaConfig(
        num_hidden_layers=size["layers"], hidden_size=size["hidden"], num_attention_heads=size["heads"],
        num_key_value_heads=size["kv_heads"], intermediate_size=size["feed_forward"],
        vocab_size=size["vocab"], max_position_embeddings=size["positions"], rms_norm_eps=1e-5,
        rope_parameters=size["rope"], tie_word_embeddings=size["tied"], bos_token_id=None,
        eos_token_id=None))
    _causal.keep_rotary_table(model, case)
    return model


def shape(size: Mapping[str, Any]) -> _causal.Shape:
    """A feed-forward part is three products: gate and up [C, F], down [F, C]."""
    return _causal.Shape(layers=size["layers"], hidden=size["hidden"],
                         kv_width=size["hidden"] // size["heads"] * size["kv_heads"],
                         feed_forward=3 * size["hidden"] * size["feed_forward"], vocab=size["vocab"])


def work(case: Case) -> Work:
    count = _causal.training_work if case.task == "training" else _causal.generation_work
    return count(case, shape(SIZES[case.size]))


def limits(case: Case) -> str | None:
    return _causal.limits(case, positions=SIZES[case.size]["positions"])


WORKLOAD = Workload(
    summary="Llama-architecture text generation and causal-LM pre-training",
    source="Llama 3, arXiv:2407.21783; sizes from the published configurations of meta-llama; "
           "FLOPs are those of the matrix products, as torch.utils.flop_counter counts them",
    sizes=SIZES,
    default_size="1b",
    scenarios={"inference": ("generation",), "training": ("training",)},
    build=build,
    work=work,
    seq_len=128,
    options={"new_tokens": 64, "accumulate": 1, "checkpointing": False},
    limits=limits,
)
