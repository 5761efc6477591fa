"""Collective operations of torch.distributed between a case's ranks: bus bandwidth of their links.

`--option operation=all-reduce|all-gather|reduce-scatter|all-to-all`, a size for each run. With n ranks
and S bytes, S is what nccl-tests calls the size of each: an all-reduce's buffer, all that an
all-gather ends with, that a reduce-scatter starts from, that each rank gives into an all-to-all. It is
rounded down to whole elements for each rank.

Bus bandwidth is S / t times a factor, so that it can be held against the hardware's peak whatever n
is: all-reduce 2 (n-1) / n, the others (n-1) / n, in decimal GB/s (1e9 bytes). Source: NVIDIA,
nccl-tests, doc/PERFORMANCE.md: https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md

Rank r gives n equal chunks of (r + 1) x chunk_E, so that every rank ends with the same, which the
reference computes without anybody else: n x chunk_E (all-reduce), n (n+1) / 2 x chunk_E
(reduce-scatter), or (1, 2, ..., n) x chunk_E one after the other. The all-reduce takes the maximum, not
the sum: it works in place, where a sum of sums would grow without end, and moves as many bytes.
The output is a view of 4,096 elements at most, spread evenly, so that checking costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads._common import WEIGHT_BYTES

if TYPE_CHECKING:
    from torch import Tensor, nn

SIZES = {"tiny": {"bytes": 2**16}} | {f"{mib}MiB": {"bytes": mib * 2**20} for mib in (1, 16, 64, 256)} | {
    "1GiB": {"bytes": 2**30}}
OPERATIONS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
SAMPLES = 4096


def build(case: Case) -> Program:
    import torch
    from torch import distributed

    torch.manual_seed(case.seed)
    ranks, operation = case.ranks, str(case.options["operation"])
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    chunk_E = torch.rand(_chunk_elements(case)) + 0.5
    given = chunk_E if operation == "all-gather" else chunk_E.repeat(ranks)
    return Program(model=_model(operation, ranks, chunk_E.numel()), inputs=[given * (rank + 1)])


def _model(operation: str, ranks: int, elements: int) -> nn.Module:
    import torch
    from torch import distributed

    size = elements if operation == "reduce-scatter" else elements * ranks

    class Collective(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("received", torch.zeros(size))

        def forward(self, given: Tensor) -> Tensor:
            if not distributed.is_initialized():
                found = expected(operation, ranks, given[:elements])
            elif operation == "all-reduce":
                distributed.all_reduce(given, distributed.ReduceOp.MAX)
                found = given
            elif operation == "all-gather":
                distributed.all_gather_into_tensor(self.received, given)
                found = self.received
            elif operation == "reduce-scatter":
                distributed.reduce_scatter_tensor(self.received, given)
                found = self.received
            else:
                distributed.all_to_all_single(self.received, given)
                found = self.received
            return found[:: max(1, found.numel() // SAMPLES)]

    return Collective().eval()


def expected(operation: str, ranks: int, chunk_E: Tensor) -> Tensor:
    """What every rank must end with."""
    import torch

    if operation == "all-reduce":
        return (ranks * chunk_E).repeat(ranks)
    if operation == "reduce-scatter":
        return ranks * (ranks + 1) // 2 * chunk_E
    return torch.cat([(rank + 1) * chunk_E for rank in range(ranks)])


def work(case: Case) -> Work:
    size = _chunk_elements(case) * case.ranks * WEIGHT_BYTES[case.dtype]
    return Work(item="collective", items=1, bus_bytes=bus_bytes(str(case.options["operation"]), size, case.ranks))


def bus_bytes(operation: str, size: int, ranks: int) -> float:
    """Bytes that bus bandwidth counts of an operation on `size` bytes."""
    factor = {"all-reduce": 2.0, "all-gather": 1.0, "reduce-scatter": 1.0, "all-to-all": 1.0}[operation]
    return size * factor * (ranks - 1) / ranks


def _chunk_elements(case: Case) -> int:
    return int(SIZES[case.size]["bytes"] // WEIGHT_BYTES[case.dtype] // case.ranks)


def limits(case: Case) -> str | None:
    if case.options["operation"] not in OPERATIONS:
        return f"operation {case.options['operation']!r} is not one of {', '.join(OPERATIONS)}"
    if case.batch_size != 1:
        return "a step is one exchange: pass --batch-size 1 and a --size"
    return None if case.ranks > 1 else "a collective operation needs two devices: pass --parallelism dp=2 or more"


WORKLOAD = Workload(
    summary="All-reduce, all-gather, reduce-scatter, all-to-all between devices: bus bandwidth. Needs two devices.",
    source="NVIDIA nccl-tests, doc/PERFORMANCE.md",
    sizes=SIZES,
    default_size="64MiB",
    scenarios={"inference": ("collective",)},
    build=build,
    work=work,
    parallelism="dp=2",
    dtypes=("fp32", "bf16", "fp16"),
    options={"operation": "all-reduce"},
    limits=limits,
)
