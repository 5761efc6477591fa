"""What several workloads share. Torch is imported inside functions only, as in every workload file.

FLOPs: a multiply-add counts as 2; matrix products, convolutions and attention only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bench.case import Case

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

DISTINCT_BATCHES = 4
"""Training batches that a program holds; steps go round them, so that data is never the bottleneck."""

WEIGHT_BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "amp-bf16": 4, "amp-fp16": 4, "fp8": 1}
"""Bytes of one stored weight by `Case.dtype`; autocast keeps its weights in float32."""


def linear_flops(rows: int, inputs: int, outputs: int) -> float:
    """FLOPs of [rows, inputs] @ [inputs, outputs]."""
    return 2.0 * rows * inputs * outputs


def attention_flops(queries: int, keys: int, width: int, *, kv_width: int | None = None,
                    projected: int | None = None) -> float:
    """Forward FLOPs of one sequence's attention with its four projections.

    Every query meets every key: a causal mask saves nothing in this count, which is also the
    convention of torch.utils.flop_counter. `kv_width` is narrower than `width` with grouped
    queries; `projected` counts the positions whose keys and values are made here, all by default
    (1 in a decode step, whose other `keys` are in the cache).
    """
    made = keys if projected is None else projected
    queries_and_output = 2 * linear_flops(queries, width, width)
    keys_and_values = 2 * linear_flops(made, width, kv_width or width)
    return queries_and_output + keys_and_values + 2 * linear_flops(queries, width, keys)


def wrap(inner: nn.Module, forward: Callable[..., Tensor]) -> nn.Module:
    """Return a module that computes `forward(inner, *inputs)`, a plain tensor, in `inner`'s mode."""
    from torch import nn

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *inputs: Tensor) -> Tensor:
            return forward(self.inner, *inputs)

    return Wrapped().train(inner.training)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of logits [..., classes] against labels [...]; label -100 is left out.

    In float32 whatever the model's dtype: a sum over 30,000 classes loses too much in bf16.
    """
    from torch.nn import functional

    return functional.cross_entropy(logits.float().flatten(0, -2), labels.flatten())


def optimizer(name: str, **settings: Any) -> Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]:
    """Return a maker of `torch.optim.<name>(parameters, **settings)` for `Program.optimizer`.

    AdamW is fused where torch has the kernel, as in a tuned training run. SGD never is: the fused
    one refuses sparse gradients, and on CPUs it loses updates of bf16 and fp16 weights (torch 2.12
    and 2.13, https://github.com/pytorch/pytorch/issues/191763).
    """
    def make(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        import torch

        parameters = list(parameters)
        devices = {parameter.device.type for parameter in parameters}
        fused = {"fused": True} if name == "AdamW" and devices <= {"cpu", "cuda"} else {}
        kind: Any = getattr(torch.optim, name)
        made: torch.optim.Optimizer = kind(parameters, **settings, **fused)
        return made

    return make


def half_training(case: Case) -> str | None:
    """For `limits`: why training cannot be in pure float16, or None."""
    if case.task == "training" and case.dtype == "fp16":
        return "pure float16 training underflows without a loss scale: use bf16, amp-bf16 or fp32"
    return None
