"""Where a child's seconds went: phases that add up to its wall time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from bench.record import PHASES


class Ledger:
    """Seconds by phase, from `started_ns` (the parent's clock reading as it spawned the child) on.

    Every moment belongs to one phase: `enter` closes the running one, so nothing falls between.
    """

    def __init__(self, started_ns: int, clock_ns: Callable[[], int] = time.monotonic_ns,
                 tell: Callable[[str], None] = lambda phase: None) -> None:
        self._clock_ns, self._tell = clock_ns, tell
        self._started_ns = self._since_ns = started_ns
        self._phase = "start"
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

    def adopt(self, seconds: Mapping[str, float], *, then: str) -> None:
        """Book what another process's ledger from the same `started_ns` says; the time since is phase `then`."""
        self.ns |= {phase: int(s * 1e9) for phase, s in seconds.items()}
        self._since_ns, self._phase = self._started_ns + sum(self.ns.values()), then

    def seconds(self) -> dict[str, float]:
        """Return the ledger up to now."""
        self.enter(self._phase)
        return {phase: ns / 1e9 for phase, ns in self.ns.items()}
