"""What accelerators are plugged in, whether or not a backend can use them. No torch, and none of them is opened.

The PCI bus and the drivers' files say what is there; NVML and neuron-ls are asked only where their driver is.
Sources: Linux documentation, sysfs-bus-pci and gpu/amdgpu/driver-misc (product_name, mem_info_vram_total); NVIDIA
driver README, "The /proc/driver/nvidia interface"; CUDA on WSL user guide (/dev/dxg); PCI code and id assignment
specification (class 03 display, 12 processing accelerator); of PCI ids the Neuron driver's neuron_device.h, and of
TPUs PyTorch/XLA (_internal/tpu.py) and JAX (jax/_src/hardware_utils.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine.files import ROOT, read, read_int

PCI = "sys/bus/pci/devices"
GPU_MAKERS = {"0x10de": "nvidia", "0x1002": "amd"}
AMAZON, GOOGLE = "0x1d0f", "0x1ae0"
DISPLAY, ACCELERATOR = "0x03", "0x12"
"""First digits of a PCI class. A server's GPU is of either."""

NEURON = {"0x7064": "inferentia1", "0x7065": "inferentia1", "0x7066": "inferentia1", "0x7067": "inferentia1",
          "0x7264": "inferentia2", "0x7164": "trainium1", "0x7364": "trainium2", "0x7564": "trainium3",
          "0x7565": "trainium3"}
"""PCI device ids of Amazon's that are Neuron devices -> ids of the catalog."""

TPUS = {"0x0027": "TPU v2 or v3", "0x005e": "TPU v4", "0x0062": "TPU v5p", "0x0063": "TPU v5e",
        "0x006f": "TPU v6e (Trillium)", "0x0076": "TPU7x (Ironwood)"}
"""PCI device ids of TPUs, whose chips no driver names."""

NVIDIA = "proc/driver/nvidia"


@dataclass(frozen=True, slots=True)
class _Plugged:
    """An accelerator on the PCI bus, its vendor and device as the bus says them: "0x10de", "0x2330"."""

    kind: str
    vendor: str
    device: str
    folder: Path

    @property
    def pci_id(self) -> str:
        """As lspci prints it: "10de:2330"."""
        return f"{self.vendor.removeprefix('0x')}:{self.device.removeprefix('0x')}"


def accelerators(root: Path = ROOT) -> dict[str, Any]:
    """Return {"kinds", "reason"}: an entry for each kind of chip that is plugged in; never raises.

    An entry: `kind` (nvidia, amd, neuron, tpu, other), `name` as the driver says it, `count`, `memory_bytes` of
    one, `driver` (its version), `unknown` (why a value is None, by name); of Neuron also `chip` (id of the
    catalog), `cores` (logical ones, of all chips) and `lnc`. In a container the bus may show more than it was given.
    `kinds` is None where there is nothing to look in; `reason` says so, or what could not be read.
    """
    found: list[dict[str, Any]] = []
    bus, wrong = _bus(root), []
    for kind, reader in (("nvidia", _nvidia), ("amd", _amd), ("neuron", _neuron), ("tpu", _tpu), ("other", _other)):
        try:
            found += reader(root, [one for one in bus or () if one.kind == kind])
        except Exception as error:  # noqa: BLE001 - whatever a driver's library raises, no run is lost for it
            wrong.append(f"{kind}: {type(error).__name__}: {error}")
    if bus is None:
        wrong.append(f"there is no /{PCI} here to look in")
    return {"kinds": None if bus is None and not found else found, "reason": "; ".join(wrong) or None}


def plugged_in(kind: str, root: Path = ROOT) -> int:
    """Return how many accelerators of a kind the PCI bus shows, driver or not; 0 too where it shows nothing."""
    return sum(one.kind == kind for one in _bus(root) or ())


def tpus(root: Path = ROOT) -> list[str]:
    """Return the names of the TPUs that the PCI bus shows, in its order."""
    return [TPUS[one.device] for one in _bus(root) or () if one.kind == "tpu"]


def _bus(root: Path) -> list[_Plugged] | None:
    """The accelerators on the PCI bus in its order, or None where the bus is not shown."""
    if not (root / PCI).is_dir():
        return None
    return [one for folder in sorted((root / PCI).iterdir()) if (one := _plugged(folder))]


def _plugged(folder: Path) -> _Plugged | None:
    vendor, group = read(folder, "vendor") or "", (read(folder, "class") or "")[:4]
    if vendor not in (AMAZON, GOOGLE) and group not in (DISPLAY, ACCELERATOR):
        return None
    device = read(folder, "device") or ""
    if vendor in GPU_MAKERS and group in (DISPLAY, ACCELERATOR):
        kind = GPU_MAKERS[vendor]
    elif vendor == AMAZON and device in NEURON:
        kind = "neuron"
    elif vendor == GOOGLE and device in TPUS:
        kind = "tpu"
    elif group == ACCELERATOR:
        kind = "other"
    else:
        return None
    return _Plugged(kind, vendor, device, folder)


