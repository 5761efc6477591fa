"""NVIDIA GPUs by NVML, without torch: what is there, who holds it, and how it fares while it works.

NVML comes with the driver, `pynvml` with nvidia-ml-py; where one is missing there
is a reason in words. Looking starts no work on a GPU. GPUs are numbered as NVML does, in the order
of the PCI bus: CUDA's numbers are the same under CUDA_DEVICE_ORDER=PCI_BUS_ID.
Sources: NVML API reference guide; CUDA programming guide, "CUDA environment variables"; MIG user guide.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from types import TracebackType
from typing import Any

MISSING = "the package nvidia-ml-py (module pynvml) is not installed: pip install nvidia-ml-py"

CLOCK_REASONS = {
    0x001: "idle", 0x002: "application clocks", 0x004: "power cap", 0x008: "hardware slowdown", 0x010: "sync boost",
    0x020: "software thermal slowdown", 0x040: "hardware thermal slowdown", 0x080: "power brake",
    0x100: "display clocks", 0x200: "board limit", 0x400: "reliability"}
"""Bits of nvmlDeviceGetCurrentClocksEventReasons. Source: NVML API reference, NvmlClocksEventReasons."""

NOT_LIMITS = 0x001 | 0x002
"""An idle GPU clocks down by itself, and clocks that somebody has set stay where they are."""

MOST_DROP = 0.05
"""Of the clock at the start. A boost clock wanders by one or two steps of 15 MHz, about 2 %."""

STARTS_IN, DROPS_IN, DROPS_SHARE = 3, 2, 0.05
"""Samples that give the clock at the start; samples, and share of all, that make a drop."""

COUNTER = "NVML total energy counter"
INTEGRAL = "NVML power readings integrated over time"
WHOLE = ", whole GPU with its memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One MIG device of a GPU. `fraction`: of the GPU's compute slices (7 on A100 and H100), 0 to 1."""

    gpu: int
    index: int
    name: str | None
    uuid: str | None  # never kept in a record
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    multiprocessors: int | None
    fraction: float | None
    pids: tuple[int, ...] | None

    def facts(self) -> dict[str, Any]:
        """As a record keeps it."""
        return {key: getattr(self, key) for key in ("gpu", "index", "name", "memory_total_bytes", "memory_used_bytes",
                                                    "multiprocessors", "fraction")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as NVML shows it; what it does not show is None, and `unknown` says why, by name.

    `name` is NVML's, e.g. "NVIDIA A100-SXM4-40GB". `mig`: whether it is cut into `slices` (then CUDA
    runs on one of those). `pids`: processes that compute on it, by the numbers of the driver's PID
    namespace, which in a container need not be its own.
    """

    index: int
    name: str | None
    uuid: str | None  # never kept in a record
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    compute_capability: str | None  # "9.0"
    mig: bool | None
    slices: tuple[Slice, ...] = ()
    persistence: bool | None
    ecc: bool | None
    power_limit_w: float | None
    pids: tuple[int, ...] | None
    unknown: Mapping[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """As a record keeps it: no number that names one piece of hardware, and no process."""
        kept = {key: getattr(self, key) for key in (
            "index", "name", "memory_total_bytes", "memory_used_bytes", "compute_capability", "mig", "persistence",
            "ecc", "power_limit_w")}
        return kept | {"slices": [one.facts() for one in self.slices], "unknown": dict(self.unknown)}


def gpus() -> tuple[list[Gpu], str | None]:
    """Return every GPU of this machine and None, or none and the reason: no package, driver or GPU.

    CUDA_VISIBLE_DEVICES is not looked at: see `visible`. Without persistence mode the driver may
    take a second a GPU to wake.
    """
    try:
        with _library() as nvml:
            found = [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except _NoNvml as none:
        return [], str(none)
    return found, None if found else "the NVIDIA driver is here and shows no GPU"


def driver() -> dict[str, str | None]:
    """Return {"driver", "cuda", "reason"}: the driver's version, and the newest CUDA that it runs, as "12.8"."""
    try:
        with _library() as nvml:
            cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()
            version = str(nvml.nvmlSystemGetDriverVersion())
    except _NoNvml as none:
        return {"driver": None, "cuda": None, "reason": str(none)}
    return {"driver": version, "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}", "reason": None}


