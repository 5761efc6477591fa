"""The open GPU: placing, compiling, timing by two clocks, memory, and NVML's eyes on it while it works.

Written against the documentation and source of torch 2.9 to 2.13. The ROCm path: not run on AMD hardware by us.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bench.backends._eager import EagerDevice, compile_cache, dynamo_graphs
from bench.backends.cuda import GRAPHS
from bench.backends.cuda.fp8 import Fp8Linear, Fp8Product, converted
from bench.case import Case
from bench.catalog.chips import chip_id_of, peak_flops_per_second
from bench.contracts import Program, Settings, Work
from bench.errors import CaseFailed
from bench.machine import nvidia
from bench.machine.nvidia import Gpu, Slice

LOSS_SCALE = 2.0**10
"""amp-fp16's first. With torch's own, 65536, the first steps of a model may overflow and be skipped, and a loss
curve with steps left out is not the reference's. Source: NVIDIA, "Train with mixed precision", choosing
a scaling factor: 8 to 32 K have served.
"""

READ_AT_ONCE = ("offline", "single-stream")
"""Scenarios in which every output is read, or dropped, before the next run of the same CUDA graph."""

CLOCKS_AGREE = 0.02
HELD_BACK = ("hardware slowdown", "software thermal slowdown", "hardware thermal slowdown", "power brake")
HELD_SHARE = 0.05
"""Of the looks. Reasons that a healthy GPU in a healthy machine does not show; a power cap is none of them."""


class CudaDevice(EagerDevice):
    """The first GPU, or MIG slice, that CUDA shows. `settings`: compile (off or a mode), layout."""

    _tf32_of_open: ClassVar[list[bool]] = []

    def __init__(self, case: Case, settings: Settings) -> None:
        _require_gpu()
        tf32 = case.dtype == "tf32"
        if (not tf32) in self._tf32_of_open:
            raise CaseFailed("unsupported", "TF32 is on or off for a whole process: tf32 cannot alternate with another "
                                            "number format; run the two cases after each other")
        float32_products(tf32=tf32)
        torch.backends.cudnn.benchmark = True  # shapes never change, so the quickest convolution is worth finding
        super().__init__(case, "cuda:0", channels_last=settings["layout"] == "channels_last")
        self._tf32_of_open.append(tf32)
        self._open.callback(self._tf32_of_open.remove, tf32)
        self._mode = str(settings["compile"])
        self._cache = compile_cache() if self._mode != "off" else None
        self._late_compiles = 0
        if self._mode != "off":
            self._listen()
        self._about = torch.cuda.get_device_properties(0)
        self._gpu, self._slice, self._unseen = seen_by_nvml(getattr(self._about, "uuid", None))
        self._watch: nvidia.Sampler | None = None
        self._fp8: dict[str, int] | None = None
        self._scaler = torch.amp.GradScaler("cuda", init_scale=LOSS_SCALE) if (
            case.task == "training" and case.dtype == "amp-fp16") else None
        self._optimizer: torch.optim.Optimizer | None = None
        self._start: tuple[torch.cuda.Event, int] | None = None
        self._seconds: dict[str, float] | None = None
        self._reserved_bytes: int | None = None
        self._baseline_bytes = torch.cuda.memory_allocated(0)

    # ---- what runs

    def place(self, model: nn.Module) -> nn.Module:
        """As ever; in fp8 the linear layers are converted once, as a trial hands its model to the next."""
        if self.case.dtype != "fp8":
            return super().place(model)
        if any(isinstance(layer, Fp8Linear) for layer in model.modules()):
            return model
        placed, layers = converted(super().place(model))
        self._fp8 = self._fp8 or layers  # the case's own model comes first, the canary's after it
        if not layers["fp8"]:
            raise CaseFailed("unsupported", "fp8 is for nn.Linear with sides that are multiples of 16, and this model "
                                            "has none: use bf16")
        return placed

    def compiled(self, module: nn.Module) -> Callable[..., Any]:
        return module if self._mode == "off" else torch.compile(module, dynamic=False, mode=self._mode)

    def prepare(self, module: nn.Module, example: Sequence[Tensor], work: Work, *,
                plain: bool = False) -> Callable[..., Any]:
        """As ever; the canary's fp8 input is rounded once, and a CUDA graph's outputs are copied where the next run
        would overwrite one still in use.

        A token that one decode step gives is the next one's input. Source: torch documentation, CUDAGraph Trees.
        """
        if plain and isinstance(module, Fp8Linear):
            module = Fp8Product(module, example[0])
        call = super().prepare(module, example, work, plain=plain)
        if plain or self._mode not in GRAPHS or self.case.scenario in READ_AT_ONCE:
            return call

        def cloning_call(*inputs: Tensor) -> Any:
            output = call(*inputs)
            return [one.clone() for one in output] if isinstance(output, (tuple, list)) else output.clone()

        return cloning_call

    def prepare_training(self, program: Program, work: Work) -> Callable[[], Any]:
        """As ever, in modes with CUDA graphs without accumulation: a later micro-batch's run overwrites the
        gradients of the one before. Sources: https://github.com/pytorch/pytorch/issues/169545 and 96693.
        """
        if self._mode in GRAPHS and program.accumulate > 1:
            raise CaseFailed("unsupported", f"torch.compile's {self._mode} runs CUDA graphs, which overwrite gradients "
                                            "that accumulate: use --compile-mode default")
        return super().prepare_training(program, work)

    def backward(self, loss: Tensor) -> None:
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        if self._scaler is None:
            optimizer.step()
            return
        self._scaler.step(optimizer)
        self._scaler.update()

    def wait(self) -> None:
        """All streams of the GPU; the canary holds it to a read-back."""
        torch.cuda.synchronize()

    # ---- what is watched

    def reset_peak_memory(self) -> None:
        """The timed part begins: forget the peak, start NVML's looks and CUDA's own clock."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats(0)
        if self._gpu:
            self._watch = nvidia.Sampler([self._gpu.index], in_slices=self._slice is not None)
            self._watch.start()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._start = event, self.clock_ns()

    def peak_memory_bytes(self) -> tuple[int | None, str]:
        """The timed part is over: stop both, and return the peak of what torch's allocator gave out.

        Torch counts what CUDA graphs work in as free once they are recorded, though nobody else may have
        it: those pools count whole. Source: torch.cuda.memory_snapshot, segment_pool_id.
        """
        if self._start:
            self._seconds = _by_two_clocks(*self._start, now_ns=self.clock_ns())
        if self._watch:
            self._watch.stop()
        self._reserved_bytes = torch.cuda.max_memory_reserved(0)
        peak = torch.cuda.max_memory_allocated(0)
        graphs = graph_pools_bytes(torch.cuda.memory_snapshot()) if self._mode in GRAPHS else 0
        with_graphs = ", with CUDA graphs' pools whole" if graphs else ""
        return (max(0, peak + graphs - self._baseline_bytes),
                f"torch.cuda.max_memory_allocated of the timed part{with_graphs}, net of that at open; "
                "device.peak_reserved_bytes has what was reserved")

    def ceiling_flops_per_second(self) -> tuple[float | None, str]:
        """The catalog's dense peak; a slice's is below its whole GPU's, which is a bound all the same."""
        chip = chip_id_of(self._name)
        if chip is None:
            return None, f"no chip of the catalog is called exactly {self._name!r}"
        peak, source = peak_flops_per_second(chip, self.case.dtype)
        return peak, f"{source}; the whole GPU's, of which this is a slice" if self._slice else source

    def compiles(self) -> int:
        """Graphs of dynamo's, and what compiles after it: backward graphs, and each recording of a CUDA graph."""
        return dynamo_graphs() + self._late_compiles

    def report(self) -> dict[str, Any]:
        watched = self._watch.summary() if self._watch else None
        found = {"device": self._device(), "compile": {"cache": self._cache} | self._compile_facts(), "fallbacks": {},
                 "energy": self._energy(watched), "warnings": self._all_warnings(watched)}
        if watched:
            found["watch"] = {key: watched[key] for key in ("gpus", "samples", "period_s", "reason")}
        return found

    def close(self) -> None:
        """Give back what torch keeps for later, so that the next trial finds the GPU as this one did."""
        if self._watch:
            self._watch.stop()
        super().close()
        if self._mode != "off":
            torch._dynamo.reset()
        gc.collect()
        torch.cuda.empty_cache()

    # ---- parts of the report

    def _device(self) -> dict[str, Any]:
        gpu, about, ranks = self._gpu, self._about, self.case.ranks
        driver = nvidia.driver() if gpu else {"driver": None, "cuda": None}
        return {"kind": "rocm" if torch.version.hip else "cuda", "name": about.name, "chip": chip_id_of(self._name),
                # A slice is no whole chip, and NVML's fraction of it is one of compute alone.
                "chips": None if self._slice else ranks, "multiprocessors": ranks * about.multi_processor_count,
                "compute_capability": f"{about.major}.{about.minor}", "memory_total_bytes": about.total_memory,
                "architecture": getattr(about, "gcnArchName", None),
                "slice": self._slice and self._slice.facts(), "power_limit_w": gpu and gpu.power_limit_w,
                "ecc": gpu and gpu.ecc, "persistence": gpu and gpu.persistence, "driver": driver["driver"],
                "driver_cuda": driver["cuda"], "cuda": torch.version.cuda, "rocm": torch.version.hip,
                "cudnn": torch.backends.cudnn.version(), "peak_reserved_bytes": self._reserved_bytes,
                "timed_part": self._seconds, "fp32_products": "tf32" if self.case.dtype == "tf32" else "ieee",
                "linear_layers": self._fp8, "optimizer": self._optimizer_facts(),
                "loss_scale": self._scaler.get_scale() if self._scaler else None}

    def _optimizer_facts(self) -> dict[str, Any] | None:
        if self._optimizer is None:
            return None
        return {"name": type(self._optimizer).__name__, "fused": bool(self._optimizer.defaults.get("fused"))}

    def _compile_facts(self) -> dict[str, Any]:
        if self._mode == "off":
            return {}
        from torch._dynamo.utils import counters

        return {"mode": self._mode, "graph_breaks": sum(counters["graph_break"].values()),
                "cuda_graphs_skipped": counters["inductor"]["cudagraph_skips"] if self._mode in GRAPHS else None}

    def _energy(self, watched: Mapping[str, Any] | None) -> dict[str, Any]:
        """Joules of the timed part, of the whole GPU with its memory and of nothing else."""
        if watched is None:
            return {"joules": None, "method": None, "reason": self._unseen or "it was not watched"}
        energy: dict[str, Any] = dict(watched["energy"])
        if self._slice:
            energy |= {"joules": None, "reason": "NVML counts the whole GPU, and this was a slice of it"}
        return energy

    def _all_warnings(self, watched: Mapping[str, Any] | None) -> list[str]:
        found = [f"power, clocks and other processes are unknown: {self._unseen}"] if self._unseen else []
        found += [*(watched["warnings"] if watched else []), *held_back(watched)]
        if self._seconds and abs(self._seconds["cuda"] / self._seconds["host"] - 1) > CLOCKS_AGREE:
            found.append(f"the clocks disagree: the timed part took {self._seconds['host']:.4g} s by the host's and "
                         f"{self._seconds['cuda']:.4g} s by CUDA's events")
        if self.case.dtype in ("bf16", "amp-bf16") and self._about.major < 8 and not torch.version.hip:
            found.append(f"{self._about.name} has no bf16 in hardware: it is emulated; fp16 is this GPU's format")
        if self._compile_facts().get("cuda_graphs_skipped"):
            found.append(f"{self._mode}: CUDA graphs were skipped in part or whole (TORCH_LOGS=cudagraphs says why)")
        if self._scaler and self._scaler.get_scale() < LOSS_SCALE:
            found.append(f"the loss scale fell from {LOSS_SCALE:g} to {self._scaler.get_scale():g}: steps were skipped")
        return found

    # ---- helpers

    def _listen(self) -> None:
        """Count what torch compiles later than dynamo does: a private door of torch's, there in 2.9 to 2.13."""
        from torch._dynamo.callback import CallbackArgs, CallbackTrigger, callback_handler
        from torch._inductor import compile_fx  # noqa: F401 - the compiler is no part of the model

        def compiling(event: CallbackArgs) -> None:
            self._late_compiles += event.callback_trigger is not CallbackTrigger.DYNAMO

        callback_handler.register_start_callback(compiling)

    @property
    def _name(self) -> str:
        """NVML's name of the whole GPU, by which the catalog knows chips; without NVML torch's, which is the same."""
        return (self._gpu.name if self._gpu else None) or str(self._about.name)


