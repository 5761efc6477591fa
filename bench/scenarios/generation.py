"""Generation: prefill, then one token after the other, each waited for as a reader would."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.contracts import Device, Program, Timed, Work

if TYPE_CHECKING:
    from torch import Tensor

EVIDENCE_TOKENS = 4


class GenerationSteps:
    """One step is one whole generation of the batch: `new_tokens` tokens a sequence.

    Leaves two series in ns: `ttft` (the prefill, up to the first token) and `itl` (each gap between
    tokens after it). TPOT follows from these and the step's own time.
    """

    def __init__(self, program: Program, device: Device, work: Work) -> None:
        import torch

        assert program.prefill is not None
        assert program.decode is not None
        device.place(program.model)
        inputs = [device.put(tensor) for tensor in program.inputs]
        prompt = inputs[0].shape[1]
        steps = program.new_tokens - 1
        self._positions = [device.put(torch.tensor([prompt + i])) for i in range(steps)]
        first = device.put(torch.zeros(inputs[0].shape[0], 1, dtype=torch.long))
        self._prefill = device.prepare(program.prefill, inputs, part_of(work, "prefill", 1))
        self._decode = device.prepare(program.decode, [first, *self._positions[:1]],
                                      part_of(work, "decode", max(steps, 1)))
        self._inputs, self._device = inputs, device
        self._ttft: list[float] = []
        self._itl: list[float] = []
        self.series: Mapping[str, list[float]] = {"ttft": self._ttft, "itl": self._itl}
        self.step: Callable[[], Any] = self._generate

    def _generate(self) -> Any:
        clock_ns, wait, decode = self._device.clock_ns, self._device.wait, self._decode
        last_ns = clock_ns()
        _, token = self._prefill(*self._inputs)
        wait()
        now_ns = clock_ns()
        self._ttft.append(now_ns - last_ns)
        for position in self._positions:
            last_ns = now_ns
            _, token = decode(token, position)
            wait()
            now_ns = clock_ns()
            self._itl.append(now_ns - last_ns)
        return token

    def evidence(self, reference: Sequence[Tensor] | None, *, full: bool) -> list[Tensor]:
        """Logits of the prefill and of the first decoded tokens, fed with the reference's tokens.

        With random weights two tokens can be all but equally likely: a free-running generation
        would part ways at the first rounding and prove nothing.
        """
        logits, token = self._prefill(*self._inputs)
        self._device.wait()
        found = self._device.read(logits)
        for i, position in enumerate(self._positions[:EVIDENCE_TOKENS]):
            if reference is not None:
                token = self._device.put(reference[i].argmax(-1, keepdim=True))
            logits, token = self._decode(token, position)
            self._device.wait()
            found += self._device.read(logits)
        return found


def part_of(work: Work, part: str, steps: int) -> Work:
    """The work of one call of a part (`prefill`, `decode`) that is called `steps` times."""
    flops = work.parts.get(part)
    return dataclasses.replace(work, flops=None if flops is None else flops / steps, bytes=None, parts={})


class Generation:
    name = "generation"
    summary = "Prefill and decode apart: TTFT, TPOT, ITL and output tokens per second."
    tasks = ("inference",)
    batch_size = None
    round_ns = 0
    together = False

    def prepare(self, program: Program, device: Device, work: Work) -> Timed:
        return GenerationSteps(program, device, work)


SCENARIO = Generation()
