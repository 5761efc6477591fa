"""What neuron-monitor and the driver see of a timed part: how busy the cores were, and what went wrong. No torch.

Written against the documentation and source of SDK 2.33; not run on Neuron hardware by us.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.machine.files import ROOT
from bench.machine.neuron import Monitor, error_counts, power_percent, rises


class Watch:
    """Between `start` and `stop`; both may be called again, and `seen` is of the last time."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._monitor: Monitor | None = None
        self._errors: dict[str, int] = {}
        self.seen: dict[str, Any] = {}
        self.warnings: list[str] = []

    def start(self) -> None:
        self.stop()
        self._errors = error_counts(self._root)
        self._monitor = Monitor(os.environ.get("NEURON_PROCESS_TAG"), root=self._root)
        self._monitor.start()

    def stop(self) -> None:
        if self._monitor is None:
            return
        self._monitor.stop()
        self.seen = self._monitor.summary()
        self.seen |= {"driver_errors": rises(self._errors, error_counts(self._root)),
                      "power_of_maximum": power_percent(self._root)}
        self.warnings = [*self.seen.pop("warnings"), *(f"Neuron driver: {name} rose by {count}" for name, count
                                                       in self.seen["driver_errors"].items())]
        self._monitor = None
