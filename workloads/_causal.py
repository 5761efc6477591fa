"""What decoder-only language models share: prefill and decode on a static KV cache, pre-training, arithmetic.

Dimension letters: B sequences, T tokens of a prompt, L = T + new tokens (the cache's length), H query
heads, G key and value heads, D one head's width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.case import Case
from bench.contracts import Program, Work
from workloads._common import (
    DISTINCT_BATCHES,
    WEIGHT_BYTES,
    attention_flops,
    cross_entropy,
    linear_flops,
    optimizer,
    wrap,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

ATTENTION = "trnbench_causal"
"""The name under which `attend` is registered with transformers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the FLOPs and bytes of a decoder-only transformer depend on."""

    layers: int
    hidden: int
    kv_width: int  # key and value heads x one head's width
    feed_forward: int  # weights of one layer's feed-forward part that each token meets
    vocab: int

    @property
    def weights(self) -> int:
        """Weights of the matrix products that each token meets, output head included."""
        attention = 2 * self.hidden**2 + 2 * self.hidden * self.kv_width
        return self.layers * (attention + self.feed_forward) + self.hidden * self.vocab

    def forward_flops(self, tokens: int, *, keys: int, logits: int) -> float:
        """FLOPs of `tokens` of one sequence against `keys`, `logits` of them through the output head."""
        attention = attention_flops(tokens, keys, self.hidden, kv_width=self.kv_width, projected=tokens)
        layer = attention + linear_flops(tokens, 1, self.feed_forward)
        return self.layers * layer + linear_flops(logits, self.hidden, self.vocab)


def generation_work(case: Case, shape: Shape) -> Work:
    """One whole generation of a batch: a prefill, then new_tokens - 1 decode steps.

    A decode step attends over the whole static cache, masked, so that each costs the same. Bytes
    are a lower bound: the matrix weights once for the prefill and once a decode step (embedding
    tables that are only looked into, norms and activations left out), and in each decode step all
    keys and values of the static cache, 2 x B x layers x L x kv_width elements.
    """
    batch, prompt, new = case.batch_size, _seq_len(case), _option(case, "new_tokens")
    length, steps = prompt + new, new - 1
    prefill = batch * shape.forward_flops(prompt, keys=prompt, logits=1)
    decode = steps * batch * shape.forward_flops(1, keys=length, logits=1)
    cache = 2 * batch * shape.layers * length * shape.kv_width
    elements = (1 + steps) * shape.weights + steps * cache
    return Work(item="token", items=batch * new, flops=prefill + decode,
                bytes=float(elements * WEIGHT_BYTES[case.dtype]),
                parts={"prefill": prefill, "decode": decode})


def training_work(case: Case, shape: Shape) -> Work:
    """One optimiser step: `accumulate` micro-batches of batch_size sequences.

    The backward pass costs twice the forward pass. Activation checkpointing's second forward pass
    is no part of it: MFU counts what the model needs (PaLM, arXiv:2204.02311, appendix B).
    """
    sequences, tokens = case.batch_size * _option(case, "accumulate"), _seq_len(case)
    flops = 3 * sequences * shape.forward_flops(tokens, keys=tokens, logits=tokens)
    return Work(item="token", items=sequences * tokens, flops=flops)


def limits(case: Case, *, positions: int) -> str | None:
    """Why a case is impossible: options below 1, or more positions than the model knows."""
    for name in ("new_tokens", "accumulate", "lora_rank"):
        if name in case.options and _option(case, name) < 1:
            return f"option {name} must be at least 1, got {case.options[name]}"
    if (needed := _positions(case)) > positions:
        return f"{needed} positions are needed, but {case.workload}:{case.size} has {positions}"
    if case.dtype == "fp16" and case.task == "training":
        return "pure float16 training underflows without a loss scale: use bf16, amp-bf16 or amp-fp16"
    return None


def generation(case: Case, model: nn.Module, attentions: Sequence[nn.Module],
               decode_hidden: Callable[..., Tensor] | None = None) -> Program:
    """Return the program that generates greedily with a causal LM from `build_model`.

    `attentions` are its attention modules, each of which gets its part of the static KV cache as
    buffers, [B, G, L, D] each, so that they follow the model to its device and dtype.
    `decode_hidden(model, token_B1, position_1, bias_111L)` returns a decode step's last hidden
    state, [B, C]: the model's own forward pass by default, or the same with less Python.
    """
    import torch
    from torch import nn

    model.eval()
    config: Any = model.config
    prompt, new = _seq_len(case), _option(case, "new_tokens")
    length = prompt + new
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    for module in attentions:
        for name in ("cached_keys", "cached_values"):
            cache = torch.zeros(case.batch_size, heads, length, module.head_dim)
            module.register_buffer(name, cache, persistent=False)
    ids_BT = torch.randint(config.vocab_size, (case.batch_size, prompt))
    prefill, decode = _steps(model, length, decode_hidden or _decode_hidden)
    return Program(model=nn.ModuleList([prefill, decode]), inputs=(ids_BT,), prefill=prefill, decode=decode,
                   new_tokens=new, weights=model)


def training(case: Case, model: nn.Module, *, weights: nn.Module | None = None, **adamw: Any) -> Program:
    """Return the program that trains a causal LM of transformers on random tokens by AdamW.

    Each batch is (input_BT, target_BT), the targets one token ahead, so that all T count.
    """
    import torch

    model.train()
    accumulate = _option(case, "accumulate")
    count, config = DISTINCT_BATCHES * accumulate, model.config
    ids = torch.randint(config.vocab_size, (count, case.batch_size, _seq_len(case) + 1))
    batches = [(ids_BU[:, :-1].contiguous(), ids_BU[:, 1:].contiguous()) for ids_BU in ids]
    return Program(model=wrap(model, _loss), batches=batches, optimizer=optimizer("AdamW", **adamw),
                   accumulate=accumulate, weights=weights or model)


def build_model(kind: str, config: Any) -> nn.Module:
    """Return transformers' causal LM of class `kind` with random weights and `attend` as attention."""
    import transformers

    transformers.AttentionInterface.register(ATTENTION, attend)
    config._attn_implementation = ATTENTION
    made: nn.Module = getattr(transformers, kind)(config)
    return made


