"""The module pynvml over GPUs that play recorded values, for machines without one.

Put it in place with `monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(FakeGpu(), ...))`. It has no
function that nvidia-ml-py lacks (a test holds it to that where that package is installed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GIB = 2**30


class NVMLError(Exception):
    """As pynvml's: its text is NVML's own."""


@dataclass
class FakeSlice:
    """A MIG device; None in a GPU's list of them is an empty place."""

    uuid: str = "MIG-11111111-aaaa"
    name: str = "NVIDIA A100-SXM4-40GB MIG 3g.20gb"
    memory_bytes: int = 20 * GIB
    multiprocessors: int = 42
    compute_slices: int = 3
    pids: Sequence[int] = ()


@dataclass
class FakeGpu:
    """A GPU. Lists are played one value a look, the last one for ever; `missing` are functions it lacks."""

    name: str = "NVIDIA H100 80GB HBM3"
    uuid: str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
    memory_bytes: int = 80 * GIB
    capability: tuple[int, int] = (9, 0)
    slices: Sequence[FakeSlice | None] | None = None
    power_mw: Sequence[int] = (300_000,)
    clock_mhz: Sequence[int] = (1980,)
    reasons: Sequence[int] = (0,)
    energy_mj: Sequence[int] = (1_000_000, 1_600_000)
    pids: Sequence[int] = ()
    missing: Sequence[str] = ()
    played: dict[str, int] = field(default_factory=dict)

    def play(self, name: str) -> Any:
        """The next recorded value."""
        values, at = getattr(self, name), self.played.get(name, 0)
        self.played[name] = at + 1
        return values[min(at, len(values) - 1)]


class FakeNvml:
    """`pynvml` over some GPUs. `refuses`: what nvmlInit raises, as NVML's text."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, NVML_DEVICE_MIG_ENABLE = 1, 2, 0, 1

    def __init__(self, *gpus: FakeGpu, refuses: str | None = None) -> None:
        self.gpus, self.refuses, self.opened, self.calls = gpus, refuses, 0, list[str]()

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("nvml"):
            return found

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            gpu = arguments[0] if arguments and isinstance(arguments[0], FakeGpu) else None
            if gpu and name in gpu.missing:
                raise NVMLError("Not Supported")
            return found(*arguments)

        return call

    def nvmlInit(self) -> None:
        if self.refuses:
            raise NVMLError(self.refuses)
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.86.15"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 12080

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if index >= len(self.gpus):
            raise NVMLError("Invalid Argument")
        return self.gpus[index]

    def nvmlDeviceGetName(self, handle: FakeGpu | FakeSlice) -> str:
        return handle.name

    def nvmlDeviceGetUUID(self, handle: FakeGpu | FakeSlice) -> str:
        return handle.uuid

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu | FakeSlice) -> Any:
        return SimpleNamespace(total=handle.memory_bytes, used=GIB)

    def nvmlDeviceGetCudaComputeCapability(self, handle: FakeGpu) -> tuple[int, int]:
        return handle.capability

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: FakeGpu) -> int:
        return 700_000

    def nvmlDeviceGetPersistenceMode(self, handle: FakeGpu) -> int:
        return 1

    def nvmlDeviceGetEccMode(self, handle: FakeGpu) -> list[int]:
        return [1, 1]

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:
        return [0, 0] if handle.slices is None else [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: FakeGpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: FakeGpu, index: int) -> FakeSlice:
        places = list(handle.slices or ()) + [None] * 7
        found = places[index]
        if found is None:
            raise NVMLError("Not Found")
        return found

    def nvmlDeviceGetAttributes(self, handle: FakeSlice) -> Any:
        return SimpleNamespace(multiprocessorCount=handle.multiprocessors,
                               computeInstanceSliceCount=handle.compute_slices)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: FakeGpu | FakeSlice) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in handle.pids]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: FakeGpu) -> int:
        return int(handle.play("energy_mj"))

    def nvmlDeviceGetPowerUsage(self, handle: FakeGpu) -> int:
        return int(handle.play("power_mw"))

    def nvmlDeviceGetUtilizationRates(self, handle: FakeGpu) -> Any:
        return SimpleNamespace(gpu=97, memory=40)

    def nvmlDeviceGetClockInfo(self, handle: FakeGpu, kind: int) -> int:
        return int(handle.play("clock_mhz")) if kind == self.NVML_CLOCK_SM else 2619

    def nvmlDeviceGetTemperature(self, handle: FakeGpu, sensor: int) -> int:
        return 61

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: FakeGpu) -> int:
        return int(handle.play("reasons"))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: FakeGpu) -> int:
        return int(handle.play("reasons"))
