"""The CPU backend: eager or inductor, at the thread count and layout that a short trial finds best."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.backends import _cache
from bench.case import PARALLELISM, Case, Scalar
from bench.contracts import Device, Probe, Program, Settings
from bench.errors import CaseFailed
from bench.machine.cpu import cpu, usable_cores

if TYPE_CHECKING:
    from torch import nn

BF16_ISA = {"avx512_bf16", "amx_bf16", "bf16"}
COMPILE_MODES = ("auto", "off", "on", "inductor")


class CpuBackend:
    name = "cpu"
    tier = "measured"
    rank = 0
    options: Mapping[str, Scalar] = {"cache": _cache.OPTION}  # cold, warm or a folder: inductor's
    process_group = "gloo"

    def probe(self) -> Probe:
        facts = cpu()
        return Probe(available=True, devices=({"name": facts["model"], "cores": facts["usable_physical_cores"],
                                               "isa": facts["isa"]},))

    def refuse(self, case: Case) -> str | None:
        if case.dtype in ("tf32", "fp8", "amp-fp16"):
            return f"dtype {case.dtype} has no meaning on a CPU: use fp32, bf16, fp16 or amp-bf16"
        if case.dtype == "fp16" and case.task == "training":
            return "fp16 training needs loss scaling, which is not offered on CPU: use bf16 or amp-bf16"
        if case.compile not in COMPILE_MODES:
            return f"compile mode {case.compile!r} is not one of {', '.join(COMPILE_MODES)}"
        if case.compile in ("on", "inductor") and not _compiler():
            return "inductor needs a C++ compiler and none is on PATH: install g++, or pass --no-compile"
        if not PARALLELISM.fullmatch(case.parallelism):
            return f"parallelism {case.parallelism} is not offered on CPU: use dp=N"
        if case.ranks > _cores():
            return f"{case.parallelism} needs a core for each process, and {_cores()} are usable"
        return None

    def default_dtype(self, task: str, dtypes: Sequence[str]) -> str:
        """bf16 where the CPU multiplies it in hardware (autocast in training), else float32."""
        wanted = "amp-bf16" if task == "training" else "bf16"
        return wanted if BF16_ISA & set(cpu()["isa"] or ()) and wanted in dtypes else "fp32"

    def environment(self, case: Case, settings: Settings, scratch: str) -> dict[str, str]:
        threads = str(settings.get("threads") or _cores())
        kept = _cache.work_folder(case, scratch, self.name)
        return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": "",
                "TORCHINDUCTOR_CACHE_DIR": str(kept / "inductor"), "TORCHINDUCTOR_COMPILE_THREADS": "1",
                "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}

    def fixed(self, case: Case) -> dict[str, Any]:
        threads = max(1, _cores() // case.ranks) if case.threads == "auto" else case.threads
        return {"threads": threads, "layout": "contiguous",
                "compile": "inductor" if case.compile in ("on", "inductor") else "off"}

    def axes(self, case: Case, program: Program) -> Mapping[str, Sequence[Any]]:
        """Threads (physical cores, then halves down to 1), layout for convolutions, inductor.

        Ranks share the cores evenly: a trial of one by itself would not see the others.

        Inductor is tried for inference only, where frozen weights make it worth its compile time.
        """
        from bench.backends._eager import uses_convolution

        axes: dict[str, Sequence[Any]] = {}
        if case.threads == "auto" and case.ranks == 1:
            axes["threads"] = sorted({max(1, _cores() >> k) for k in range(4)} | {1}, reverse=True)
        if uses_convolution(program.model):
            axes["layout"] = ("contiguous", "channels_last")
        if case.compile == "auto" and case.task == "inference" and _compiler():
            axes["compile"] = ("off", "inductor")
        return axes

    def open(self, case: Case, settings: Settings) -> Device:
        return _device(case, settings)

    def explain(self, text: str) -> tuple[str, str] | None:
        return None  # host memory that runs out is told for every backend


def _device(case: Case, settings: Settings) -> Device:
    """Open the CPU with its threads set; the class needs torch, so it is made here."""
    import torch

    from bench.backends._eager import EagerDevice, compile_cache, dynamo_graphs
    from bench.machine import memory

    if settings["compile"] == "inductor" and not _compiler():
        raise CaseFailed("unsupported", "inductor needs a C++ compiler and none is on PATH")

    class CpuDevice(EagerDevice):
        def __init__(self) -> None:
            super().__init__(case, "cpu", channels_last=settings["layout"] == "channels_last")
            torch.set_num_threads(int(settings["threads"]))
            self._flushes = torch.set_flush_denormal(True)
            self._cache = compile_cache()
            if settings["compile"] != "off":
                from torch._inductor import compile_fx, config  # noqa: F401 - the compiler is no part of the model

                config.freezing = case.task == "inference"
            self._baseline_bytes = memory.rss_bytes()
            self._reset = False

        def compiled(self, module: nn.Module) -> Any:
            return module if settings["compile"] == "off" else torch.compile(module, dynamic=False)

        def reset_peak_memory(self) -> None:
            self._reset = memory.reset_peak()

        def peak_memory_bytes(self) -> tuple[int | None, str]:
            peak = memory.peak_rss_bytes()
            if peak is None or self._baseline_bytes is None:
                return None, "this system shows no resident-set high-water mark"
            since = "of the timed part" if self._reset else "since the process started"
            return max(0, peak - self._baseline_bytes), f"RSS high-water mark {since}, net of the RSS at open"

        def ceiling_flops_per_second(self) -> tuple[float | None, str]:
            return _ceiling(case.dtype)

        def compiles(self) -> int:
            return dynamo_graphs()

        def report(self) -> dict[str, Any]:
            facts = cpu()
            return {"device": {"kind": "cpu", "name": facts["model"], "chips": facts["sockets"],
                               "threads": case.ranks * torch.get_num_threads(), "flush_denormals": self._flushes},
                    "compile": {"cache": self._cache if settings["compile"] != "off" else None},
                    "fallbacks": {}, "energy": "host", "warnings": []}

        def close(self) -> None:
            torch.set_flush_denormal(False)
            super().close()

    return CpuDevice()


def _ceiling(dtype: str) -> tuple[float | None, str]:
    """FLOP/s that no CPU of this instruction set exceeds: cores x 6 GHz x FLOPs a cycle.

    FLOPs a cycle and core, the widest unit of each set counted twice over where a core has two:
    AMX bf16 2048, AVX-512 bf16 256, AVX-512 fp32 64, AVX2 fp32 32, SVE/NEON 64 (bf16 256).
    Source: Intel and Arm optimisation manuals. A bound for what is impossible, not a data-sheet peak.
    """
    facts = cpu()
    isa, cores = set(facts["isa"] or ()), facts["physical_cores"]
    if not cores:
        return None, "the number of cores is unknown"
    bf16 = dtype in ("bf16", "amp-bf16", "fp16")
    if bf16 and isa & {"amx_bf16", "amx_fp16"}:
        per_cycle = 2048
    elif bf16 and isa & BF16_ISA:
        per_cycle = 256
    else:
        per_cycle = 64 if isa & {"avx512f", "sve", "neon"} else 32
    return cores * 6e9 * per_cycle, f"{cores} cores x 6 GHz x {per_cycle} FLOPs a cycle: above any CPU of this kind"


def _cores() -> int:
    return int(usable_cores() or os.cpu_count() or 1)


def _compiler() -> str | None:
    return next((path for name in (os.environ.get("CXX"), "g++", "clang++") if name
                 for path in (shutil.which(name),) if path), None)


BACKEND = CpuBackend()
