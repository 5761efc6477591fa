"""The native flavour of Neuron (TorchNeuron, Trn2 and Trn3): device "neuron", eager or torch.compile.

Written against the documentation and source of SDK 2.33; not run on Neuron hardware by us. Sources: AWS
Neuron documentation 2.33, "PyTorch" guides (torch.compile, memory profiling, best practices) and reference
(environment variables, memory management); public source of torch-neuronx before its release (0.1.0, April
2026: neuron.py, metrics.py, neuron_dynamo_backend), whose names may have moved since. So a counter or list
that is missing is unknown, with a warning, and never 0.

Imported by `open` alone, in the child: torch is at home here.
"""

from __future__ import annotations

import importlib
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.backends._eager import EagerDevice, dynamo_graphs
from bench.backends.neuron.facts import NO_JOULES, facts
from bench.backends.neuron.flavour import Flavour
from bench.backends.neuron.watch import Watch
from bench.case import Case
from bench.catalog.chips import chip, peak_flops_per_second
from bench.contracts import Device, Program, Settings, Work
from bench.errors import CaseFailed
from bench.machine.neuron import device_memory

PROOFS = 3  # waits of each prepared program that are held against a read-back; the first also compiles one
UNWAITED_SHARE, UNWAITED_LEAST_NS = 0.1, 1e6
CACHE = "TORCH_NEURONX_NEFF_CACHE_DIR"
COUNTERS = "CompilationCache."


def open_device(case: Case, settings: Settings, flavour: Flavour) -> Device:
    """Open the one logical core that `neuron` means in this process.

    CaseFailed where the package that was imported is not the native one, or sees no core.
    """
    return NativeDevice(case, settings, flavour, confirmed(compiling=settings["compile"] != "off"))


def confirmed(*, compiling: bool) -> Any:
    """Return torch_neuronx if it is the native one; CaseFailed with what tells it is not.

    `torch.neuron` alone proves nothing: two other packages make one. dynamo is asked for its backends
    only where one will be used: to import it takes seconds.
    """
    try:
        torch_neuronx = importlib.import_module("torch_neuronx")
    except ImportError as error:
        raise CaseFailed("failed", f"torch_neuronx does not import: {error}") from error
    device = torch._C._get_privateuse1_backend_name()
    wrong = None
    if device != "neuron":
        wrong = f"the device it brings is called {device!r}, not 'neuron'"
    elif not hasattr(torch_neuronx, "device_count"):
        wrong = "it has no device_count()"
    elif torch_neuronx.device_count() < 1:
        wrong = "it sees no logical core: NEURON_RT_VISIBLE_CORES says which, neuron-ls who holds them"
    elif compiling:
        from torch import _dynamo

        if "neuron" not in _dynamo.list_backends(exclude_tags=()):
            wrong = "it brings torch.compile no backend 'neuron'"
    if wrong:
        raise CaseFailed("failed", f"torch_neuronx is not the native flavour, or not whole: {wrong}")
    return torch_neuronx


