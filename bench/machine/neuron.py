"""AWS Neuron devices without torch: what is there, who holds it, and how it fares, from neuron-ls, neuron-monitor
and sysfs. None of them reserves a core.

Written against the documentation and source of SDK 2.33; not run on Neuron hardware by us. Sources: AWS Neuron
documentation, guides of neuron-ls, neuron-monitor and sysfs (2.32); the driver's neuron_sysfs_metrics.c. Driver
2.31 moved several sysfs nodes, and where to is not known to us: what is not where it was is None.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.machine.files import ROOT, read, read_int

VISIBLE = "NEURON_RT_VISIBLE_CORES"
TOOLS = "opt/aws/neuron/bin"
SYSFS = "sys/devices/virtual/neuron_device"
DRIVER = "sys/module/neuron/version"
LS_TIMEOUT_S = 5.0
ENDS_WITHIN_S = 2.0

CHIPS = {"Inferentia": "inferentia1", "Inferentia2": "inferentia2", "Trainium1": "trainium1",
         "Trainium2": "trainium2", "Trainium3": "trainium3"}
"""Names of chips in sysfs -> ids of the catalog. Sources: sysfs guide; the driver's neuron_dhal_v2.c to v4.c."""

FAMILIES = {"inf1": "inferentia1", "inf2": "inferentia2", "trn1": "trainium1", "trn1n": "trainium1",
            "trn2": "trainium2", "trn2n": "trainium2", "trn2u": "trainium2", "trn3": "trainium3"}
"""Instance families -> ids of the catalog."""

JOINS_CORES = ("trainium2", "trainium3")
"""Chips whose physical cores work as one logical core, two by two, unless told otherwise (LNC)."""

