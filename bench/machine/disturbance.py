"""What disturbed a measurement: steal, other processes, the watching parent, page faults.

The child takes a `snapshot` on either side of the timed part, and `between` says what lay between.
On a shared 2-vCPU machine steal took 0 to 75 % of the CPU time, others kept up to 1.3 CPUs busy, and
a parent that watched its child without sleeping made it 2.5 to 3.5 times slower (measured 2026-11).
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine.files import ROOT, read

LEAST_S = 0.5
"""/proc/stat counts in ticks of 10 ms, each sampled: below 50 of them 2 % is one tick's rounding."""

MOST_STEAL = 0.05
"""Of the CPU time wanted. A step is slowed about as much, and 3 % is a difference we mean to see."""

MOST_OTHERS_CPUS, MOST_OTHERS_SHARE = 0.2, 0.02
"""CPUs, or a share of the machine's where that is more: an idle system's daemons use below 0.1 CPU,
and on many CPUs the sampled ticks themselves are off by about 2 %."""

MOST_PARENT = 0.05
"""Of one CPU. A parent asleep between two looks uses below 1 %; one that spins uses all of it."""

MOST_FAULTS_PER_S = 10.0
"""A major fault waits for a disk, about 1 ms: ten a second are 1 % of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Counters at one moment. Seconds of CPU time are sums over CPUs; None where not to be had."""

    at_s: float  # of a monotonic clock
    busy_s: float | None  # all CPUs: user, nice, system, irq, softirq
    idle_s: float | None  # idle and iowait
    steal_s: float | None  # taken by the hypervisor while a CPU had work
    own_s: float  # this process, all threads, and its children that have ended
    parent_s: float | None
    involuntary_switches: int
    major_faults: int


def snapshot(parent_pid: int | None = None, root: Path = ROOT) -> Snapshot:
    """Return the counters now; `parent_pid` is the watcher's, by default the real parent's. About 80 us."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy_s, idle_s, steal_s = _all_cpus(root)
    return Snapshot(
        at_s=time.monotonic(), busy_s=busy_s, idle_s=idle_s, steal_s=steal_s,
        own_s=time.process_time() + ended.ru_utime + ended.ru_stime,
        parent_s=_process_s(root, os.getppid() if parent_pid is None else parent_pid),
        involuntary_switches=own.ru_nivcsw, major_faults=own.ru_majflt)


def between(a: Snapshot, b: Snapshot) -> dict[str, Any]:
    """Return what happened from `a` to `b`; what can't be told is None, and `reason` says why.

    `steal_fraction` is of all CPUs' time. `steal_of_wanted` is of the time that was wanted (busy or
    stolen, at least one CPU's: a child waiting for an accelerator wants little), so that it is what
    a thread loses even where most CPUs are idle. `others_cpus` is the mean number of CPUs kept busy
    by neither this process nor its parent; this process's children that still run count as others,
    and a kernel that bills stolen time to its processes hides some of it.
    `disturbed` is True where a threshold was passed, and `why` names each; None where it can't be told.
    """
    wall_s = b.at_s - a.at_s
    result: dict[str, Any] = {
        "wall_s": wall_s, "steal_fraction": None, "steal_of_wanted": None, "others_cpus": None,
        "parent_cpu_fraction": None, "involuntary_switches": b.involuntary_switches - a.involuntary_switches,
        "major_faults": b.major_faults - a.major_faults, "disturbed": None, "why": [], "reason": None}
    if wall_s < LEAST_S:
        return result | {"reason": f"{wall_s:.3f} s is too short for counters in ticks of 10 ms; "
                                   f"{LEAST_S} s is enough"}
    parent_s = _rise(a.parent_s, b.parent_s)
    if parent_s is not None:
        result["parent_cpu_fraction"] = parent_s / wall_s
    busy_s, idle_s, steal_s = (_rise(getattr(a, f), getattr(b, f)) for f in ("busy_s", "idle_s", "steal_s"))
    if busy_s is None or idle_s is None or steal_s is None or not busy_s + idle_s + steal_s:
        return result | {"reason": "no CPU times in /proc/stat: the system is not Linux, or hides them"}
    total_s = busy_s + idle_s + steal_s
    result["steal_fraction"] = steal_s / total_s
    result["steal_of_wanted"] = steal_s / max(busy_s + steal_s, wall_s)
    result["others_cpus"] = max(0.0, (busy_s - (b.own_s - a.own_s) - (parent_s or 0.0)) / wall_s)
    if parent_s is None:
        result["reason"] = "the parent's CPU time can't be read; if it used any, others_cpus has it"
    why = _why(result, cpus=total_s / wall_s)
    return result | {"disturbed": bool(why), "why": why}


def _why(seen: dict[str, Any], *, cpus: float) -> list[str]:
    """The thresholds that were passed, e.g. "steal 12 % > 5 %"."""
    most_others = max(MOST_OTHERS_CPUS, MOST_OTHERS_SHARE * cpus)
    faults_per_s = seen["major_faults"] / seen["wall_s"]
    why = []
    if seen["steal_of_wanted"] > MOST_STEAL:
        why.append(f"steal {seen['steal_of_wanted']:.0%} > {MOST_STEAL:.0%}".replace("%", " %"))
    if seen["others_cpus"] > most_others:
        why.append(f"others' CPUs {seen['others_cpus']:.2f} > {most_others:.2f}")
    if (seen["parent_cpu_fraction"] or 0.0) > MOST_PARENT:
        why.append(f"parent's CPU {seen['parent_cpu_fraction']:.0%} > {MOST_PARENT:.0%}".replace("%", " %"))
    if faults_per_s > MOST_FAULTS_PER_S:
        why.append(f"major faults {faults_per_s:.0f}/s > {MOST_FAULTS_PER_S:.0f}/s")
    return why


def _rise(before: float | None, after: float | None) -> float | None:
    """A counter's rise; never below 0, as the kernel's iowait may step back (proc_stat(5))."""
    return None if before is None or after is None else max(0.0, after - before)


def _ticks_per_s() -> int:
    return os.sysconf("SC_CLK_TCK")


def _all_cpus(root: Path) -> tuple[float, float, float] | tuple[None, None, None]:
    """Busy, idle and stolen seconds of all CPUs. Guests' time is in user already (proc_stat(5))."""
    words = (read(root, "proc/stat") or "").partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu":
        return None, None, None
    user, nice, system, idle, iowait, irq, softirq, steal = (int(w) / _ticks_per_s() for w in words[1:9])
    return user + nice + system + irq + softirq, idle + iowait, steal


def _process_s(root: Path, pid: int) -> float | None:
    """CPU seconds of all threads of a process. Its name may hold spaces and brackets (proc_pid_stat(5))."""
    words = (read(root, f"proc/{pid}/stat") or "").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _ticks_per_s() if len(words) > 12 else None