def _nvidia(root: Path, plugged: Sequence[_Plugged]) -> list[dict[str, Any]]:
    """As NVML says where a driver is; failing that the driver's files give the name, and the bus the number."""
    version = read(root, f"{NVIDIA}/version")
    if version is None and not (root / "dev/dxg").exists():
        return _unnamed("nvidia", plugged, "no NVIDIA driver is loaded")
    from bench.machine import nvidia  # here and below: 30 ms to import, and on a machine with CPUs alone not needed

    number = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", version or "")
    driver = number[0] if number else nvidia.driver()["driver"]
    unversioned = {} if driver else {"driver": "neither the driver's files nor NVML say its version"}
    gpus, why = nvidia.gpus()
    if gpus:
        return _grouped("nvidia", driver, ((gpu.name, gpu.memory_total_bytes, unversioned | {
            key: text for key, text in gpu.unknown.items() if key in ("name", "memory")}) for gpu in gpus))
    files = sorted((root / NVIDIA / "gpus").glob("*/information"))
    models = [match[1].strip() if match else None
              for file in files for match in (re.search(r"^Model:(.*)$", read(file.parent, file.name) or "", re.M),)]
    if any(models):
        return _grouped("nvidia", driver, ((model, None, unversioned | {"memory": str(why)}) for model in models))
    return _unnamed("nvidia", plugged, str(why), driver)


def _amd(root: Path, plugged: Sequence[_Plugged]) -> list[dict[str, Any]]:
    """As amdgpu says. It names server cards alone, and where it is the kernel's own it has no version."""
    if not (root / "sys/module/amdgpu").is_dir():
        return _unnamed("amd", plugged, "no driver amdgpu is loaded")
    driver = read(root, "sys/module/amdgpu/version") or None
    unversioned = {} if driver else {"driver": "this amdgpu is the kernel's own and has no version of its own"}
    return _grouped("amd", driver, (
        (read(one.folder, "product_name") or None, read_int(one.folder, "mem_info_vram_total"), unversioned | {
            "name": f"PCI device {one.pci_id}: amdgpu gives it no product_name",
            "memory": "amdgpu shows no mem_info_vram_total"}) for one in plugged))


def _neuron(root: Path, plugged: Sequence[_Plugged]) -> list[dict[str, Any]]:
    """One entry: chips of an instance are of one kind. neuron-ls is run where there is a driver or a device file."""
    if not plugged and not any((root / path).exists() for path in ("sys/module/neuron", "dev/neuron0")):
        return []
    from bench.machine import neuron

    folders, files, driver = neuron.sysfs_devices(root), neuron.device_files(root), neuron.driver_version(root)
    devices, unlisted = neuron.neuron_devices(root) if files or driver else ([], "no Neuron driver is loaded")
    count = len(plugged) or len(folders) or len(devices) or len(files)
    if not count:
        return []
    if devices and len(devices) < count:
        unlisted = f"neuron-ls shows {len(devices)} of {count} devices"
    whole = devices if len(devices) == count else []
    chip, source = neuron.chip(root, devices)
    if chip is None and plugged:
        chip = NEURON[plugged[0].device]
    names = {read(folder, "info/architecture/device_name") for folder in folders} - {None}
    cores = [one.cores for one in whole]
    joined = {one.lnc for one in devices} - {None}
    memory = {one.memory_bytes for one in devices}
    found: dict[str, Any] = {
        "kind": "neuron", "name": names.pop() if len(names) == 1 else None, "count": count,
        "memory_bytes": memory.pop() if len(memory) == 1 else None, "driver": driver, "chip": chip,
        "cores": sum(core for core in cores if core is not None) if cores and None not in cores else None,
        "lnc": joined.pop() if len(joined) == 1 else 1 if chip and chip not in neuron.JOINS_CORES else None}
    unsaid = unlisted or "neuron-ls does not say"
    return [_entry(found, {"name": "sysfs shows no one device_name", "memory_bytes": unsaid, "chip": source,
                           "driver": f"no /{neuron.DRIVER}", "cores": unsaid, "lnc": unsaid})]


def _tpu(root: Path, plugged: Sequence[_Plugged]) -> list[dict[str, Any]]:
    why = {"memory": "the PCI bus does not say", "driver": "no driver of a TPU shows its version"}
    return _grouped("tpu", None, ((TPUS[one.device], None, why) for one in plugged))


def _other(root: Path, plugged: Sequence[_Plugged]) -> list[dict[str, Any]]:
    return _unnamed("other", plugged, "no reader of its driver here")


def _unnamed(kind: str, plugged: Sequence[_Plugged], why: str, driver: str | None = None) -> list[dict[str, Any]]:
    """What the bus alone shows: an entry for each PCI id."""
    return _grouped(kind, driver, (
        (None, None, {"name": f"PCI device {one.pci_id}: {why}", "memory": why, "driver": why}) for one in plugged))


def _grouped(kind: str, driver: str | None,
             chips: Iterable[tuple[str | None, int | None, Mapping[str, str]]]) -> list[dict[str, Any]]:
    """One entry for chips of one name and memory; the third is why either, or the driver's version, is None."""
    counted = Counter((name, memory, tuple(sorted(why.items()))) for name, memory, why in chips)
    return [_entry({"kind": kind, "name": name, "count": count, "memory_bytes": memory, "driver": driver},
                   {"memory_bytes" if key == "memory" else key: text for key, text in why})
            for (name, memory, why), count in counted.items()]


def _entry(found: dict[str, Any], why: Mapping[str, str]) -> dict[str, Any]:
    """An entry with the reasons for what it does not know."""
    return found | {"unknown": {key: why[key] for key, value in found.items() if value is None and key in why}}
