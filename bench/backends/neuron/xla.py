"""torch-neuronx on PyTorch/XLA (2.9 and below; Inf2, Trn1, Trn2): traced graphs, and lazy execution.

Written against the documentation and source of SDK 2.33; not run on Neuron hardware by us. Sources: AWS Neuron
documentation, "PyTorch NeuronX Tracing API for Inference", "PyTorch NeuronX DataParallel API" and its application
note, "Neuron Persistent Cache"; torch-neuronx 1.13, xla_impl/data_parallel.py; for lazy execution see
`bench.backends._lazy`.

Imported by `open` alone, in the child: torch is at home here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock
from torch import Tensor, nn

from bench.backends._cache import is_address
from bench.backends._eager import AUTOCAST, EagerDevice
from bench.backends._lazy import LazyDevice
from bench.backends.neuron.facts import NO_JOULES, facts
from bench.backends.neuron.flavour import TRAINING_ON_XLA, Flavour
from bench.backends.neuron.native import ceiling, used
from bench.backends.neuron.start import one_at_a_time
from bench.backends.neuron.watch import Watch
from bench.case import Case
from bench.contracts import Device, Settings, Work
from bench.errors import CaseFailed
from bench.machine.neuron import VISIBLE, core_numbers, device_memory

CACHE = "NEURON_COMPILE_CACHE_URL"
NOT_THE_COMPILERS = ("--cache_dir", "--no_cache", "--retry_failed_compilation")
"""Words of NEURON_CC_FLAGS that the cache takes for itself: `trace` hands its arguments to neuronx-cc alone."""

WORKERS_PER_CORE = 2
"""Threads of DataParallel, as its documentation has the default."""

CANARY = "canary"
"""Whose a kept trace is that is no case's."""

CLOCKS_APART_S = 0.1
"""The clock of files is coarse."""


def open_device(case: Case, settings: Settings, flavour: Flavour) -> Device:
    """Open the cores of this process: traced models on one or several, or one as a lazy device.

    CaseFailed where torch_xla computes on anything but Neuron (PJRT's CPU with the stand-in of the tests).
    """
    if settings["mode"] == "trace":
        return TraceDevice(case, settings, flavour)
    return NeuronLazyDevice(case, flavour)


class NeuronLazyDevice(LazyDevice):
    """One logical core, in lazy execution: all training, and models that keep state between calls."""

    def __init__(self, case: Case, flavour: Flavour) -> None:
        self._facts = facts(flavour)
        self._driver, self._neffs = _Driver(self._facts["lnc"]), _Neffs()
        super().__init__(case, "CPU" if flavour.emulated else "NEURON")

    def reset_peak_memory(self) -> None:
        super().reset_peak_memory()
        self._driver.start()

    def peak_memory_bytes(self) -> tuple[int | None, str]:
        """PJRT's own figure where it has one (unknown on Neuron), else the driver's."""
        drivers = self._driver.peak_bytes()
        peak, method = super().peak_memory_bytes()
        return (peak, method) if peak is not None else drivers

    def ceiling_flops_per_second(self) -> tuple[float | None, str]:
        return ceiling(self._facts, self.case.dtype, os.environ.get("NEURON_CC_FLAGS", ""))

    def report(self) -> dict[str, Any]:
        found = super().report()
        found["device"] = {"kind": "neuron", **self._facts, **used(self._facts, self.case.ranks), **found["device"],
                           "monitor": self._driver.watch.seen}
        found["compile"] |= self._neffs.cache(self.compiles(), self._aside_s)
        found["energy"] = NO_JOULES
        if self.case.task == "training":
            found["warnings"].append(TRAINING_ON_XLA)
        found["warnings"] += self._driver.watch.warnings
        return found

    def close(self) -> None:
        self._driver.watch.stop()
        super().close()


