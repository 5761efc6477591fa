"""Devices that do as they are told, for tests of those who must not trust them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from bench.contracts import Work
from tests.conftest import FakeClock


class ScriptedDevice:
    """A device on a fake clock: `call_ns(work)` is how long a call takes once it is waited for.

    `waited`: the share of that time that `wait` really waits for; a read waits for the rest.
    `first_read_ns`: what the first read of each prepared call takes more, as one that compiles.
    """

    def __init__(self, clock: FakeClock, call_ns: Callable[[Work], float], *, waited: float = 1.0,
                 first_read_ns: float = 0.0, ceiling: float | None = None) -> None:
        self.clock_ns = clock
        self._clock, self._call_ns, self._waited = clock, call_ns, waited
        self._first_read_ns, self._ceiling = first_read_ns, ceiling
        self._pending_ns = self._compile_ns = 0.0
        self.calls = 0

    def place(self, model: nn.Module) -> nn.Module:
        return model

    def put(self, tensor: Tensor) -> Tensor:
        return tensor

    def prepare(self, module: nn.Module, example: Sequence[Tensor], work: Work, *,
                plain: bool = False) -> Callable[..., Any]:
        self._compile_ns = self._first_read_ns

        def call(left: Tensor) -> Tensor:
            self.calls += 1
            self._pending_ns += self._call_ns(work)
            return left

        return call

    def wait(self) -> None:
        self._clock.advance(self._pending_ns * self._waited)
        self._pending_ns *= 1 - self._waited

    def read(self, output: Any) -> list[Tensor]:
        self._clock.advance(self._pending_ns + self._compile_ns + 10_000)
        self._pending_ns = self._compile_ns = 0.0
        return [output]

    def ceiling_flops_per_second(self) -> tuple[float | None, str]:
        return self._ceiling, "the script"
