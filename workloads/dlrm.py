"""DLRM: scoring ads for a click, and training it. Plain torch.

A bottom MLP over 13 dense features, 26 embedding tables with one index each, the dot products of
all pairs of the 27 vectors, a top MLP over the dense vector and those 351 numbers.

* inference: dense_BD [B, 13], indices_BT int64 [B, 26] -> logits [B].
* training: the same and clicks_B [B] of 0 and 1, SGD -> a scalar binary cross entropy, in float32.
  The tables' gradients are sparse, so that a step touches only the rows it read: with dense ones it
  would mostly sweep whole tables. `sparse_gradients=false` is for devices without sparse tensors.

Indices are uniform over the rows, which is hard on caches: real clicks are skewed. Sizes: `small` has
26 x 100,000 rows of 64 (0.67 GB in float32); `criteo` is MLPerf's with rows capped at 40 million:
187,767,399 rows of 128, 96 GB in float32 on the host that builds it.

FLOPs of a sample, forward: every layer 2 * inputs * outputs, and 2 * 27^2 * dimension for the pairs
(all are computed, the lower triangle is kept). Training is 3x that less once the first layer of the
bottom MLP, which passes no gradient to the features. Lookups are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads._common import DISTINCT_BATCHES, half_training, linear_flops, optimizer, wrap

if TYPE_CHECKING:
    from torch import Tensor, nn

DENSE_FEATURES, TABLES = 13, 26
PAIRS = (TABLES + 1) * TABLES // 2
CRITEO_ROWS = (39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546, 403346, 10, 2208,
               11938, 155, 4, 976, 14, 39979771, 25641295, 39664984, 585935, 12972, 108, 36)
SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"rows": (100,) * TABLES, "bottom": (32, 16), "top": (32, 1)},
    "small": {"rows": (100_000,) * TABLES, "bottom": (512, 256, 64), "top": (512, 512, 256, 1)},
    "criteo": {"rows": CRITEO_ROWS, "bottom": (512, 256, 128), "top": (1024, 1024, 512, 256, 1)},
}


def build(case: Case) -> Program:
    import torch

    torch.manual_seed(case.seed)
    training = case.task == "training"
    dlrm = _model(SIZES[case.size], sparse=bool(case.options["sparse_gradients"])).train(training)
    if not training:
        return Program(model=dlrm, inputs=_inputs(case), weights=dlrm)
    batches = [(*_inputs(case), torch.randint(2, (case.batch_size,)).float())
               for _ in range(DISTINCT_BATCHES)]
    return Program(model=_with_loss(dlrm), batches=batches, optimizer=optimizer("SGD", lr=0.01), weights=dlrm)


def _inputs(case: Case) -> tuple[Tensor, Tensor]:
    import torch

    rows = SIZES[case.size]["rows"]
    dense_BD = torch.randn(case.batch_size, DENSE_FEATURES)
    return dense_BD, torch.stack([torch.randint(n, (case.batch_size,)) for n in rows], dim=1)


def _model(size: Mapping[str, Any], *, sparse: bool) -> nn.Module:
    import torch
    from torch import nn

    dim = size["bottom"][-1]

    class Dlrm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bottom = _mlp((DENSE_FEATURES, *size["bottom"]), last_relu=True)
            self.top = _mlp((dim + PAIRS, *size["top"]), last_relu=False)
            self.tables = nn.ModuleList(_table(rows, dim, sparse=sparse) for rows in size["rows"])
            lower = torch.tril_indices(TABLES + 1, TABLES + 1, offset=-1)
            self.register_buffer("lower_P", lower[0] * (TABLES + 1) + lower[1])

        def forward(self, dense_BD: Tensor, indices_BT: Tensor) -> Tensor:
            bottom_BE = self.bottom(dense_BD)
            looked_up = [table(indices_BT[:, t]) for t, table in enumerate(self.tables)]
            vectors_BVE = torch.stack([bottom_BE, *looked_up], dim=1)
            dots_BVV = torch.bmm(vectors_BVE, vectors_BVE.transpose(1, 2))
            dots_BP = dots_BVV.flatten(1).index_select(1, self.lower_P)
            return self.top(torch.cat([bottom_BE, dots_BP], dim=1)).squeeze(1)

    return Dlrm()


def _table(rows: int, dim: int, *, sparse: bool) -> nn.Module:
    """An embedding table whose rows' dot products have variance 1, so that the answer depends on it."""
    import torch
    from torch import nn

    weight_RE = torch.randn(rows, dim).mul_(dim**-0.25)
    return nn.Embedding.from_pretrained(weight_RE, freeze=False, sparse=sparse)


def _mlp(widths: Sequence[int], *, last_relu: bool) -> nn.Module:
    """Linear layers with ReLU between them, weights by He et al. so that signals keep their size."""
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers if last_relu else layers[:-1])


def _with_loss(dlrm: nn.Module) -> nn.Module:
    from torch.nn import functional

    def loss(net: nn.Module, dense_BD: Tensor, indices_BT: Tensor, clicks_B: Tensor) -> Tensor:
        logits_B = net(dense_BD, indices_BT)
        return functional.binary_cross_entropy_with_logits(logits_B.float(), clicks_B.float())

    return wrap(dlrm, loss)


def work(case: Case) -> Work:
    size = SIZES[case.size]
    dim = size["bottom"][-1]
    first = linear_flops(1, DENSE_FEATURES, size["bottom"][0])
    layers = [*pairwise((DENSE_FEATURES, *size["bottom"])), *pairwise((dim + PAIRS, *size["top"]))]
    flops = sum(linear_flops(1, inputs, outputs) for inputs, outputs in layers)
    flops += linear_flops(TABLES + 1, dim, TABLES + 1)
    if case.task == "training":
        flops = 3 * flops - first
    return Work(item="sample", items=case.batch_size, flops=case.batch_size * flops)


def limits(case: Case) -> str | None:
    if case.parallelism.startswith("fsdp") and case.options["sparse_gradients"]:
        return "FSDP2 has no sparse gradients: pass --option sparse_gradients=false, or --shard none"
    return half_training(case)


WORKLOAD = Workload(
    summary="DLRM click prediction (13 dense features, 26 tables, dot interaction), and its training (SGD).",
    source="Naumov et al. 2019, arXiv:1906.00091; layers and rows of MLPerf Training v0.7-v2.1 (`criteo`), "
           "layers of the reference code's set-up for 10 million rows with 100,000 a table (`small`): "
           "https://github.com/facebookresearch/dlrm",
    sizes=SIZES,
    default_size="small",
    scenarios={"inference": ("offline", "single-stream"), "training": ("training",)},
    build=build,
    work=work,
    batch_size=2048,
    limits=limits,
    options={"sparse_gradients": True},
)
