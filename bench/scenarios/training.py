"""Training: whole steps, the update included."""

from __future__ import annotations

from bench.contracts import Device, Program, Timed, Work
from bench.scenarios._steps import TrainingSteps


class Training:
    name = "training"
    summary = "Steps of forward, backward and update (with gradient accumulation where asked for)."
    tasks = ("training",)
    batch_size = None
    round_ns = 10_000_000
    together = True

    def prepare(self, program: Program, device: Device, work: Work) -> Timed:
        return TrainingSteps(program, device, work)


SCENARIO = Training()
