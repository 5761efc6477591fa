"""LoRA fine-tuning of the Llama architecture: frozen weights, adapters on the attention's projections."""

from __future__ import annotations

import copy
from typing import Any

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads import _causal, llama
from workloads._common import linear_flops

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


def build(case: Case) -> Program:
    """Return LoRA training by peft: scale alpha / rank = 2, AdamW at 2e-4 without weight decay.

    A user's checkpoint is loaded by the plain Llama's names: `weights` is a second module tree
    over the same parameters, made before peft wraps the layers.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(case.seed)
    model: Any = llama.build_model(case)
    plain = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    rank = int(case.options["lora_rank"])  # type: ignore[arg-type]
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=list(TARGETS))
    return _causal.training(case, get_peft_model(model, lora), weights=plain, lr=2e-4, weight_decay=0.0)


def work(case: Case) -> Work:
    """FLOPs of a step, by this rule (a product of n weights costs 2n a token in each of its passes).

    Forward: every weight, every adapter, the attention's own products. Backward: the attention's
    products twice; each frozen weight once (its input's gradient), each adapter twice (its input's
    and its own). Nothing before the first layer is trained, so there the query, key and value
    projections and their A matrices pass no gradient on.
    """
    size = llama.SIZES[case.size]
    shape = llama.shape(size)
    rank, hidden, kv = int(case.options["lora_rank"]), shape.hidden, shape.kv_width  # type: ignore[arg-type]
    tokens = case.seq_len or 0
    sequences = case.batch_size * int(case.options["accumulate"])  # type: ignore[arg-type]
    adapters = shape.layers * rank * (2 * 2 * hidden + 2 * (hidden + kv))  # q and o, k and v; A and B
    scores = shape.layers * 2 * linear_flops(tokens, hidden, tokens)
    stops = hidden * (hidden + 2 * kv) + 3 * rank * hidden
    per_token = 2 * shape.weights + 3 * adapters - stops
    flops = sequences * (2.0 * tokens * per_token + 3 * scores)
    return Work(item="token", items=sequences * tokens, flops=flops)


WORKLOAD = Workload(
    summary="LoRA fine-tuning of the Llama architecture with peft",
    source="LoRA, arXiv:2106.09685; Llama 3, arXiv:2407.21783; FLOPs by the rule in `work`, held "
           "against torch.utils.flop_counter",
    sizes=llama.SIZES,
    default_size="1b",
    scenarios={"training": ("training",)},
    build=build,
    work=work,
    seq_len=128,
    options={"lora_rank": 16, "accumulate": 1},
    limits=llama.limits,
)
