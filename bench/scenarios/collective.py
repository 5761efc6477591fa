"""Collective: tensors exchanged by all ranks of a parallel case, so that the links between devices count."""

from __future__ import annotations

from bench.contracts import Device, Program, Timed, Work
from bench.scenarios._steps import InferenceSteps


class Collective:
    name = "collective"
    summary = "Operations that all devices take part in: bus bandwidth of the links between them."
    tasks = ("inference",)
    batch_size = None
    round_ns = 10_000_000
    together = True

    def prepare(self, program: Program, device: Device, work: Work) -> Timed:
        return InferenceSteps(program, device, work)


SCENARIO = Collective()