class NativeDevice(EagerDevice):
    """A `bench.contracts.Device`. Random tensors come from the host: `aten::normal_` is known to fall back."""

    whole_graphs = True

    def __init__(self, case: Case, settings: Settings, flavour: Flavour, package: Any) -> None:
        super().__init__(case, "neuron")
        self._settings, self._package = settings, package
        self._facts = facts(flavour)
        folder = Path(os.environ.get(CACHE, ""))
        self._found_cache = bool(folder.name) and folder.is_dir() and any(folder.iterdir())
        self._metrics = _metrics()
        self._proof, self._watch = _Proof(self), Watch()
        self._fallbacks: list[str] | None = None
        torch.neuron.synchronize()
        self._baseline_bytes = int(torch.neuron.memory_allocated())

    # ---- what is timed

    def compiled(self, module: nn.Module) -> Callable[..., Any]:
        """One graph of fixed shapes, or an error; the backend writes into `options`, so each call has its own."""
        if self._settings["compile"] == "off":
            return module
        name = f"{self.case.workload}-{self.case.size}"
        return torch.compile(module, backend="neuron", fullgraph=True, dynamic=False, options={"model_name": name})

    def prepare(self, module: nn.Module, example: Sequence[Tensor], work: Work, *,
                plain: bool = False) -> Callable[..., Any]:
        return self._proof.of(super().prepare(module, example, work, plain=plain))

    def prepare_training(self, program: Program, work: Work) -> Callable[[], Any]:
        return self._proof.of(super().prepare_training(program, work))

    def backward(self, loss: Tensor) -> None:
        """CaseFailed where a gradient would be sparse and the device has no sparse tensors."""
        try:
            super().backward(loss)
        except NotImplementedError as error:
            if "Sparse" not in str(error):
                raise
            raise CaseFailed("unsupported", "the device has no sparse tensors, and a gradient is one: use dense "
                                            "gradients (for dlrm: --option sparse_gradients=false)") from error

    def wait(self) -> None:
        """torch.neuron.synchronize(), proven on the first waits of each program by reading back its output.

        Where it was seen to return early, every wait reads back, and the report warns.
        """
        torch.neuron.synchronize()
        self._proof.read_back()

    # ---- what is seen

    def reset_peak_memory(self) -> None:
        """Forget the peak and the operators so far: after this comes the timed part."""
        torch.neuron.synchronize()
        torch.neuron.reset_peak_memory_stats()
        if hasattr(self._package, "clear_op_tracking"):
            self._package.clear_op_tracking()
        self._watch.start()

    def peak_memory_bytes(self) -> tuple[int | None, str]:
        """Peak of tensors, of the one core; also keeps what fell back, as this ends the timed part.

        CaseFailed where the device was at fault meanwhile.
        """
        torch.neuron.synchronize()
        self._watch.end()
        if hasattr(self._package, "get_fallback_ops"):
            self._fallbacks = sorted(set(map(str, self._package.get_fallback_ops())))
        peak = int(torch.neuron.max_memory_allocated()) - self._baseline_bytes
        return max(0, peak), ("torch.neuron.max_memory_allocated of the timed part: tensors alone; programs and "
                              "scratch space are in device.sysfs_peak_bytes")

    def ceiling_flops_per_second(self) -> tuple[float | None, str]:
        return ceiling(self._facts, self.case.dtype, os.environ.get("NEURON_CC_FLAGS", ""))

    def compiles(self) -> int:
        """Graphs traced, programs compiled and programs loaded from the cache: what no timed step may pay for."""
        return self._graphs() + sum(self._programs().values())

    def report(self) -> dict[str, Any]:
        """With the driver's peak of the fullest physical core beside: over all processes since it was loaded."""
        torch.neuron.synchronize()
        peaks = [core["peak_bytes"] for core in device_memory() if core["peak_bytes"] is not None]
        device = {"kind": "neuron", **self._facts, **used(self._facts, self.case.ranks),
                  "sysfs_peak_bytes_per_core": max(peaks, default=None), "monitor": self._watch.seen}
        return {"device": device,
                "compile": {"cache": self._cache(), "traced": self._graphs(), **self._programs()},
                "fallbacks": self._fallen(), "energy": NO_JOULES,
                "warnings": self._warnings() + self._watch.warnings}

    def close(self) -> None:
        self._watch.stop()
        super().close()

    def _graphs(self) -> int:
        """Graphs that torch.compile made: the package's own list (forward and backward apart), else dynamo's count."""
        if self._settings["compile"] == "off":
            return 0
        if hasattr(self._package, "get_dynamo_metrics"):
            return len(self._package.get_dynamo_metrics())
        return dynamo_graphs()

    def _programs(self) -> dict[str, int]:
        """Programs (a graph, or an eager operator of given shapes) by where they came from; {} where nobody counts."""
        names = {"compiled": ("TotalCompilations", "PersistentMisses"), "loaded": ("PersistentHits",)}
        found: dict[str, int] = {}
        for key, counters in names.items():
            values = (self._metrics.get_counter_value(COUNTERS + name) for name in counters if self._metrics)
            known = [int(value) for value in values if value is not None]
            found |= {key: max(known)} if known else {}
        return found

    def _cache(self) -> str:
        """warm where most programs were found in the cache, else cold; uncounted: whether its folder held any."""
        programs = self._programs()
        if not programs:
            return "warm" if self._found_cache else "cold"
        return "warm" if programs.get("loaded", 0) > programs.get("compiled", 0) else "cold"

    def _fallen(self) -> dict[str, Any]:
        """Operators that ran on the CPU in the timed part: which, as the package keeps a set of names."""
        if self._fallbacks is None:
            return {"operators": None, "reason": "this torch-neuronx has no get_fallback_ops()"}
        return {"operators": dict.fromkeys(self._fallbacks), "runs": None,
                "reason": "torch-neuronx says which operators fell back, and not how often"} if self._fallbacks else {}

    def _warnings(self) -> list[str]:
        warnings = []
        if self._fallbacks:
            names = ", ".join(self._fallbacks[:5])
            warnings.append(f"{len(self._fallbacks)} operator(s) fell back to the CPU in the timed part ({names}): "
                            "this is no measurement of the Neuron device alone")
        if not self._programs():
            warnings.append("this torch-neuronx counts no compilations: one inside the timed part would not be seen")
        if self._proof.early:
            warnings.append("torch.neuron.synchronize() returned before the work was done: every wait read an "
                            "output back instead, which adds a copy to each round")
        return warnings


