"""Memory: of the machine, and of this process (resident now, and at its peak since a reset)."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from pathlib import Path
from typing import Any

from bench.machine.files import ROOT, cgroup_folders, fields, kib, read, read_int


def host_memory(root: Path = ROOT) -> dict[str, Any]:
    """Return the machine's memory in bytes, and how it is laid out; unknown is None.

    `limit_bytes` is the tightest cgroup limit below the machine's total. `huge_pages` counts pages
    set aside beforehand; `transparent_huge_pages` is "always", "madvise" or "never".
    """
    info = fields(read(root, "proc/meminfo"))
    total, available = kib(info, "MemTotal"), kib(info, "MemAvailable")
    if total is None:
        import psutil  # type: ignore[import-untyped]

        total, available = psutil.virtual_memory()[:2]
    mode = re.search(r"\[(\w+)\]", read(root, "sys/kernel/mm/transparent_hugepage/enabled") or "")
    huge = info.get("HugePages_Total", "")
    return {
        "total_bytes": total,
        "available_bytes": available,
        "limit_bytes": _limit_bytes(root, total),
        "numa_nodes": len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or None,
        "huge_pages": int(huge) if huge.isdigit() else None,
        "transparent_huge_pages": mode[1] if mode else None,
    }


def _limit_bytes(root: Path, total: int | None) -> int | None:
    """The tightest limit; version 1 writes "none" as a number close to 2**63, version 2 as "max"."""
    limits = [read_int(folder, file) for folder in cgroup_folders(root, "memory")
              for file in ("memory.max", "memory.limit_in_bytes")]
    return min((n for n in limits if n is not None and total and n < total), default=None)


def reset_peak(root: Path = ROOT) -> bool:
    """Make now the start of `peak_rss_bytes`; False where the kernel has no way to.

    Source: proc_pid_clear_refs(5): writing 5 sets VmHWM to the present resident size (Linux 4.0).
    """
    try:
        (root / "proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_rss_bytes(root: Path = ROOT) -> int | None:
    """Return this process's peak resident bytes since `reset_peak`, or since its start without one."""
    peak = kib(fields(read(root, "proc/self/status")), "VmHWM")
    if peak is not None:
        return peak
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def rss_bytes(root: Path = ROOT) -> int | None:
    """Return this process's resident bytes now."""
    now = kib(fields(read(root, "proc/self/status")), "VmRSS")
    if now is not None:
        return now
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back_freed() -> None:
    """Hand what this process has freed back to the system (glibc), so that it is no longer resident.

    Source: malloc_trim(3). Freed blocks of up to 32 MiB may else stay, and count as somebody's peak.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library: it keeps what it keeps
        ctypes.CDLL(None).malloc_trim(0)


def oom_kills(root: Path = ROOT) -> int | None:
    """Return how many processes the kernel has killed for want of memory since it started.

    Source: proc_vmstat(5), oom_kill, since Linux 4.13; None where it does not count them.
    """
    words = (read(root, "proc/vmstat") or "").split()
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else None