class TraceDevice(EagerDevice):
    """Models traced and compiled whole: tensors live on the host, and a call takes them to the device and back.

    So host copies are inside the timed part, and a call has its result when it returns. With several cores
    `torch_neuronx.DataParallel` splits the batch among as many copies of a model traced for a part of it.
    A traced model is kept beside the compiler's cache, which does not hold graphs with inlined weights:
    the next process loads it, and that is what "warm" means here.
    """

    without_gradients = torch.no_grad  # tensors made in inference mode take no part in a trace

    def __init__(self, case: Case, settings: Settings, flavour: Flavour) -> None:
        if case.dtype in AUTOCAST:
            raise CaseFailed("unsupported", f"{case.dtype} is not offered for traced models: use bf16, or "
                                            "--backend-option mode=lazy")
        self._package = _package()
        self._facts = facts(flavour)
        self._driver = _Driver(self._facts["lnc"])
        self._cores = _how_many(settings.get("cores"))
        self.compiler_args = [flag for flag in shlex.split(os.environ.get("NEURON_CC_FLAGS", ""))
                              if not flag.startswith(NOT_THE_COMPILERS)]
        self._traced = self._loaded = 0
        self._started = False
        super().__init__(case, "cpu")

    def prepare(self, module: nn.Module, example: Sequence[Tensor], work: Work, *,
                plain: bool = False) -> Callable[..., Any]:
        """Trace the module for one core's part of the batch, or load it as an earlier process traced it.

        What is `plain` is the canary's: one for all cases, and its rows are filled up to a multiple of the cores.
        CaseFailed where a batch is no multiple of them. The first call starts the runtime.
        """
        uneven = next((len(tensor) for tensor in example if tensor.dim() and len(tensor) % self._cores), None)
        if self._cores > 1 and not plain and (uneven is not None or not all(t.dim() for t in example)):
            raise CaseFailed("unsupported", f"{self._cores} cores take equal parts of a batch along the first dimension"
                                            f"{f', and {uneven} is no multiple' if uneven else ''}: choose another "
                                            "--batch-size, or another cores=")
        part = [_filled(tensor, self._cores).chunk(self._cores)[0].contiguous() for tensor in example] \
            if self._cores > 1 else list(example)
        traced = self._kept_or_traced(module, part, whose=CANARY if plain else self.case.id)
        call = traced if self._cores == 1 else self._split(traced, None if uneven is None else len(example[0]))
        if not self._started:
            with one_at_a_time(self.case):
                call(*example)
            self._started = True
        return call

    def _split(self, traced: Any, rows: int | None) -> Callable[..., Any]:
        """A call of which each core takes its part; `rows`: those of a batch that must be filled up to parts.

        Without dynamic batching a call is one part a core, as it was compiled. Cores that follow one another are
        one module to DataParallel, which would have two threads call it: with fewer than cores, some would idle.
        """
        split = self._package.DataParallel(traced, device_ids=list(range(self._cores)), dim=0,
                                           set_dynamic_batching=False)
        split.num_workers = WORKERS_PER_CORE * self._cores
        if rows is None:
            return cast(Callable[..., Any], split)
        return lambda *inputs: split(*(_filled(tensor, self._cores) for tensor in inputs))[:rows]

    def prepare_training(self, *_: Any) -> Callable[[], Any]:
        raise CaseFailed("unsupported", "a traced graph does not train: use mode=lazy")

    def wait(self) -> None:
        """Nothing to wait for: a traced model's result is in host memory when its call returns."""

    def reset_peak_memory(self) -> None:
        """Here the timed part begins; the driver's peak goes on until somebody clears it."""
        self._driver.start()

    def peak_memory_bytes(self) -> tuple[int | None, str]:
        return self._driver.peak_bytes()

    def ceiling_flops_per_second(self) -> tuple[float | None, str]:
        peak, source = ceiling(self._facts, self.case.dtype, os.environ.get("NEURON_CC_FLAGS", ""))
        return (None if peak is None else peak * self._cores), f"{self._cores} logical cores, each {source}"

    def compiles(self) -> int:
        """The case's own graphs, traced or loaded; the canary's, before and after the timed part, are none."""
        return self._traced + self._loaded

    def report(self) -> dict[str, Any]:
        return {"device": {"kind": "neuron", **self._facts, **used(self._facts, self._cores * self.case.ranks),
                           "execution": "trace", "compiler_args": self.compiler_args,
                           "inputs": "on the host: copies to and from the device are inside the timed part",
                           "monitor": self._driver.watch.seen},
                "compile": {"cache": "warm" if self._loaded and not self._traced else "cold",
                            "traced": self._traced, "loaded": self._loaded},
                "fallbacks": {}, "energy": NO_JOULES, "warnings": list(self._driver.watch.warnings)}

    def close(self) -> None:
        self._driver.watch.stop()
        super().close()

    def _trace(self, module: nn.Module, example: Sequence[Tensor]) -> Any:
        return self._package.trace(module, tuple(example), compiler_args=self.compiler_args)

    def _kept_or_traced(self, module: nn.Module, example: Sequence[Tensor], *, whose: str) -> Any:
        """Of two processes that miss the same one at once, one traces and the other loads what that has kept."""
        path = self._path(module, example, whose)
        if path is None:
            return self._noted(self._trace(module, example), whose, loaded=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.exists():
                return self._noted(torch.jit.load(path), whose, loaded=True)
            traced = self._trace(module, example)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
                torch.jit.save(traced, file.name)
            os.replace(file.name, path)  # whole or not at all, should this be killed
        return self._noted(traced, whose, loaded=False)

    def _noted(self, traced: Any, whose: str, *, loaded: bool) -> Any:
        if whose != CANARY:
            self._loaded, self._traced = self._loaded + loaded, self._traced + (not loaded)
        return traced

    def _path(self, module: nn.Module, example: Sequence[Tensor], whose: str) -> Path | None:
        """Where a traced module is kept; None where the cache is no folder. The case stands for the weights."""
        url = os.environ.get(CACHE, "")
        if not url or is_address(url):
            return None
        known = [whose, type(module).__name__, [[str(t.dtype), *t.shape] for t in example], self.compiler_args,
                 self._facts["packages"], self._facts["chip"], self._facts["lnc"]]
        return Path(url) / "traced" / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]}.pt"


