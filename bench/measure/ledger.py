"""Where a child's seconds went: phases that add up to its wall time."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.record import PHASES


class Ledger:
    """Seconds by phase, from `started_ns` (the parent's clock reading as it spawned the child) on.

    Every moment belongs to one phase: `enter` closes the running one, so nothing falls between.
    """

    def __init__(self, started_ns: int, clock_ns: Callable[[], int] = time.monotonic_ns,
                 tell: Callable[[str], None] = lambda phase: None) -> None:
        self._clock_ns, self._tell = clock_ns, tell
        self._since_ns, self._phase = started_ns, "start"
        self.ns = dict.fromkeys(PHASES, 0)

    def enter(self, phase: str) -> None:
        """Close the running phase and open another."""
        now_ns = self._clock_ns()
        self.ns[self._phase] += now_ns - self._since_ns
        if phase != self._phase:
            self._tell(phase)
        self._since_ns, self._phase = now_ns, phase

    def move(self, seconds: float, *, to: str, out_of: str) -> None:
        """Book seconds again, once it is known what they were: say a round that compiled."""
        moved_ns = min(int(seconds * 1e9), self.ns[out_of])
        self.ns[out_of] -= moved_ns
        self.ns[to] += moved_ns

    def seconds(self) -> dict[str, float]:
        """Return the ledger up to now."""
        self.enter(self._phase)
        return {phase: ns / 1e9 for phase, ns in self.ns.items()}