def keep_rotary_table(model: nn.Module, case: Case) -> None:
    """Replace a Llama-like model's rotary embedding by a table of its values for the case's positions.

    Computed in float32 and cast with the model; computed anew in bf16 from cast frequencies, as
    `model.to(bfloat16)` would have it, angles are wrong by radians from a thousand positions on.
    """
    import torch
    from torch import nn

    class RotaryTable(nn.Module):
        def __init__(self, cos_LD: Tensor, sin_LD: Tensor) -> None:
            super().__init__()
            self.register_buffer("cos_LD", cos_LD, persistent=False)
            self.register_buffer("sin_LD", sin_LD, persistent=False)

        def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
            return self.cos_LD[position_ids], self.sin_LD[position_ids]

    base: Any = model.base_model
    cos_1LD, sin_1LD = base.rotary_emb(torch.zeros(1), torch.arange(_positions(case))[None])
    base.rotary_emb = RotaryTable(cos_1LD[0], sin_1LD[0])


def attend(module: nn.Module, query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor,
           bias_111L: Tensor | None, *, scaling: float, write_position: Tensor | None = None,
           **_: Any) -> tuple[Tensor, None]:
    """Causal attention by torch's SDPA, and the module's static cache where it has one.

    transformers calls it in every layer, with what the model was called with. With
    `write_position` (decode, T = 1) the new key and value go into the cache and the query meets
    all of it, `bias_111L` shutting out what is not written yet. Without (prefill, training) every
    token meets those before it. Heads that share keys are laid side by side as if they were
    queries, so that keys are read once and never repeated. Returns [B, T, H, D].
    """
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    batch, heads, tokens, width = query_BHTD.shape
    groups = key_BGTD.shape[1]
    if write_position is None:
        if hasattr(module, "cached_keys"):
            module.cached_keys[:, :, :tokens].copy_(key_BGTD)
            module.cached_values[:, :, :tokens].copy_(value_BGTD)
        out_BHTD = sdpa(query_BHTD, key_BGTD, value_BGTD, is_causal=True, scale=scaling,
                        enable_gqa=groups < heads)
        return out_BHTD.transpose(1, 2), None
    keys, values = module.cached_keys, module.cached_values
    keys.index_copy_(2, write_position, key_BGTD.to(keys.dtype))
    values.index_copy_(2, write_position, value_BGTD.to(values.dtype))
    query_BGRD = query_BHTD.reshape(batch, groups, heads // groups, width)
    if query_BGRD.is_cpu and query_BGRD.element_size() < 4:
        # One query a head: torch 2.13's 16-bit CPU kernel takes up to 4 times as long as two products
        # (2.8 ms against 0.7 ms at GPT-2 small, batch 8, 192 keys, one thread of an AMD EPYC).
        weights_BGRL = ((query_BGRD * scaling) @ keys.transpose(2, 3) + bias_111L).softmax(-1)
        out_BGRD = weights_BGRL @ values
    else:
        out_BGRD = sdpa(query_BGRD, keys, values, attn_mask=bias_111L, scale=scaling)
    return out_BGRD.reshape(batch, 1, heads, width), None


def _decode_hidden(model: Any, token_B1: Tensor, position_1: Tensor, bias_111L: Tensor) -> Tensor:
    hidden_B1C: Tensor = model.base_model(input_ids=token_B1, position_ids=position_1[None],
                                          attention_mask=bias_111L, write_position=position_1,
                                          use_cache=False)[0]
    return hidden_B1C[:, 0]


def _steps(model: Any, length: int, decode_hidden: Callable[..., Tensor]) -> tuple[nn.Module, nn.Module]:
    """Return the prefill and the decode module of a model whose cache holds `length` positions."""
    import torch
    from torch import nn

    def choose(hidden_BC: Tensor) -> tuple[Tensor, Tensor]:
        logits_BV = model.lm_head(hidden_BC)
        return logits_BV, logits_BV.max(-1, keepdim=True).indices  # argmax: 7 times slower in bf16 on CPU

    class Prefill(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
            return choose(self.model.base_model(input_ids=ids_BT, use_cache=False)[0][:, -1])

    class Decode(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.register_buffer("position_L", torch.arange(length), persistent=False)
            self.register_buffer("open_L", torch.zeros(length), persistent=False)

        def forward(self, token_B1: Tensor, position_1: Tensor) -> tuple[Tensor, Tensor]:
            lowest = torch.finfo(self.open_L.dtype).min  # finite: some devices make NaN of infinities
            bias_L = self.open_L.masked_fill(self.position_L > position_1, lowest)
            return choose(decode_hidden(self.model, token_B1, position_1, bias_L[None, None, None]))

    return Prefill(), Decode()


def _loss(model: nn.Module, input_BT: Tensor, target_BT: Tensor) -> Tensor:
    return cross_entropy(model(input_ids=input_BT, use_cache=False).logits, target_BT)


def _seq_len(case: Case) -> int:
    assert case.seq_len is not None
    return case.seq_len


def _positions(case: Case) -> int:
    """Positions that a case needs: its sequence, and what it writes after."""
    return _seq_len(case) + (_option(case, "new_tokens") if case.scenario == "generation" else 0)


def _option(case: Case, name: str) -> int:
    return int(case.options[name])  # type: ignore[arg-type]