def float32_products(*, tf32: bool) -> None:
    """Have float32 matrix products and convolutions computed in TF32, or in true float32 (torch's default for
    convolutions is TF32). CaseFailed where torch does not do as it is told.

    By the older of torch's two ways: after the newer one (fp32_precision = "tf32") inductor's autotuning
    fails in torch 2.9 to 2.13, as it still asks the older. Sources: torch, notes/cuda, TensorFloat-32;
    https://github.com/pytorch/pytorch/issues/166387.
    """
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    found = {"matmul": torch.backends.cuda.matmul.fp32_precision, "conv": torch.backends.cudnn.conv.fp32_precision}
    wrong = [f"{what} is {how}" for what, how in found.items() if (how == "tf32") != tf32]
    if wrong:
        raise CaseFailed("failed", f"TF32 could not be turned {'on' if tf32 else 'off'}: {', '.join(wrong)}")


def _require_gpu() -> None:
    """CaseFailed where torch has no GPU; what CUDA itself says of it goes to `explain`."""
    if torch.version.cuda is None and torch.version.hip is None:
        raise CaseFailed("failed", f"torch {torch.__version__} is built without CUDA: install one that has it "
                                   "(https://pytorch.org/get-started/locally)")
    if not torch.cuda.device_count():
        raise CaseFailed("failed", "torch sees no GPU: is its driver here, and is CUDA_VISIBLE_DEVICES right?")
    torch.cuda.init()


