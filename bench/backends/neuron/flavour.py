"""Which of the packages called torch-neuronx is installed, by metadata alone, and which chips it runs on.

Importing torch may load the native plugin and any XLA device reserves cores, so nothing is imported here.
Written against the documentation and source of SDK 2.33; not run on Neuron hardware by us. Sources: AWS Neuron
documentation, "TorchNeuron" component release notes and torch troubleshooting (2.33); announcements on XLA
inference, XLA training and Inf1 (2.30 to 2.32).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

EMULATED = "Private :: Emulator"
"""The classifier that a stand-in of torch-neuronx, for tests, carries in its metadata."""

RUNS_ON = {"native": ("trainium2", "trainium3"), "xla": ("inferentia2", "trainium1", "trainium2")}
"""Chips (ids of the catalog) that a flavour runs on."""

PIP = "pip install --extra-index-url https://pip.repos.neuron.amazonaws.com"
NATIVE = f"{PIP} 'torch-neuronx==2.14.*' 'neuronx-cc==2.*' nki"
XLA = f"{PIP} 'torch-neuronx==2.9.*' 'neuronx-cc==2.27.*'"
EITHER = f"on Trn2 and Trn3: {NATIVE}; on Inf2 and Trn1: {XLA}"

TRAINING_ON_XLA = "training on the XLA flavour: AWS has not supported it since SDK 2.30; it still runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """`name`: native, xla, or why there is none: placeholder, lite, broken, inf1, none.

    `reason` and `fix` are None for the first two alone. `emulated`: a stand-in for tests, so that what
    it measures is no measurement of a Neuron device.
    """

    name: str
    version: str | None = None
    reason: str | None = None
    fix: str | None = None
    emulated: bool = False

    @property
    def usable(self) -> bool:
        return self.reason is None


def flavour(path: Sequence[str] | None = None) -> Flavour:
    """Return the flavour that is installed in `path` (default: this interpreter's).

    The checks in their order, as AWS's troubleshooting page has them: 2.10 and above is native, 2.9 and
    below needs torch_xla and libneuronxla; development builds of the native one are numbered 0.1.0 and
    told by the folder that holds their compile backend.
    """
    found = _distribution("torch-neuronx", path)
    if found is None:
        return _without(path)
    version, emulated = found.version, EMULATED in (found.metadata.get_all("Classifier") or ())
    if version in ("1.0", "1.0.0"):
        return Flavour(name="placeholder", version=version,
                       reason=f"torch-neuronx {version} is the placeholder of the public PyPI, which holds no code",
                       fix=f"install it from AWS's package index, {EITHER}")
    number = _number(version)
    if number >= (2, 10) or _has_folder("torch_neuronx", "neuron_dynamo_backend", path):
        return _fitting(Flavour(name="native", version=version, emulated=emulated), number, path)
    missing = [name for name in ("torch_xla", "libneuronxla") if _spec(name, path) is None
               and not (emulated and name == "libneuronxla")]
    if missing:
        return Flavour(name="broken", version=version, emulated=emulated,
                       reason=f"torch-neuronx {version} is the XLA flavour, and {' and '.join(missing)} "
                              f"{'are' if len(missing) > 1 else 'is'} missing",
                       fix=f"install it whole: {XLA}")
    return _fitting(Flavour(name="xla", version=version, emulated=emulated), number, path)


def misfit(name: str, chip: str | None) -> tuple[str, str] | None:
    """Return why a flavour does not run on a chip (an id of the catalog) and what to do; None where it does.

    A chip that is not known is let through: the runtime will say.
    """
    if chip == "inferentia1":
        return ("this is Inferentia1 (Inf1), whose software ended with torch 1.13",
                "use an Inf2, Trn1, Trn2 or Trn3 instance")
    if chip is None or name not in RUNS_ON or chip in RUNS_ON[name]:
        return None
    if name == "native":
        return (f"native torch-neuronx runs on Trainium2 and Trainium3 only, and this is {chip}",
                f"install the XLA flavour: {XLA}")
    return (f"torch-neuronx on PyTorch/XLA does not run on {chip}",
            f"install the native flavour: {NATIVE}")


def _without(path: Sequence[str] | None) -> Flavour:
    """No distribution of that name."""
    lite = _distribution("libtorch-neuronx-lite", path)
    if lite is not None:
        return Flavour(name="lite", version=lite.version,
                       reason="only libtorch-neuronx-lite is installed, the private runtime of vLLM's plugin, which "
                              "neither trains nor runs models of torch at large",
                       fix=f"make an environment of its own (python3 -m venv) and in it, {EITHER}")
    old = _distribution("torch-neuron", path)
    if old is not None:
        return Flavour(name="inf1", version=old.version,
                       reason=f"torch-neuron {old.version} is the Inf1 package, archived with torch 1.13",
                       fix=EITHER)
    return Flavour(name="none", reason="torch-neuronx is not installed",
                   fix=EITHER)


def _fitting(found: Flavour, number: tuple[int, int], path: Sequence[str] | None) -> Flavour:
    """The flavour, or "broken" where torch is not of its own major and minor number."""
    torch = _distribution("torch", path)
    wanted = f"{number[0]}.{number[1]}"
    if number < (2, 0) or (torch is not None and _number(torch.version) == number):
        return found
    return Flavour(name="broken", version=found.version, emulated=found.emulated,
                   reason=f"torch-neuronx {found.version} needs torch {wanted}, and "
                          f"{f'torch {torch.version}' if torch else 'no torch'} is installed",
                   fix=f"pip install 'torch=={wanted}.*', or the torch-neuronx of the same number as torch")


def _distribution(name: str, path: Sequence[str] | None) -> metadata.Distribution | None:
    found = metadata.distributions(name=name) if path is None else metadata.distributions(name=name, path=list(path))
    return next(iter(found), None)


def _number(version: str) -> tuple[int, int]:
    """(2, 13) of "2.13.3.0+abc"; (0, 0) where it begins otherwise."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Where a top-level module is; it is not imported."""
    return find_spec(name) if path is None else PathFinder.find_spec(name, path)


def _has_folder(package: str, folder: str, path: Sequence[str] | None) -> bool:
    spec = _spec(package, path)
    return any((Path(place) / folder).is_dir() for place in (spec and spec.submodule_search_locations) or ())