class _Neffs:
    """The compiler's cache since this was made: libneuronxla keeps each graph that it compiles as a `model.neff`."""

    def __init__(self) -> None:
        flags = os.environ.get("NEURON_CC_FLAGS", "")
        told = re.search(r"--cache_dir[= ](\S+)", flags)  # it wins over the variable
        self._url = (told[1] if told else os.environ.get(CACHE, "")).removeprefix("file://")
        self._kept = bool(self._url) and "--no_cache" not in flags
        self._before = set(self._files())

    def cache(self, graphs: int, aside_s: Sequence[tuple[float, float]]) -> dict[str, Any]:
        """Return {"cache"} warm where all of a case's `graphs` were found, cold where one was compiled anew, else
        None with the reason. A NEFF written while others were compiled (`aside_s`, from and to) is none of the case's.
        """
        if not graphs:
            return {"cache": None, "cache_unknown": "nothing was compiled"}
        if self._kept and is_address(self._url):
            return {"cache": None, "cache_unknown": f"what {CACHE}={self._url} holds is not looked into"}
        anew = [written_s for path, written_s in self._files().items() if path not in self._before]
        own = [at_s for at_s in anew if not any(begun_s - CLOCKS_APART_S <= at_s <= ended_s + CLOCKS_APART_S
                                                for begun_s, ended_s in aside_s)]
        return {"cache": "warm" if self._before and not own else "cold"}

    def _files(self) -> dict[Path, float]:
        """NEFFs and when each was written, by time.time()."""
        if not self._kept or is_address(self._url):
            return {}
        return {path: path.stat().st_mtime for path in Path(self._url).rglob("*.neff")}


class _Driver:
    """What the driver shows of the timed part: the watch, and device memory.

    It keeps a peak a physical core, over all processes, until that is cleared.
    """

    def __init__(self, lnc: int | None) -> None:
        self._lnc = lnc
        self._before = self._peaks()
        self.watch = Watch()

    def start(self) -> None:
        self.watch.start()

    def peak_bytes(self) -> tuple[int | None, str]:
        """End the watch; return the peaks of this process's cores, None with the reason where they may be another's.

        CaseFailed where the device was at fault meanwhile.
        """
        self.watch.end()
        if not self._before:
            return None, "the Neuron driver shows no memory statistics here"
        if self._lnc is None:
            return None, "how many physical cores a logical one joins is unknown, and the driver counts those"
        logical = core_numbers(os.environ.get(VISIBLE, "")) or [
            int(core) for core in self.watch.seen.get("utilization_percent", {})]
        physical = sorted(self._before)
        own = [core for one in logical for core in physical[one * self._lnc:(one + 1) * self._lnc]]
        if not own:
            return None, f"neither {VISIBLE} nor neuron-monitor says which cores this process has"
        peaks = self._peaks()
        known = [peak for core in own if (peak := peaks.get(core)) is not None]
        if len(known) < len(own):
            return None, "the driver shows no memory statistics of a core of this process"
        if any(0 < (self._before[core] or 0) >= peak for core, peak in zip(own, known, strict=True)):
            return None, "the driver's peak of a core was not above that of an earlier process"
        return sum(known), (f"sysfs peaks of this process's {len(own)} physical cores, everything on them, canary "
                            "included")

    def _peaks(self) -> dict[tuple[int, int], int | None]:
        return {(core["device"], core["core"]): core["peak_bytes"] for core in device_memory()}


def _package() -> Any:
    """torch_neuronx with what traces; CaseFailed where it does not import or is another package."""
    try:
        import torch_neuronx
    except ImportError as error:
        raise CaseFailed("failed", f"torch_neuronx does not import: {error}") from error
    if not hasattr(torch_neuronx, "trace"):
        raise CaseFailed("failed", "torch_neuronx has no trace(): it is not the XLA flavour, or not whole")
    return torch_neuronx


def _how_many(cores: Any) -> int:
    """Cores of a setting: a number, or a range such as "4-7"."""
    return len(core_numbers(cores)) if isinstance(cores, str) else int(cores or 1)


def _filled(tensor: Tensor, parts: int) -> Tensor:
    """The tensor with as many rows of zeros behind that it falls into equal parts."""
    missing = -len(tensor) % parts
    return torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])]) if missing else tensor
