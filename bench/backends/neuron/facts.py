"""What a record of a Neuron run says of its surroundings: packages, driver, chip, cores, flags. No torch.

Written against the documentation and source of SDK 2.33; not run on Neuron hardware by us.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.backends.neuron.flavour import Flavour
from bench.catalog.chips import chip as chip_of
from bench.machine import neuron
from bench.machine.files import ROOT
from bench.machine.software import package_version

PACKAGES = ("torch", "torch-neuronx", "neuronx-cc", "libneuronxla", "nki", "torch-xla")
SYSTEM_PACKAGES = {"runtime": "aws-neuronx-runtime-lib", "collectives": "aws-neuronx-collectives",
                   "tools": "aws-neuronx-tools"}
FLAGS = ("NEURON_CC_FLAGS", "NEURON_COMPILER_OPT_LEVEL", "NEURON_LAUNCH_BLOCKING", "NEURON_LOGICAL_NC_CONFIG",
         "NEURON_PLATFORM_TARGET_OVERRIDE", "NEURON_RT_NUM_CORES", "NEURON_RT_VISIBLE_CORES",
         "NEURON_RT_STOCHASTIC_ROUNDING_EN", "NEURON_RT_EXEC_TIMEOUT", "NEURON_RT_ALLOW_LEGACY_NEFF",
         "NEURON_RT_INSPECT_ENABLE", "NEURON_RT_INSPECT_DEVICE_PROFILE", "PJRT_DEVICE", "XLA_IR_DEBUG", "XLA_HLO_DEBUG",
         "TORCH_NEURONX_COMPILE_ONLY", "TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION",
         "TORCH_NEURONX_DYNAMO_DISABLE_CPU_AUTOCOPY", "TORCH_NEURONX_FALLBACK_ONLY_FOR_UNIMPLEMENTED_OPS",
         "TORCH_NEURONX_ENABLE_ASYNC_NRT", "TORCH_NEURONX_ENABLE_NKI_SDPA", "TORCH_NEURONX_ENABLE_CONCATENATION",
         "TORCH_NEURONX_ENABLE_STACK_TRACE", "TORCH_NEURONX_PRESERVE_COMPILATION_ARTIFACTS",
         "TORCH_NEURONX_RETAIN_DEVICE_MODE")
"""Variables that change what is run or how fast: those that are set are kept. None names a host or a user."""


NO_JOULES = {"joules": None, "method": None, "reason": "no Neuron chip shows its power in watts: the driver gives "
             "percent of a maximum that is not published"}
"""A record's energy; the host's own counters would pass for the device's otherwise."""


def facts(flavour: Flavour, root: Path = ROOT) -> dict[str, Any]:
    """Return JSON values for a record's `device`; what is unknown is None, and `unknown` says why, by name.

    `name` and `chip` (an id of the catalog) of the chip; `chips_here` and `cores_here` (logical ones) on the
    whole machine, however many are used; `lnc`: physical cores in a logical one; versions of `packages`,
    `driver`, `runtime`, `collectives` and `tools`; `visible_cores` and `flags` as this process was given them.
    """
    devices, unlisted = neuron.neuron_devices(root)
    kind, source = neuron.chip(root, devices)
    folders, installed = neuron.sysfs_devices(root), neuron.installed()
    lnc, no_lnc = _lnc(kind, devices)
    driver = neuron.driver_version(root)
    cores = _logical_cores(devices, lnc)
    stand_in = f"stand-in torch-neuronx {flavour.version}"
    found = {
        "name": stand_in if flavour.emulated else chip_of(kind).name if kind else None, "chip": kind,
        "chips_here": len(devices) or len(folders) or None, "cores_here": cores, "lnc": lnc,
        "flavour": flavour.name, "packages": {name: package_version(name) for name in PACKAGES}, "driver": driver,
        **{key: installed.get(name) for key, name in SYSTEM_PACKAGES.items()},
        "visible_cores": os.environ.get("NEURON_RT_VISIBLE_CORES"),
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ}}
    reasons = {"chip": source, "name": source, "lnc": no_lnc, "cores_here": unlisted or "neuron-ls does not say",
               "chips_here": unlisted,
               "driver": f"no /{neuron.DRIVER}",
               "visible_cores": "NEURON_RT_VISIBLE_CORES is not set: the runtime takes free ones",
               **{key: f"neither dpkg nor rpm knows {name}" for key, name in SYSTEM_PACKAGES.items()}}
    return found | {"unknown": {name: reason for name, reason in reasons.items() if found[name] is None}}


def _logical_cores(devices: list[neuron.NeuronDevice], lnc: int | None) -> int | None:
    """Logical cores of the machine as this process has them: it may be told another LNC than neuron-ls shows."""
    known = [one.cores * one.lnc // lnc if lnc and one.lnc else one.cores for one in devices if one.cores is not None]
    return sum(known) if known else None


def _lnc(kind: str | None, devices: list[neuron.NeuronDevice]) -> tuple[int | None, str]:
    """Physical cores in a logical one: as this process was told, else as neuron-ls shows it, else 1 where none join."""
    told = os.environ.get("NEURON_LOGICAL_NC_CONFIG", "")
    if told.isdigit():
        return int(told), ""
    shown = {one.lnc for one in devices if one.lnc is not None}
    if len(shown) == 1:
        return shown.pop(), ""
    if kind is not None and kind not in neuron.JOINS_CORES:
        return 1, ""
    return None, "neither NEURON_LOGICAL_NC_CONFIG nor neuron-ls says how many physical cores a logical one joins"
