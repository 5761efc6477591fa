"""What CPU this is and how much of it may be used. Linux from /proc and /sys, else psutil."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

from bench.machine.files import ROOT, cgroup_folders, cpu_list, fields, read, read_int

SYS_CPU = "sys/devices/system/cpu"

ISA = {flag: flag for flag in (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "amx_fp16")} | {
    "asimd": "neon", "asimdhp": "fp16", "asimddp": "dotprod", "bf16": "bf16", "i8mm": "i8mm", "sve": "sve",
    "sve2": "sve2", "sme": "sme", "sme2": "sme2"}
"""Flags of /proc/cpuinfo that change how fast tensors are worked on, and the names they get here."""

VENDORS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD", "0x41": "Arm"}

ARM_PARTS = {"0xd0c": "Neoverse-N1", "0xd40": "Neoverse-V1", "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2",
             "0xd84": "Neoverse-V3", "0xd8e": "Neoverse-N3"}
"""Arm's server cores by "CPU part". Source: Linux, arch/arm64/include/asm/cputype.h."""


def cpu(root: Path = ROOT) -> dict[str, Any]:
    """Return the CPU as JSON values; what can't be found out is None.

    `usable_*` count what this process may run on: its affinity, and for cores the cgroup's quota
    too. `cpu_quota` is in CPUs. `smt` and the cores are as the kernel shows them: a virtual
    machine may present two threads of one core as two cores.
    """
    blocks = [fields(block) for block in (read(root, "proc/cpuinfo") or "").split("\n\n")]
    first = blocks[0]
    if not first:
        return _elsewhere()
    online = cpu_list(read(root, f"{SYS_CPU}/online")) or {
        int(b["processor"]) for b in blocks if b.get("processor", "").isdigit()}
    allowed = cpu_list(fields(read(root, "proc/self/status")).get("Cpus_allowed_list"))
    usable = online & allowed if allowed else online
    flags = set((first.get("flags") or first.get("Features") or "").split())
    cores, usable_cores = _cores(root, blocks, online), _cores(root, blocks, usable)
    quota = cpu_quota(root)
    return {
        "model": _model(first),
        "vendor": _vendor(first),
        "sockets": _sockets(root, online),
        "physical_cores": cores,
        "logical_cpus": len(online) or None,
        "usable_physical_cores": _within(usable_cores, quota),
        "usable_logical_cpus": len(usable) or None,
        "cpu_quota": quota,
        "smt": _smt(root, cores, len(online)),
        "isa": [name for flag, name in ISA.items() if flag in flags] if flags else None,
        "governor": _governor(root, usable),
        "current_mhz": _mhz(root, usable, "scaling_cur_freq") or _number(first.get("cpu MHz")),
        "max_mhz": _mhz(root, usable, "cpuinfo_max_freq"),
    }


def usable_cores(root: Path = ROOT) -> int | None:
    """Return how many physical cores this process may use, its cgroup's quota rounded down, or None."""
    cores = cpu(root)["usable_physical_cores"]
    assert cores is None or isinstance(cores, int)
    return cores


def machine_name(about: dict[str, Any]) -> str:
    """Return a name such as "amd-epyc-9r14-2cpu" from `cpu()`: model and CPUs, safe in a folder's name.

    It counts the machine's CPUs, not those that may be used, so that every run on a machine has one
    name; and it holds no host name, as records are made to be given away.
    """
    model = about["model"] or f"{platform.system()} {platform.machine()}"
    text = re.sub(r"\((r|tm|c)\)|@.*|\b\d+-core\b|\b(cpu|processor)\b", " ", model.lower())
    vendor = (about["vendor"] or "").lower()
    words = re.findall(r"[a-z0-9]+", text if vendor in text else f"{vendor} {text}")
    return "-".join([*words, *([f"{about['logical_cpus']}cpu"] if about["logical_cpus"] else [])])


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return the tightest CPU quota of this process's cgroups, in CPUs, or None where there is none.

    Sources: Linux, admin-guide/cgroup-v2 (cpu.max) and scheduler/sched-bwc (cpu.cfs_quota_us).
    """
    quotas = []
    for folder in cgroup_folders(root, "cpu"):
        words = (read(folder, "cpu.max") or "").split()
        words = words or [str(read_int(folder, f"cpu.cfs_{part}_us")) for part in ("quota", "period")]
        if len(words) == 2 and all(word.isdigit() and word != "0" for word in words):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def _within(cores: int | None, quota: float | None) -> int | None:
    """Cores under a quota, rounded down: a thread that is throttled holds up all the others."""
    return cores if cores is None or quota is None else max(1, min(cores, int(quota)))


def _model(first: dict[str, str]) -> str | None:
    return first.get("model name") or ARM_PARTS.get(first.get("CPU part", "")) or first.get("CPU part")


def _vendor(first: dict[str, str]) -> str | None:
    name = first.get("vendor_id") or first.get("CPU implementer")
    return VENDORS.get(name, name) if name else None


def _cores(root: Path, blocks: list[dict[str, str]], cpus: set[int]) -> int | None:
    """Distinct cores among `cpus`: CPUs that list the same siblings are one core."""
    keys = {read(root, f"{SYS_CPU}/cpu{n}/topology/core_cpus_list")
            or read(root, f"{SYS_CPU}/cpu{n}/topology/thread_siblings_list") for n in cpus}
    if None in keys:  # no sysfs: some containers hide it
        ids = [(b.get("physical id"), b.get("core id")) for b in blocks
               if b.get("processor", "").isdigit() and int(b["processor"]) in cpus]
        return len(set(ids)) if ids and all(None not in pair for pair in ids) else None
    return len(keys) or None


def _sockets(root: Path, cpus: set[int]) -> int | None:
    ids = {read_int(root, f"{SYS_CPU}/cpu{n}/topology/physical_package_id") for n in cpus}
    return len(ids) if ids and all(i is not None and i >= 0 for i in ids) else None


def _smt(root: Path, cores: int | None, cpus: int) -> bool | None:
    active = read(root, f"{SYS_CPU}/smt/active")
    if active in ("0", "1"):
        return active == "1"
    return cpus > cores if cores else None


def _governor(root: Path, cpus: set[int]) -> str | None:
    """The frequency governor, or all of them where CPUs differ: "performance,powersave"."""
    found = {read(root, f"{SYS_CPU}/cpu{n}/cpufreq/scaling_governor") for n in cpus}
    return ",".join(sorted(g for g in found if g)) or None


def _mhz(root: Path, cpus: set[int], file: str) -> float | None:
    """Of the first usable CPU only: on some kernels each look at a frequency takes 10 ms."""
    khz = read_int(root, f"{SYS_CPU}/cpu{min(cpus, default=0)}/cpufreq/{file}")
    return khz / 1000 if khz else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _elsewhere() -> dict[str, Any]:
    """The same keys where there is no /proc, say on macOS."""
    import psutil  # type: ignore[import-untyped]

    cores, cpus = psutil.cpu_count(logical=False), psutil.cpu_count()
    known = {"model": platform.processor() or None, "physical_cores": cores, "logical_cpus": cpus,
             "usable_physical_cores": cores, "usable_logical_cpus": cpus,
             "smt": cpus > cores if cores and cpus else None}
    keys = ("model", "vendor", "sockets", "physical_cores", "logical_cpus", "usable_physical_cores",
            "usable_logical_cpus", "cpu_quota", "smt", "isa", "governor", "current_mhz", "max_mhz")
    return {key: known.get(key) for key in keys}
