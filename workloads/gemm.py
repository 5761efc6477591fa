"""A square matrix product, n x n x n: the largest rate over the sizes is the measured peak.

x_NN @ weight_NN^T -> [n, n] in the case's dtype. FLOPs: 2 * n^3. Both matrices are random, as many
a chip runs faster on zeros. The whole product is the output: of a part, a compiler may compute no more.
"""

from __future__ import annotations

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads._common import linear_flops

SIZES = {"tiny": {"n": 256}} | {str(n): {"n": n} for n in (1024, 2048, 4096, 8192)}


def build(case: Case) -> Program:
    import torch

    torch.manual_seed(case.seed)
    n = SIZES[case.size]["n"]
    return Program(model=torch.nn.Linear(n, n, bias=False).eval(), inputs=[torch.randn(n, n)])


def work(case: Case) -> Work:
    n = SIZES[case.size]["n"]
    return Work(item="matmul", items=1, flops=linear_flops(n, n, n))


def limits(case: Case) -> str | None:
    return None if case.batch_size == 1 else "a step is one matrix product: pass --batch-size 1 and a --size"


WORKLOAD = Workload(
    summary="Square matrix product: the measured peak of a dtype. Sweep it with --size 1024,2048,4096,8192.",
    source="the definition of a matrix product",
    sizes=SIZES,
    default_size="4096",
    scenarios={"inference": ("offline",)},
    build=build,
    work=work,
    dtypes=("fp32", "tf32", "bf16", "fp16", "fp8"),
    limits=limits,
)