def visible(found: Sequence[Gpu], mask: str | None) -> list[Gpu | Slice]:
    """Return the devices that CUDA enumerates under CUDA_VISIBLE_DEVICES=`mask` (None: not set), in its order.

    As the driver reads it: numbers, or UUIDs (GPU-… or MIG-…) of which the first characters do where
    only one fits. The first entry that fits nothing ends the list; one that comes twice empties it.
    Of MIG devices a process gets the first alone, and then no whole GPU either. Sources: CUDA
    programming guide; MIG user guide, "CUDA device enumeration"; torch.cuda._parse_visible_devices.
    """
    chosen: list[Gpu | Slice] = list(found)
    if mask is not None:
        prefix = next((kind for kind in ("GPU-", "MIG-") if mask.strip().startswith(kind)), None)
        by_uuid: list[Gpu | Slice] = [*found, *(one for gpu in found for one in gpu.slices)]
        chosen = []
        for entry in map(str.strip, mask.split(",")):
            device = _numbered(found, entry) if prefix is None else _named(by_uuid, entry, prefix)
            if device is None:
                break
            if device in chosen:
                return []
            chosen.append(device)
    slices = [one for device in chosen for one in (device.slices if isinstance(device, Gpu) else (device,))]
    return list(slices[:1]) or [device for device in chosen if isinstance(device, Gpu) and not device.mig]