class _Proof:
    """Holds the device's wait against a read-back of one element of what was computed.

    Of each prepared program by itself: the canary's, which run first, say nothing of the case's.
    """

    def __init__(self, device: NativeDevice) -> None:
        self._device = device
        self._output: Tensor | None = None  # held only until it is read: it is memory
        self._called_ns = 0
        self._waits: list[bool] = []  # of the program that made the output: whether each proven wait came too early
        self.early = False

    def of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, its outputs noted while its waits are to be proven."""
        waits: list[bool] = []

        def noted_call(*inputs: Tensor) -> Any:
            if len(waits) == PROOFS and not self.early:
                return call(*inputs)
            self._called_ns = time.perf_counter_ns()
            output = call(*inputs)
            self._output = output[0] if isinstance(output, (tuple, list)) else output
            self._waits = waits
            return output

        return noted_call

    def read_back(self) -> None:
        """Read the last output's first element, twice while proving: what the first takes longer was not waited for."""
        if self._output is None or not isinstance(self._output, Tensor):
            return
        first = self._output[(slice(0, 1),) * self._output.dim()]
        torch.neuron.synchronize()  # for the slice, should it be work; a wait that waits for nothing stays one
        waited_ns = time.perf_counter_ns()
        self._device.read(first)
        if len(self._waits) < PROOFS:
            read_ns = time.perf_counter_ns()
            self._device.read(first)
            unwaited_ns = 2 * read_ns - waited_ns - time.perf_counter_ns()
            whole_ns = read_ns - self._called_ns
            self._waits.append(unwaited_ns > max(UNWAITED_SHARE * whole_ns, UNWAITED_LEAST_NS))
            self.early = self.early or (len(self._waits) == PROOFS and all(self._waits))
        self._output = None


def used(known: Mapping[str, Any], cores: int) -> dict[str, Any]:
    """Return the chips that so many logical cores take, and what share of those chips they are; None where unknown."""
    here, cores_here, lnc = known.get("chips_here"), known.get("cores_here"), known.get("lnc")
    physical = chip(known["chip"]).cores if known.get("chip") else None
    each = physical / lnc if physical and lnc else cores_here / here if here and cores_here else None
    chips = math.ceil(cores / each) if each else 1 if cores == 1 else None
    return {"chips": chips, "cores": cores, "share_of_chips": cores / (chips * each) if chips and each else None}


def ceiling(known: Mapping[str, Any], dtype: str, flags: str) -> tuple[float | None, str]:
    """Return the dense peak of the one logical core in FLOP/s with its source, or None and why there is none.

    A logical core is `lnc` of the chip's physical ones. With --auto-cast, float32 is multiplied as bf16.
    """
    name, lnc = known.get("chip"), known.get("lnc")
    if name is None:
        return None, "the chip is unknown"
    cast = re.search(r"--auto-cast[= ](matmult|all)", flags)
    peak, source = peak_flops_per_second(name, "bf16" if cast and dtype == "fp32" else dtype)
    cores = chip(name).cores
    if peak is None:
        return None, source
    if not cores or not lnc:
        return None, f"how many of the chip's cores a logical core joins is unknown; {source}"
    return peak * lnc / cores, f"{lnc} of {cores} cores; {source}"


def _metrics() -> Any:
    """The package's counters, switched on, or None where it has none."""
    try:
        metrics = importlib.import_module("torch_neuronx.metrics")
    except ImportError:
        return None
    if not hasattr(metrics, "get_counter_value"):
        return None
    if hasattr(metrics, "set_enabled"):
        metrics.set_enabled(True)
    return metrics
