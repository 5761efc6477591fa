"""What neuron-monitor and the driver see of a timed part: how busy the cores were, and what went wrong. No torch.

Written against the documentation and source of SDK 2.33; not run on Neuron hardware by us.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from bench.errors import CaseFailed
from bench.machine.files import ROOT
from bench.machine.neuron import Monitor, error_counts, power_percent, rises

COUNTED = ("executions", "errors", "ecc_rises", "driver_errors")
FAULTS = ("uncorrected", "hw_error", "hardware", "num_err", "numerical")
"""Parts of the names of counters that void a measurement as they rise: the chip's faults, and wrong numbers.

Names: neuron-monitor's `execution_summary`, `error_summary` and `neuron_hw_counters`; sysfs `stats/hardware` and
`stats/status` (AWS Neuron documentation, guides of both, 2.32; the driver's neuron_sysfs_metrics.c).
"""

POWER_PERIOD_S = 60
"""The driver renews its figure of power, which is of the time since the last one, once a minute (sysfs guide)."""


class Watch:
    """Between `start` and `stop`, or `end`; they may be called again, and `seen` is of the last time: {} for none."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._monitor: Monitor | None = None
        self._errors: dict[str, int] = {}
        self._started_unix_s = 0.0
        self.seen: dict[str, Any] = {}
        self.warnings: list[str] = []

    def start(self) -> None:
        self.stop()
        self._started_unix_s = time.time()
        self._errors = error_counts(self._root)
        self._monitor = Monitor(os.environ.get("NEURON_PROCESS_TAG"), root=self._root)
        self._monitor.start()

    def stop(self) -> None:
        if self._monitor is None:
            return
        self._monitor.stop()
        self.seen = self._monitor.summary()
        power = [_of_the_time(one, self._started_unix_s, time.time()) for one in power_percent(self._root)]
        self.seen |= {"driver_errors": rises(self._errors, error_counts(self._root)), "power_of_maximum": power}
        self.warnings = [*self.seen.pop("warnings"), *(f"Neuron driver: {name} rose by {count}" for name, count
                                                       in self.seen["driver_errors"].items())]
        self._monitor = None

    def end(self) -> None:
        """Stop; CaseFailed where the device was at fault meanwhile, in words that `errors` knows.

        The driver counts over all processes and chips of the machine, so that the fault may have been another's:
        whose it was, no counter says.
        """
        self.stop()
        counts = {name: count for kind in COUNTED for name, count in self.seen.get(kind, {}).items()}
        faults = [f"{name} rose by {count:g}" for name, count in counts.items()
                  if count and any(part in name for part in FAULTS)]
        if faults:
            raise CaseFailed("failed", f"in the timed part, {', '.join(faults)}")


def _of_the_time(power: dict[str, Any], started_unix_s: float, ended_unix_s: float) -> dict[str, Any]:
    """A row of `power_percent`, its figures None with the reason unless they are of the watched time alone."""
    at_unix_s = power["at_unix_s"]
    if at_unix_s is None or started_unix_s <= at_unix_s - POWER_PERIOD_S < at_unix_s <= ended_unix_s:
        return power
    return power | dict.fromkeys(("min_percent", "max_percent", "avg_percent")) | {
        "reason": "the driver's last figure is of a minute that was not wholly in the timed part"}
