"""Prepared steps that several scenarios share. Torch is never imported here, only handled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.contracts import Device, Program, Work

if TYPE_CHECKING:
    from torch import Tensor

REFERENCE_LOSSES = 10
BRIEF_LOSSES = 2


class InferenceSteps:
    """One step is one call of the model on the same device-resident inputs."""

    def __init__(self, program: Program, device: Device, work: Work) -> None:
        model = device.place(program.model)
        inputs = [device.put(tensor) for tensor in program.inputs]
        self.step: Callable[[], Any] = functools.partial(device.prepare(model, inputs, work), *inputs)
        self.series: Mapping[str, list[float]] = {}
        self._device = device

    def evidence(self, reference: Sequence[Tensor] | None, *, full: bool) -> list[Tensor]:
        """The output of the first step."""
        output = self.step()
        self._device.wait()
        return self._device.read(output)


class TrainingSteps:
    """One step is `accumulate` batches forward and backward, and one update."""

    def __init__(self, program: Program, device: Device, work: Work) -> None:
        placed = dataclasses.replace(
            program, model=device.place(program.model),
            batches=[[device.put(tensor) for tensor in batch] for batch in program.batches])
        self.step: Callable[[], Any] = device.prepare_training(placed, work)
        self.series: Mapping[str, list[float]] = {}
        self._device = device

    def evidence(self, reference: Sequence[Tensor] | None, *, full: bool) -> list[Tensor]:
        """The first losses, one scalar each: ten of them, or two where not `full`."""
        losses = []
        for _ in range(REFERENCE_LOSSES if full else BRIEF_LOSSES):
            loss = self.step()
            self._device.wait()
            losses += self._device.read(loss)
        return losses
