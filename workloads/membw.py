"""A copy within the device's memory: the measured peak of its bandwidth.

`to.copy_(x)` from one buffer into another that is there already: a fresh one each time would time
the allocator and, on a CPU, page faults. A size is one buffer's in every dtype; bytes are counted
as STREAM does, once read and once written, though a CPU may read the target too before it writes.
By STREAM's rule a buffer should have four times the last-level cache or more: choose the size.

The output is a view of 4,096 elements spread evenly over the target, [4096], so that checking a
copy costs little. The target belongs to the model, so an eager device must write all of it; a lazy
or compiling one can still see that a copy changes nothing and hand out the source itself. A rate
above the data sheet's is such an elided copy and proves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads._common import WEIGHT_BYTES

if TYPE_CHECKING:
    from torch import nn

SIZES = {"tiny": {"bytes": 2**20}, "64MiB": {"bytes": 2**26}, "256MiB": {"bytes": 2**28},
         "1GiB": {"bytes": 2**30}}
SAMPLES = 4096


def build(case: Case) -> Program:
    import torch

    torch.manual_seed(case.seed)
    elements = SIZES[case.size]["bytes"] // WEIGHT_BYTES[case.dtype]
    return Program(model=_copy(elements), inputs=[torch.rand(elements)])


def _copy(elements: int) -> nn.Module:
    import torch

    class Copy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("target", torch.zeros(elements))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.target.copy_(x)
            return self.target[:: elements // SAMPLES]

    return Copy().eval()


def work(case: Case) -> Work:
    return Work(item="copy", items=1, bytes=2.0 * SIZES[case.size]["bytes"])


def limits(case: Case) -> str | None:
    return None if case.batch_size == 1 else "a step is one copy: pass --batch-size 1 and a --size"


WORKLOAD = Workload(
    summary="Copy between two buffers in device memory: the measured peak of its bandwidth.",
    source="McCalpin's STREAM, kernel Copy: https://www.cs.virginia.edu/stream/ref.html",
    sizes=SIZES,
    default_size="256MiB",
    scenarios={"inference": ("offline",)},
    build=build,
    work=work,
    dtypes=("fp32", "bf16", "fp16"),
    limits=limits,
)
