"""Energy of the CPU packages by RAPL counters, in joules. Whole packages: others' work included."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine.files import ROOT, read, read_int

METHOD = "RAPL package counters"

MOST_WATTS = 1000.0
"""No package draws more, so a counter can't have come round twice sooner than its range allows.

Data-centre CPUs of 2024-2026 are specified at up to 500 W a package; this is twice that.
"""

NONE_HERE = ("no RAPL package counters in /sys/class/powercap: a virtual machine, a CPU without them, "
             "or a kernel without the intel_rapl driver")
FORBIDDEN = ("RAPL counters may be read by root alone (Linux 5.10 and later, CVE-2020-8694); run as root, "
             "or `sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj`")


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """One look at every package: its counter in microjoules, and where that comes round to 0."""

    at_ns: int
    packages: Mapping[str, tuple[int, int]]  # "intel-rapl:0" -> (energy_uj, max_energy_range_uj)


def read_energy(root: Path = ROOT) -> EnergyReading | str:
    """Return the counters of all packages, or in words why they can't be had.

    Only `intel-rapl:N` named package-N: its parts (core, dram) would be counted twice, and
    intel-rapl-mmio is the same package by another way. AMD's counters have these names too.
    Source: Linux, power/powercap/powercap.rst.
    """
    packages = {}
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*")):
        if folder.name.count(":") != 1 or not (read(folder, "name") or "").startswith("package"):
            continue
        try:
            counter = int((folder / "energy_uj").read_text())
        except PermissionError:
            return FORBIDDEN
        except (OSError, ValueError) as error:
            return f"RAPL counter {folder.name} can't be read: {error}"
        span = read_int(folder, "max_energy_range_uj")
        if not span:
            return f"RAPL counter {folder.name} does not say where it comes round (max_energy_range_uj)"
        packages[folder.name] = (counter, span)
    if not packages:
        return NONE_HERE
    return EnergyReading(time.monotonic_ns(), packages)


def joules_between(start: EnergyReading | str, end: EnergyReading | str) -> dict[str, Any]:
    """Return {"joules", "method", "reason"} of all packages from `start` to `end`.

    A counter that ends below its start has come round once: end - start + max_energy_range_uj.
    After so long that it may have come round twice, `joules` is None.
    """
    if isinstance(start, str):
        return _unknown(start)
    if isinstance(end, str):
        return _unknown(end)
    if start.packages.keys() != end.packages.keys():
        return _unknown("the set of RAPL packages changed between the two readings")
    seconds = (end.at_ns - start.at_ns) / 1e9
    total_uj = 0
    for name, (before, span) in start.packages.items():
        longest_s = span / 1e6 / MOST_WATTS
        if seconds > longest_s:
            return _unknown(f"{name} may have come round more than once in {seconds:.0f} s: "
                            f"read it at least every {longest_s:.0f} s")
        after = end.packages[name][0]
        total_uj += after - before if after >= before else after - before + span
    return {"joules": total_uj / 1e6, "method": METHOD, "reason": None}


def _unknown(reason: str) -> dict[str, Any]:
    return {"joules": None, "method": METHOD, "reason": reason}