PACKAGES = ("aws-neuronx-runtime-lib", "aws-neuronx-collectives", "aws-neuronx-tools", "aws-neuronx-dkms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that holds a Neuron device."""

    pid: int
    command: str | None
    runtime: str | None  # version of its Neuron runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronDevice:
    """One chip as neuron-ls shows it; what it leaves out is None.

    `cores`: logical cores, of `lnc` physical ones each; `core_ids`: their numbers, counted through over
    all chips, as NEURON_RT_VISIBLE_CORES takes them.
    """

    index: int | None
    cores: int | None
    lnc: int | None
    memory_bytes: int | None
    core_ids: tuple[int, ...] | None
    holders: tuple[Holder, ...]
    instance_type: str | None

    @property
    def physical_cores(self) -> int | None:
        """neuron-ls leaves `lnc` out on chips whose cores can't be joined."""
        return None if self.cores is None else self.cores * (self.lnc or 1)

    def held_by(self, own: Collection[int] = ()) -> list[Holder]:
        """Who holds it and is none of this run's processes."""
        return [holder for holder in self.holders if holder.pid not in own]

    def __str__(self) -> str:
        """Such as "device 0 (cores 0-3)"."""
        ids = self.core_ids
        cores = f" (core{'s' if len(ids) > 1 else ''} {core_list(ids)})" if ids else ""
        return f"device {'?' if self.index is None else self.index}{cores}"


def core_list(ids: Sequence[int]) -> str:
    """Numbers as ranges: "0-3" or "0,2-3"."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def core_numbers(text: str) -> tuple[int, ...]:
    """The numbers that NEURON_RT_VISIBLE_CORES lists, such as "4-7" or "0,2"; () where it makes no sense."""
    found: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not ends:
            return ()
        found += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    return tuple(found)


def device_files(root: Path = ROOT, pattern: str = "dev/neuron*") -> list[str]:
    """Return the devices' files, in order: what a process must be able to open to use them."""
    found = [path for path in root.glob(pattern) if re.fullmatch(r"neuron\d+", path.name)]
    return [str(path) for path in sorted(found, key=lambda path: int(path.name.removeprefix("neuron")))]


def driver_version(root: Path = ROOT) -> str | None:
    """Return the version of the driver aws-neuronx-dkms that is loaded, or None."""
    return read(root, DRIVER) or None


def tool(name: str, root: Path = ROOT) -> str | None:
    """Return the path of one of Neuron's tools: on PATH, or where aws-neuronx-tools puts it; None for neither."""
    return shutil.which(name) or shutil.which(name, path=str(root / TOOLS))


def neuron_devices(root: Path = ROOT, command: Sequence[str] | None = None) -> tuple[list[NeuronDevice], str | None]:
    """Return the devices that `neuron-ls -j` lists and None, or none and the reason.

    It exits with 1 and prints nothing where there is no driver or no device.
    """
    found = tool("neuron-ls", root)
    if command is None and found is None:
        return [], "neuron-ls is neither on PATH nor in /opt/aws/neuron/bin: install aws-neuronx-tools"
    try:
        done = subprocess.run([*(command or (str(found),)), "-j"], capture_output=True, text=True,
                              timeout=LS_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        return [], f"neuron-ls gave no answer within {LS_TIMEOUT_S:g} s"
    except OSError as error:
        return [], f"neuron-ls can't be run: {error}"
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        return [], f"neuron-ls ended with exit code {done.returncode}{f': {last}' if last else ''}"
    return parse_neuron_ls(done.stdout)


def parse_neuron_ls(text: str) -> tuple[list[NeuronDevice], str | None]:
    """Return the devices of `neuron-ls -j`'s output and None, or none and why it can't be read.

    It is a list with one object a device; every key may be missing, and unknown ones are passed over.
    """
    try:
        rows = json.loads(text)
    except ValueError:
        return [], "neuron-ls printed no JSON"
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return [], "neuron-ls printed JSON that is no list of devices"
    return [_device(row) for row in rows], None if rows else "neuron-ls lists no device"


def chip(root: Path = ROOT, devices: Sequence[NeuronDevice] = ()) -> tuple[str | None, str]:
    """Return the chip's id in the catalog and where it is read, or None and the reason.

    sysfs names the chip; failing that the instance's family does. Chips of an instance are of one kind.
    """
    for folder in sysfs_devices(root):
        name = read(folder, "info/architecture/device_name")
        if name in CHIPS:
            return CHIPS[name], "sysfs, device_name"
    named = [read(folder, "info/architecture/instance_type") for folder in sysfs_devices(root)]
    for source, types in (("sysfs, instance_type", named), ("neuron-ls, instance_type",
                                                            [one.instance_type for one in devices])):
        for text in types:
            if text and family(text):
                return family(text), source
    return None, "neither sysfs nor neuron-ls names the chip"


def family(instance_type: str) -> str | None:
    """Return the chip of an instance type such as "trn2.48xlarge" or "Trn2", or None for any other."""
    return FAMILIES.get(instance_type.partition(".")[0].lower())


def cores_of(pid: int, root: Path = ROOT) -> int | None:
    """Return how many cores a process asked for by its variables; None: all, which is the default, or not readable."""
    variables = dict(pair.partition("=")[::2] for pair in (read(root, f"proc/{pid}/environ") or "").split("\0"))
    named = core_numbers(variables.get(VISIBLE, ""))
    if named:
        return len(named)
    count = variables.get("NEURON_RT_NUM_CORES", "")
    return int(count) if count.isdigit() and count != "0" else None


def installed() -> dict[str, str]:
    """Return versions of Neuron's system packages by name, as dpkg or rpm has them, less those not installed."""
    queries = (("dpkg-query", ("-W", "-f=${Package} ${Version}\n")), ("rpm", ("-q", "--qf", "%{NAME} %{VERSION}\n")))
    found: dict[str, str] = {}
    for program, words in queries:
        if shutil.which(program) is None:
            continue
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # then they are unknown, which is said elsewhere
            done = subprocess.run([program, *words, *PACKAGES], capture_output=True, text=True, check=False,
                                  timeout=LS_TIMEOUT_S, stdin=subprocess.DEVNULL)
            pairs = (line.split() for line in done.stdout.splitlines())
            found |= {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[0] in PACKAGES}
    return found


# sysfs


def sysfs_devices(root: Path = ROOT) -> list[Path]:
    """Return the folders neuron0, neuron1, ... of the driver's sysfs tree, in order."""
    found = [path for path in (root / SYSFS).glob("neuron*") if re.fullmatch(r"neuron\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("neuron")))


def power_percent(root: Path = ROOT) -> list[dict[str, Any]]:
    """Return each device's power in percent of its maximum, over the last minute: never watts or joules.

    Keys: device, at_unix_s, min_percent, max_percent, avg_percent, reason. The driver renews the figure
    once a minute, and AWS publishes no maximum in watts.
    """
    return [{"device": int(folder.name.removeprefix("neuron"))} | _power(read(folder, "stats/power/utilization"))
            for folder in sysfs_devices(root)]


def device_memory(root: Path = ROOT) -> list[dict[str, Any]]:
    """Return the device memory of each physical core: {"device", "core", "now_bytes", "peak_bytes", "parts"}.

    The peak is since the driver was loaded or somebody cleared it, over all processes. `parts`: the same
    two by use (tensors, constants, model_code, ...).
    """
    found = []
    for device, core, folder in _cores(root):
        memory = folder / "stats/memory_usage/device_mem"
        parts = {part.name: _usage(part) for part in sorted(memory.glob("*")) if part.is_dir()}
        found.append({"device": device, "core": core} | _usage(memory) | {"parts": parts})
    return found


def error_counts(root: Path = ROOT) -> dict[str, int]:
    """Return how often anything has gone wrong since the driver was loaded, by name, over all devices and cores.

    Names are the driver's: those of `stats/hardware` (ECC events), and of `stats/status` other than success.
    """
    counts: dict[str, int] = {}
    files = [(path.name, path) for folder in sysfs_devices(root) for path in (folder / "stats/hardware").glob("*")]
    files += [(path.parent.name, path) for _, _, folder in _cores(root)
              for path in (folder / "stats/status").glob("*/total") if path.parent.name != "success"]
    for name, path in files:
        count = read_int(path.parent, path.name)
        if count is not None:
            counts[name] = counts.get(name, 0) + count
    return counts


def rises(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return what has risen between two `error_counts`, by how much."""
    return {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}


# neuron-monitor


class Monitor:
    """Watches Neuron processes in the background, by a neuron-monitor of its own:

        with Monitor(tag) as monitor:
            ...
        monitor.summary()

    `tag`: the NEURON_PROCESS_TAG of the processes to watch; None: all of them. Where there is no
    neuron-monitor it does nothing, and its summary says why.
    """

    def __init__(self, tag: str | None = None, period_s: float = 1.0, *, root: Path = ROOT,
                 command: Sequence[str] | None = None) -> None:
        if period_s <= 0:
            raise ValueError(f"the period must be above 0 s, got {period_s}")
        self._tag, self._period_s = tag, period_s
        found = tool("neuron-monitor", root)
        self._command = list(command) if command else [found] if found else []
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._lines: list[dict[str, Any]] = []
        self._unreadable = 0
        self._reason: str | None = "it was never started"

    def config(self) -> dict[str, Any]:
        """What neuron-monitor is asked for; its own period is 5 s."""
        runtime = [{"type": name} for name in ("neuroncore_counters", "memory_used", "execution_stats")]
        mask = ".*" if self._tag is None else f"^{re.escape(self._tag)}$"
        return {"period": f"{self._period_s:g}s", "neuron_runtimes": [{"tag_filter": mask, "metrics": runtime}],
                "system_metrics": [{"type": "neuron_hw_counters"}]}

    def start(self) -> None:
        if not self._command:
            self._reason = "neuron-monitor is neither on PATH nor in /opt/aws/neuron/bin: install aws-neuronx-tools"
            return
        config = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="trnbench-"))) / "monitor.json"
        config.write_text(json.dumps(self.config()), "utf-8")
        try:
            self._process = subprocess.Popen([*self._command, "-c", str(config)], stdout=subprocess.PIPE,
                                             stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        except OSError as error:
            self._stack.close()
            self._reason = f"neuron-monitor can't be run: {error}"
            return
        self._reason = None
        self._thread = threading.Thread(target=self._read, name="neuron-monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End neuron-monitor by its pid; a second stop does nothing."""
        if self._process is None or self._thread is None:
            return
        ended = self._process.poll()
        self._process.terminate()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        self._process = None
        self._stack.close()
        if ended is not None:
            self._reason = f"neuron-monitor ended by itself with exit code {ended}"

    def __enter__(self) -> Monitor:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def summary(self) -> dict[str, Any]:
        """Return what was seen, after `stop`: see `summarise`; with `unreadable` lines and the `reason` for none."""
        reason = self._reason or (None if self._lines else "neuron-monitor printed nothing while it was watched")
        return summarise(self._lines) | {"period_s": self._period_s, "unreadable": self._unreadable, "reason": reason}

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                parsed = parse_monitor_line(line.decode("utf-8", "replace"))
                if parsed is None:
                    self._unreadable += 1
                else:
                    self._lines.append(parsed)


def parse_monitor_line(line: str) -> dict[str, Any] | None:
    """Return one report of neuron-monitor, its processes' figures put together; None where it can't be read.

    Keys: `utilization` (percent) and `flops_per_second` by logical core, `device_bytes`, `host_bytes` (None
    where no process ran), `executions` and `errors` (counts of this period, by kind), `ecc` (counts since the
    driver was loaded), `hardware`, `complaints` (the `error` of each group that has one).
    """
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    runtimes = [_dict(one) for one in _list(data.get("neuron_runtime_data"))]
    reports = [_dict(one.get("report")) for one in runtimes]
    cores = {core: _dict(values) for report in reports
             for core, values in _dict(_dict(report.get("neuroncore_counters")).get("neuroncores_in_use")).items()}
    used = [_dict(_dict(report.get("memory_used")).get("neuron_runtime_used_bytes")) for report in reports]
    stats = [_dict(report.get("execution_stats")) for report in reports]
    system = _dict(data.get("system_data"))
    ecc = _dict(system.get("neuron_hw_counters"))
    groups = [*runtimes, *(group for report in reports for group in report.values()), *system.values(),
              data.get("neuron_hardware_info")]
    return {
        "utilization": _numbers({core: values.get("neuroncore_utilization") for core, values in cores.items()}),
        "flops_per_second": _numbers({core: values.get("flops", values.get("effective_flops"))
                                      for core, values in cores.items()}),
        "device_bytes": _total([values.get("neuron_device") for values in used]),
        "host_bytes": _total([values.get("host") for values in used]),
        "executions": _added(_dict(one.get("execution_summary")) for one in stats),
        "errors": _added(_dict(one.get("error_summary")) for one in stats),
        "ecc": _added({name: count for name, count in _dict(device).items() if "ecc" in name}
                      for device in _list(ecc.get("neuron_devices"))),
        "hardware": _dict(data.get("neuron_hardware_info")),
        "complaints": [str(_dict(group)["error"]) for group in groups if _dict(group).get("error")],
    }


def summarise(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the reports of one watch in one: means and peaks, sums of what is counted a period, rises of totals.

    `utilization_percent`: by logical core, {"mean", "max"}; it says that a core was at work, not that it worked
    well. `warnings`: errors and ECC events while it was watched.
    """
    cores = sorted({core for line in lines for core in line["utilization"]}, key=lambda core: (len(core), core))
    busy = {core: [line["utilization"][core] for line in lines if core in line["utilization"]] for core in cores}
    executions, errors = _added(line["executions"] for line in lines), _added(line["errors"] for line in lines)
    ecc = rises(lines[0]["ecc"], lines[-1]["ecc"]) if lines else {}
    failed = {name: count for name, count in executions.items() if name != "completed" and count}
    failed |= {name: count for name, count in errors.items() if count}
    told = sorted({text for line in lines for text in line["complaints"]})
    warnings = [f"Neuron runtime: {name} {count:g} times" for name, count in failed.items()]
    warnings += [f"Neuron device: {name} rose by {count}" for name, count in ecc.items()]
    return {
        "reports": len(lines),
        "utilization_percent": {core: {"mean": sum(seen) / len(seen), "max": max(seen)} for core, seen in busy.items()},
        "device_peak_bytes": max((line["device_bytes"] for line in lines if line["device_bytes"] is not None),
                                 default=None),
        "host_peak_bytes": max((line["host_bytes"] for line in lines if line["host_bytes"] is not None), default=None),
        "executions": executions, "errors": errors, "ecc_rises": ecc,
        "hardware": dict(lines[-1]["hardware"]) if lines else {},
        "warnings": warnings + [f"neuron-monitor: {text}" for text in told],
    }


def _device(row: Mapping[str, Any]) -> NeuronDevice:
    ids = row.get("neuroncore_ids")
    return NeuronDevice(
        index=_whole(row.get("neuron_device")), cores=_whole(row.get("nc_count")),
        lnc=_whole(row.get("logical_neuroncore_config")), memory_bytes=_whole(row.get("memory_size")),
        core_ids=tuple(ids) if isinstance(ids, list) and all(isinstance(one, int) for one in ids) else None,
        holders=tuple(_holders(row.get("neuron_processes"))), instance_type=_text(row.get("instance_type")))


def _holders(rows: Any) -> Iterator[Holder]:
    for row in map(_dict, _list(rows)):
        pid = _whole(row.get("pid"))
        if pid is not None:
            yield Holder(pid=pid, command=_text(row.get("command")), runtime=_text(row.get("neuron_runtime_version")))


def _power(line: str | None) -> dict[str, Any]:
    """`STATUS,unix seconds,min,max,avg`, STATUS one of POWER_STATUS_VALID, _NO_DATA and _INVALID."""
    unknown: dict[str, Any] = dict.fromkeys(("at_unix_s", "min_percent", "max_percent", "avg_percent"))
    if line is None:
        return unknown | {"reason": "the driver shows no stats/power/utilization"}
    status, *values = line.split(",")
    if status != "POWER_STATUS_VALID":
        return unknown | {"reason": f"the driver says {status or 'nothing'}"}
    try:
        at, low, high, mean = (float(value) for value in values)
    except ValueError:
        return unknown | {"reason": f"stats/power/utilization can't be read: {line[:80]!r}"}
    return {"at_unix_s": int(at), "min_percent": low, "max_percent": high, "avg_percent": mean, "reason": None}


def _cores(root: Path) -> Iterator[tuple[int, int, Path]]:
    """Each physical core: its device's number, its own, its folder."""
    for device in sysfs_devices(root):
        found = [path for path in device.glob("neuron_core*") if path.name.removeprefix("neuron_core").isdigit()]
        for path in sorted(found, key=lambda path: int(path.name.removeprefix("neuron_core"))):
            yield int(device.name.removeprefix("neuron")), int(path.name.removeprefix("neuron_core")), path


def _usage(folder: Path) -> dict[str, int | None]:
    """sysfs calls what is in use now `total`; its `present` is the last change."""
    return {"now_bytes": read_int(folder, "total"), "peak_bytes": read_int(folder, "peak")}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)}


def _total(values: Sequence[Any]) -> int | None:
    known = [value for value in map(_whole, values) if value is not None]
    return sum(known) if known else None


def _added(counts: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in counts:
        for name, count in _numbers(one).items():
            found[name] = found.get(name, 0) + count
    return found
