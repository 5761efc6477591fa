"""Single stream: one query at a time, each waited for, so that latency counts."""

from __future__ import annotations

from bench.contracts import Device, Program, Timed, Work
from bench.scenarios._steps import InferenceSteps


class SingleStream:
    name = "single-stream"
    summary = "Latency of one query at a time: percentiles where there are enough samples."
    tasks = ("inference",)
    batch_size = 1
    round_ns = 0
    together = False

    def prepare(self, program: Program, device: Device, work: Work) -> Timed:
        return InferenceSteps(program, device, work)


SCENARIO = SingleStream()