class Sampler:
    """Looks at GPUs in the background while they work: power, clocks, heat, and why clocks are held back.

        with Sampler([0]) as sampler:
            ...
        sampler.summary()

    A look costs a few NVML calls a GPU, none of which waits for its work. Where NVML is missing the
    sampler does nothing and its summary says why. `own_pids`: further processes of this run. `in_slices`:
    this run has slices of the GPUs, whose other slices are others' to use.
    """

    def __init__(self, indices: Sequence[int], period_s: float = 0.1, *, own_pids: Collection[int] = (),
                 in_slices: bool = False, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        if period_s <= 0 or not indices:
            raise ValueError(f"a sampler needs a GPU and a period above 0 s, got {indices} and {period_s}")
        self._indices, self._period_s, self._clock_ns = indices, period_s, clock_ns
        self._own, self._in_slices = {os.getpid(), *own_pids}, in_slices
        self._stack, self._stop = contextlib.ExitStack(), threading.Event()
        self._watches: list[_Watch] = []
        self._thread: threading.Thread | None = None
        self._reason: str | None = "it was never started"

    def start(self) -> None:
        """Take the first look, and go on looking until `stop`."""
        try:
            nvml = self._stack.enter_context(_library())
            self._watches = [_Watch(_Reader(nvml), index, in_slice=self._in_slices) for index in self._indices]
        except _NoNvml as none:
            self._stack.close()
            self._watches, self._reason = [], str(none)
            return
        self._reason = None
        self._count()
        self.look()
        self._thread = threading.Thread(target=self._go_on, name="nvidia-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take the last look; a second stop does nothing."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        self.look()
        self._count()
        for watch in self._watches:
            watch.pids = watch.reader.pids(watch.handle)
        self._stack.close()

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def summary(self) -> dict[str, Any]:
        """Return {"energy", "gpus", "samples", "period_s", "warnings", "reason"} after `stop`.

        `energy` is as `bench.machine.energy` gives it, summed over the GPUs (each one whole, MIG or
        not): the counter where there is one, else the integral of power; both are beside it.
        A warning: a clock that fell while something held it back, another process on a GPU.
        """
        rows = [watch.summary(self._own) for watch in self._watches]
        return {"energy": self._energy(), "gpus": rows, "samples": sum(row["samples"] for row in rows),
                "period_s": self._period_s, "reason": self._reason,
                "warnings": [text for watch in self._watches for text in watch.warnings(self._own)]}

    def _energy(self) -> dict[str, Any]:
        counted = _summed([watch.counted_joules() for watch in self._watches], self._reason)
        integral = _summed([watch.integral_joules() for watch in self._watches], self._reason)
        first, method = (counted, COUNTER) if counted[0] is not None else (integral, INTEGRAL)
        reason = None if first[0] is not None else f"{counted[1]}; {integral[1]}" if self._watches else self._reason
        return {"joules": first[0], "method": method + WHOLE, "reason": reason,
                "counter": {"joules": counted[0], "method": COUNTER + WHOLE, "reason": counted[1]},
                "integral": {"joules": integral[0], "method": INTEGRAL + WHOLE, "reason": integral[1]}}

    def look(self) -> None:
        """Take one look now, as the background does every `period_s`."""
        for watch in self._watches:
            watch.look(self._clock_ns())

    def _go_on(self) -> None:
        while not self._stop.wait(self._period_s):
            self.look()

    def _count(self) -> None:
        for watch in self._watches:
            watch.counter_mj.append(watch.reader.get("energy", "nvmlDeviceGetTotalEnergyConsumption", watch.handle))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at one GPU; None where NVML did not say. `clock_reasons`: bits of CLOCK_REASONS."""

    at_ns: int
    power_w: float | None
    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    utilization: float | None  # share of the last period, up to 1 s, in which a kernel ran
    clock_reasons: int | None


class _Watch:
    """One GPU under a sampler."""

    def __init__(self, reader: _Reader, index: int, *, in_slice: bool) -> None:
        self.reader, self.index, self.in_slice = reader, index, in_slice
        self.handle = reader.handle(index)
        self.samples: list[Sample] = []
        self.counter_mj: list[int | None] = []
        self.pids: tuple[int, ...] | None = None

    def look(self, at_ns: int) -> None:
        get, handle, nvml = self.reader.get, self.handle, self.reader.nvml
        power_mw = get("power_w", "nvmlDeviceGetPowerUsage", handle)
        busy = get("utilization", "nvmlDeviceGetUtilizationRates", handle)
        self.samples.append(Sample(
            at_ns=at_ns, power_w=None if power_mw is None else power_mw / 1000,
            sm_clock_mhz=get("sm_clock_mhz", "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
            memory_clock_mhz=get("memory_clock_mhz", "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM),
            temperature_c=get("temperature_c", "nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
            utilization=None if busy is None else busy.gpu / 100, clock_reasons=self.reader.clock_reasons(handle)))

    def counted_joules(self) -> tuple[float | None, str | None]:
        """Source: NVML, nvmlDeviceGetTotalEnergyConsumption: mJ since the driver was loaded; Volta or newer."""
        if len(self.counter_mj) < 2 or None in self.counter_mj:
            return None, f"GPU {self.index} has no energy counter: {self.reader.unknown.get('energy', 'not stopped')}"
        first, last = (reading or 0 for reading in (self.counter_mj[0], self.counter_mj[-1]))
        if last < first:
            return None, f"the energy counter of GPU {self.index} started anew: the driver was reloaded"
        return (last - first) / 1000, None

    def integral_joules(self) -> tuple[float | None, str | None]:
        """Power by the trapezoid rule. NVML's is a mean over 1 s from Ampere on (GA100 apart), so edges blur."""
        known = [(sample.at_ns, sample.power_w) for sample in self.samples if sample.power_w is not None]
        if len(known) < 2 or len(known) < len(self.samples):
            return None, f"GPU {self.index} gave {len(known)} power readings in {len(self.samples)} looks"
        return sum((b - a) / 1e9 * (p + q) / 2 for (a, p), (b, q) in pairwise(known)), None

    def summary(self, own: Collection[int]) -> dict[str, Any]:
        others, why = self.others(own)
        reasons = [sample.clock_reasons for sample in self.samples if sample.clock_reasons is not None]
        shares = {word: sum(bool(bits & bit) for bits in reasons) / len(reasons) for bit, word in CLOCK_REASONS.items()
                  if any(bits & bit for bits in reasons)} if reasons else None
        names = ("power_w", "sm_clock_mhz", "memory_clock_mhz", "temperature_c", "utilization")
        return {"index": self.index, "samples": len(self.samples)} | {
            name: _spread([value for sample in self.samples if (value := getattr(sample, name)) is not None])
            for name in names} | {"clock_reasons": shares, "other_processes": None if others is None else len(others),
                                  "unknown": dict(self.reader.unknown) | ({"other_processes": why} if why else {})}

    def others(self, own: Collection[int]) -> tuple[list[int] | None, str | None]:
        """Processes that computed here at the end and are none of this run's, or None and why."""
        if self.in_slice:
            return None, "NVML lists the processes of all slices of a GPU, and this run had one of them"
        if self.pids is None:
            return None, self.reader.unknown.get("pids", "not stopped")
        if not set(own) & set(self.pids):
            return None, ("this process is not among those that the driver lists: it does not compute here, or its "
                          "container numbers processes otherwise")
        return [pid for pid in self.pids if pid not in own], None

    def warnings(self, own: Collection[int]) -> list[str]:
        found = [text for text in (self._drop(),) if text]
        others, _ = self.others(own)
        if others:
            found.append(f"GPU {self.index} was shared with process {', '.join(map(str, others))}")
        return found

    def _drop(self) -> str | None:
        """A clock more than MOST_DROP below that of the start while something held it back."""
        known = [(sample.sm_clock_mhz, sample.clock_reasons or 0) for sample in self.samples if sample.sm_clock_mhz]
        start = median(clock for clock, _ in known[:STARTS_IN]) if known else 0
        low = [(clock, bits) for clock, bits in known[STARTS_IN:]
               if clock < (1 - MOST_DROP) * start and bits & ~NOT_LIMITS]
        if len(low) < max(DROPS_IN, DROPS_SHARE * len(known)):
            return None
        clock = median(clock for clock, _ in low)
        words = [word for bit, word in CLOCK_REASONS.items()
                 if bit & ~NOT_LIMITS and any(bits & bit for _, bits in low)]
        return (f"GPU {self.index}: its clock fell from {start:.0f} to {clock:.0f} MHz ({clock / start - 1:+.0%}) in "
                f"{len(low) / len(known):.0%} of the looks: {', '.join(words) or 'a reason without a name'}"
                ).replace("%", " %")


class _NoNvml(Exception):
    """Why NVML can't be asked, in words."""


class _Reader:
    """Asks NVML; what a GPU does not answer is None from then on, and `unknown` says why, by name."""

    def __init__(self, nvml: Any) -> None:
        self.nvml, self.unknown = nvml, dict[str, str]()
        # An old driver under a new package raises this one, which is no NVMLError.
        self._errors = (nvml.NVMLError, getattr(nvml, "NVMLLibraryMismatchError", nvml.NVMLError))

    def get(self, what: str, function: str, *arguments: Any) -> Any:
        if what in self.unknown:
            return None
        call = getattr(self.nvml, function, None)
        if call is None:
            self.unknown[what] = f"this nvidia-ml-py has no {function}"
            return None
        try:
            return call(*arguments)
        except self._errors as error:
            self.unknown[what] = f"NVML: {error}"
            return None

    def handle(self, index: int) -> Any:
        try:
            return self.nvml.nvmlDeviceGetHandleByIndex(index)
        except self.nvml.NVMLError as error:
            raise _NoNvml(f"there is no GPU {index}: NVML: {error}") from error

    def clock_reasons(self, handle: Any) -> int | None:
        """Drivers and packages of before 2023 call them throttle reasons; the bits are the same."""
        bits = self.get("clock_events", "nvmlDeviceGetCurrentClocksEventReasons", handle)
        if bits is None:
            bits = self.get("clock_reasons", "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return None if bits is None else int(bits)

    def pids(self, handle: Any) -> tuple[int, ...] | None:
        found = self.get("pids", "nvmlDeviceGetComputeRunningProcesses", handle)
        return None if found is None else tuple(sorted(process.pid for process in found))


@contextlib.contextmanager
def _library() -> Iterator[Any]:
    """The module pynvml with NVML open; _NoNvml says why not."""
    try:
        import pynvml  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        raise _NoNvml(MISSING) from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise _NoNvml(f"NVML can't be opened, so there is no working NVIDIA driver here: {error}") from error
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise _NoNvml(f"NVML stopped answering: {error}") from error
    finally:
        with contextlib.suppress(pynvml.NVMLError):  # the driver has gone, and its handle with it
            pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    reader = _Reader(nvml)
    get, handle = reader.get, reader.handle(index)
    memory = get("memory", "nvmlDeviceGetMemoryInfo", handle)
    capability = get("compute_capability", "nvmlDeviceGetCudaComputeCapability", handle)
    limit_mw = get("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit", handle)
    mig, ecc = get("mig", "nvmlDeviceGetMigMode", handle), get("ecc", "nvmlDeviceGetEccMode", handle)
    persistence = get("persistence", "nvmlDeviceGetPersistenceMode", handle)
    cut = None if mig is None else mig[0] == nvml.NVML_DEVICE_MIG_ENABLE
    return Gpu(
        index=index, name=get("name", "nvmlDeviceGetName", handle), uuid=get("uuid", "nvmlDeviceGetUUID", handle),
        memory_total_bytes=memory and memory.total, memory_used_bytes=memory and memory.used,
        compute_capability=capability and "{}.{}".format(*capability), mig=cut,
        slices=tuple(_slices(nvml, index, handle)) if cut else (),
        persistence=None if persistence is None else bool(persistence), ecc=None if ecc is None else bool(ecc[0]),
        power_limit_w=None if limit_mw is None else limit_mw / 1000, pids=reader.pids(handle), unknown=reader.unknown)


def _slices(nvml: Any, gpu: int, parent: Any) -> Iterator[Slice]:
    """The MIG devices of a GPU; most of its places may be empty."""
    most = _Reader(nvml).get("most", "nvmlDeviceGetMaxMigDeviceCount", parent) or 0
    for index in range(most):
        reader = _Reader(nvml)
        get = reader.get
        handle = get("handle", "nvmlDeviceGetMigDeviceHandleByIndex", parent, index)
        if handle is None:
            continue
        memory = get("memory", "nvmlDeviceGetMemoryInfo", handle)
        about = get("attributes", "nvmlDeviceGetAttributes", handle)
        yield Slice(
            gpu=gpu, index=index, name=get("name", "nvmlDeviceGetName", handle),
            uuid=get("uuid", "nvmlDeviceGetUUID", handle), memory_total_bytes=memory and memory.total,
            memory_used_bytes=memory and memory.used, multiprocessors=about and about.multiprocessorCount,
            fraction=about and about.computeInstanceSliceCount / most, pids=reader.pids(handle))


def _numbered(found: Sequence[Gpu], entry: str) -> Gpu | None:
    """The GPU of a number, read as C's strtoul does ("1x" is 1), or None."""
    number = re.match(r"\+?(\d+)", entry)
    return next((gpu for gpu in found if number and gpu.index == int(number[1])), None)


def _named(devices: Sequence[Gpu | Slice], entry: str, prefix: str) -> Gpu | Slice | None:
    """The one device whose UUID starts so, or None where none or several do, or it is of another kind."""
    fitting = [device for device in devices
               if entry.startswith(prefix) and device.uuid and device.uuid.startswith(entry)]
    return fitting[0] if len(fitting) == 1 else None


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"first": values[0], "median": median(values), "mean": sum(values) / len(values),
            "min": min(values), "max": max(values)}


def _summed(parts: list[tuple[float | None, str | None]], none: str | None) -> tuple[float | None, str | None]:
    """The sum where every part is known, else None and the first reason."""
    if not parts:
        return None, none
    joules = [value for value, _ in parts if value is not None]
    missing = next((why for value, why in parts if value is None), None)
    return (None, missing) if missing else (sum(joules), None)