def seen_by_nvml(uuid: Any) -> tuple[Gpu | None, Slice | None, str | None]:
    """Return the GPU that CUDA calls 0 as NVML shows it, the slice of it that CUDA runs on (None: all of it), and
    why NVML cannot be asked (None: it can).

    By its UUID (a slice's, or its GPU's), as a number alone may be another GPU's; torch writes it
    without NVML's "GPU-".
    """
    if torch.version.hip:
        return None, None, "NVML knows no AMD GPU"
    found, reason = nvidia.gpus()
    for device in nvidia.visible(found, os.environ.get("CUDA_VISIBLE_DEVICES")):
        part = device if isinstance(device, Slice) else None
        whole = next(gpu for gpu in found if gpu is device or (part and gpu.index == part.gpu))
        if uuid is None or any(one and one.endswith(str(uuid)) for one in (device.uuid, whole.uuid)):
            return whole, part, None
    return None, None, reason or "NVML shows no GPU of the UUID that CUDA runs on"


def _by_two_clocks(start: torch.cuda.Event, start_ns: int, *, now_ns: int) -> dict[str, float]:
    """Seconds since `start` by the host's clock, read before, and by the GPU's own, read once its work is done."""
    end = torch.cuda.Event(enable_timing=True)
    end.record()
    end.synchronize()
    return {"host": (now_ns - start_ns) / 1e9, "cuda": start.elapsed_time(end) / 1e3}


def graph_pools_bytes(segments: Sequence[Mapping[str, Any]]) -> int:
    """Bytes of private pools that no tensor holds, which `max_memory_allocated` therefore leaves out."""
    return sum(segment["total_size"] - segment["allocated_size"] for segment in segments
               if tuple(segment["segment_pool_id"]) != (0, 0))


def held_back(watched: Mapping[str, Any] | None) -> list[str]:
    """Heat, or a failing supply, from the start on: no fall of the clock shows then."""
    return [f"GPU {gpu['index']} was held back in {share:.0%} of the looks: {reason}".replace("%", " %")
            for gpu in (watched or {}).get("gpus", []) for reason, share in (gpu["clock_reasons"] or {}).items()
            if reason in HELD_BACK and share > HELD_SHARE]
