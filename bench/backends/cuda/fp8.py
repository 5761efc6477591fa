"""Linear layers in fp8 (e4m3) for inference: all else stays in bf16.

Weights are rounded once, inputs at every call, each with one float32 scale a tensor that takes its
largest magnitude to e4m3's, 448. torch._scaled_mm multiplies and adds up with Hopper's fast accumulation,
which is what published fp8 peaks count; the result is bf16.
Sources: Micikevicius et al. 2022, arXiv:2209.05433; torch 2.13, torch/_meta_registrations.py,
_check_scaled_mm_sizes (2-D, row-major times column-major, multiples of 16).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max
MULTIPLE = 16
LEAST_SCALE = 1e-12
"""Of a tensor of zeros."""


class Fp8Linear(nn.Module):
    """An `nn.Linear` whose weight_NK is e4m3: inputs [..., K] in bf16 -> [..., N] in bf16."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight_NK, scale = rounded(linear.weight.detach())
        self.register_buffer("weight_NK", weight_NK)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        out_MN = self.product(*rounded(inputs.reshape(-1, inputs.shape[-1]).contiguous()), inputs.dtype)
        return out_MN.reshape(*inputs.shape[:-1], out_MN.shape[-1])

    def product(self, rows_MK: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """The layer of rows that are rounded already: [M, N] in `dtype`."""
        return torch._scaled_mm(rows_MK, self.weight_NK.t(), scale_a=scale, scale_b=self.scale, bias=self.bias,
                                out_dtype=dtype, use_fast_accum=True)


class Fp8Product(nn.Module):
    """A layer with one input, rounded here: each call is the product alone, as published peaks are of products.

    To round 16384^2 numbers in eager mode reads and writes them three times, some 15 % of the product's time.
    """

    def __init__(self, layer: Fp8Linear, inputs_MK: Tensor) -> None:
        super().__init__()
        self._layer, self._rounded = layer, rounded(inputs_MK)

    def forward(self, inputs_MK: Tensor) -> Tensor:
        return self._layer.product(*self._rounded, inputs_MK.dtype)


def rounded(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return a tensor in e4m3 and the float32 scale that it is to be multiplied by again."""
    scale = (tensor.abs().amax().float() / LARGEST).clamp(min=LEAST_SCALE)
    return (tensor / scale).to(E4M3), scale  # a bf16 quotient, so that eager mode moves no float32


def converted(model: nn.Module) -> tuple[nn.Module, dict[str, int]]:
    """Return a model of bf16 with its linear layers in fp8, and {"fp8", "bf16"}: how many are in each.

    In place, but for a model that is one linear layer. Subclasses of nn.Linear are left alone, as their
    owners may use the weight directly, and so are layers with a side that is no multiple of 16.
    """
    if type(model) is nn.Linear:
        return (Fp8Linear(model), {"fp8": 1, "bf16": 0}) if _fits(model) else (model, {"fp8": 0, "bf16": 1})
    for owner in list(model.modules()):
        for name, layer in list(owner.named_children()):
            if type(layer) is nn.Linear and _fits(layer):
                setattr(owner, name, Fp8Linear(layer))
    layers = list(model.modules())
    return model, {"fp8": sum(isinstance(layer, Fp8Linear) for layer in layers),
                   "bf16": sum(isinstance(layer, nn.Linear) for layer in layers)}


def _fits(linear: nn.Linear) -> bool:
    return linear.in_features % MULTIPLE == 0 and linear.out_features % MULTIPLE == 0
