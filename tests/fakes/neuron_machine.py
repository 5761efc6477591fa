"""A Neuron machine's files in a folder: devices, driver, sysfs, and packages known by their metadata alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SYSFS = "sys/devices/virtual/neuron_device"


def machine(root: Path, *, chip: str | None = "Trainium2", devices: int = 1, cores: int = 2,
            driver: str | None = "2.31.7.0", files: int | None = None, product: str | None = None) -> Path:
    """Write what the driver shows of `devices` chips with `cores` physical cores each; return `root`."""
    for index in range(devices if files is None else files):
        write(root, f"dev/neuron{index}", "")
    if driver:
        write(root, "sys/module/neuron/version", f"{driver}\n")
    if product:
        write(root, "sys/class/dmi/id/product_name", f"{product}\n")
    for index in range(devices if chip else 0):
        write(root, f"{SYSFS}/neuron{index}/info/architecture/device_name", f"{chip}\n")
        for core in range(cores):
            write(root, f"{SYSFS}/neuron{index}/neuron_core{core}/info/architecture/arch_type", "NCv3\n")
    return root


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def site(folder: Path, packages: Mapping[str, str], *modules: str, classifier: str | None = None) -> list[str]:
    """An environment for packages as a search path: distributions by name and version, and empty modules."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, version in packages.items():
        marks = f"Classifier: {classifier}\n" if classifier and name == "torch-neuronx" else ""
        write(folder, f"{name.replace('-', '_')}-{version}.dist-info/METADATA",
              f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{marks}")
    for module in modules:
        write(folder, f"{module}/__init__.py", "raise AssertionError('nothing may be imported to look')\n")
    return [str(folder)]
