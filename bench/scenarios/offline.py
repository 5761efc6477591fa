"""Offline: all the work is there, so that only throughput counts."""

from __future__ import annotations

from bench.contracts import Device, Program, Timed, Work
from bench.scenarios._steps import InferenceSteps


class Offline:
    name = "offline"
    summary = "Throughput at a batch size: batches back to back, one wait a round of about 10 ms."
    tasks = ("inference",)
    batch_size = None
    round_ns = 10_000_000
    together = False

    def prepare(self, program: Program, device: Device, work: Work) -> Timed:
        return InferenceSteps(program, device, work)


SCENARIO = Offline()
