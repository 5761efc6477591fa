"""NVIDIA GPUs by CUDA and, through the same torch API, AMD GPUs by ROCm: the half that needs no torch.

Written against the documentation and source of torch 2.9 to 2.13. The ROCm path: not run on AMD hardware by us.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from bench.backends import _cache
from bench.backends.cuda.errors import explain
from bench.case import PARALLELISM, Case, Scalar
from bench.catalog.chips import chip_id_of
from bench.contracts import Device, Probe, Program, Settings
from bench.machine import nvidia
from bench.machine.accelerators import plugged_in
from bench.machine.files import ROOT, read
from bench.machine.nvidia import Gpu, Slice

MODES = ("default", "reduce-overhead", "max-autotune")
"""torch.compile's. The last two run CUDA graphs. Source: torch._inductor.list_mode_options()."""

TRIED = ("off", "default", "reduce-overhead")
"""What `auto` tries. max-autotune times kernels for minutes a model: it is had by name."""

GRAPHS = ("reduce-overhead", "max-autotune")

LEAST = {"tf32": (8, 0), "fp8": (8, 9)}
"""Compute capability from which tensor cores have a format. Source: CUDA C++ programming guide, compute
capabilities; torch.cuda's check of _scaled_mm."""

TRITON_LEAST = (7, 0)
NO_GPU_FIX = "run on a machine with an NVIDIA GPU whose driver works (nvidia-smi lists it), or pass --backend cpu"
DRIVER_FIX = "install NVIDIA's driver (https://docs.nvidia.com/datacenter/tesla/driver-installation-guide)"
ROCM_TORCH = "install a torch built for ROCm (https://pytorch.org/get-started/locally)"
CUDA_TORCH = "install a torch built for CUDA (https://pytorch.org/get-started/locally)"


class CudaBackend:
    """`root`: where /proc and /sys are, for tests."""

    name = "cuda"
    tier = "measured"
    rank = 10
    options: Mapping[str, Scalar] = {"cache": _cache.OPTION}  # cold, warm or a folder: inductor's and triton's
    process_group = "nccl"

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def probe(self) -> Probe:
        build = torch_build()
        if build == "rocm":
            found = amd_gpus(self._root)
            return Probe(available=True, devices=found) if found else Probe(
                available=False, reason="this torch is built for ROCm, and no AMD GPU is here (/sys/class/kfd)",
                fix="run on a machine with an AMD GPU and its driver amdgpu, or pass --backend cpu")
        gpus, reason = self._gpus
        if not gpus:
            why, fix = self._nothing(str(reason))
            return Probe(available=False, reason=why, fix=fix)
        if build is None:
            return Probe(available=False, reason="torch is not installed", fix=CUDA_TORCH)
        if build == "cpu":
            return Probe(available=False, reason=f"torch {_torch_version()} is built without CUDA", fix=CUDA_TORCH)
        mask, here = os.environ.get("CUDA_VISIBLE_DEVICES"), self._here()
        if not here and mask is not None:
            return Probe(available=False, reason=f"CUDA_VISIBLE_DEVICES={mask!r} hides all {len(gpus)} GPUs",
                         fix="unset CUDA_VISIBLE_DEVICES, or name a GPU that `nvidia-smi -L` lists")
        if not here:
            return Probe(available=False, reason="the GPU is in MIG mode and is cut into no MIG device",
                         fix="make a MIG device (MIG user guide: nvidia-smi mig -cgi ... -C), or end MIG mode")
        return Probe(available=True, devices=tuple(_facts(device, gpus) for device in here))

    def refuse(self, case: Case) -> str | None:
        return self._wrong_ranks(case) or self._wrong_dtype(case) or self._wrong_mode(case)

    def default_dtype(self, task: str, dtypes: Sequence[str]) -> str:
        """bf16 (autocast in training) where tensor cores have it, fp16 on Volta and Turing, else float32."""
        half = "bf16" if torch_build() == "rocm" or self._capability() >= (8, 0) else "fp16"
        wanted = f"amp-{half}" if task == "training" else half
        return wanted if wanted in dtypes and self._capability() >= (7, 0) else "fp32"

    def environment(self, case: Case, settings: Settings, scratch: str) -> dict[str, str]:
        """GPUs numbered as NVML does, a GPU for each rank, caches, and no TF32 in libraries that nobody asked for.

        NVIDIA_TF32_OVERRIDE=0 forbids it below torch. Source: NVIDIA, "Accelerating AI training with NVIDIA
        TF32 tensor cores".
        """
        kept = _cache.work_folder(case, scratch, self.name)
        found = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "TORCHINDUCTOR_CACHE_DIR": str(kept / "inductor"),
                 "TRITON_CACHE_DIR": str(kept / "triton"), "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
        rank = os.environ.get("LOCAL_RANK")
        if case.ranks > 1 and rank is not None:
            found["CUDA_VISIBLE_DEVICES"] = str(_gpu_index(self._here()[int(rank)]))
        if case.dtype != "tf32":
            found["NVIDIA_TF32_OVERRIDE"] = "0"
        if case.threads != "auto":
            found["OMP_NUM_THREADS"] = str(case.threads)
        return found

    def fixed(self, case: Case) -> dict[str, Any]:
        mode = {"auto": "off", "on": "default"}.get(case.compile, case.compile)
        return {"compile": mode, "layout": "contiguous"}

    def axes(self, case: Case, program: Program) -> Mapping[str, Sequence[Any]]:
        """Layout for convolutions, then torch.compile: without CUDA graphs where gradients accumulate (see device)."""
        from bench.backends._eager import uses_convolution

        axes: dict[str, Sequence[Any]] = {}
        if uses_convolution(program.model) and case.dtype != "fp8":
            axes["layout"] = ("contiguous", "channels_last")
        if case.compile == "auto" and self._no_compiler() is None:
            axes["compile"] = TRIED if program.accumulate == 1 else tuple(m for m in TRIED if m not in GRAPHS)
        return axes

    def open(self, case: Case, settings: Settings) -> Device:
        from bench.backends.cuda.device import CudaDevice

        return CudaDevice(case, settings)

    def explain(self, text: str) -> tuple[str, str] | None:
        return explain(text)

    @functools.cached_property
    def _gpus(self) -> tuple[list[Gpu], str | None]:
        """Asked for once: opening NVML takes tens of ms, and every case of a plan wants to know."""
        return nvidia.gpus()

    def _nothing(self, reason: str) -> tuple[str, str]:
        """Why there is no NVIDIA GPU, and what to do: a missing package is no matter where there is no driver."""
        if read(self._root, "proc/driver/nvidia/version") is None:
            count, amd = plugged_in("nvidia", self._root), amd_gpus(self._root)
            if count:
                return f"{count} x NVIDIA GPU on the PCI bus, and no NVIDIA driver is loaded", DRIVER_FIX
            if amd:
                return f"{len(amd)} x {amd[0]['name']} here, and torch is not one built for ROCm", ROCM_TORCH
            return "no NVIDIA driver is here (/proc/driver/nvidia)" if reason == nvidia.MISSING else reason, NO_GPU_FIX
        if reason != nvidia.MISSING:
            return reason, NO_GPU_FIX
        return ("an NVIDIA driver is here, and nvidia-ml-py (module pynvml), which asks it, is not installed",
                "pip install nvidia-ml-py")

    def _here(self) -> list[Gpu | Slice]:
        """The devices that CUDA shows to a child."""
        return nvidia.visible(self._gpus[0], os.environ.get("CUDA_VISIBLE_DEVICES"))

    def _first(self) -> Gpu | None:
        """The GPU that a child's cuda:0 is, or is part of; None where NVML shows none."""
        index = next((_gpu_index(device) for device in self._here()), None)
        return next((gpu for gpu in self._gpus[0] if gpu.index == index), None)

    def _capability(self) -> tuple[int, int]:
        """Of the first GPU; the unknown is taken for able, and a child finds out."""
        gpu = self._first()
        if gpu is None or gpu.compute_capability is None:
            return 99, 0
        major, minor = gpu.compute_capability.split(".")
        return int(major), int(minor)

    def _wrong_ranks(self, case: Case) -> str | None:
        if not PARALLELISM.fullmatch(case.parallelism):
            return f"parallelism {case.parallelism} is not offered on CUDA: use dp=N or fsdp=N"
        if case.ranks > 1 and torch_build() == "rocm":
            return "several AMD GPUs are not offered: use dp=1"
        if case.ranks > 1 and case.ranks > len(self._here()):
            return f"{case.parallelism} needs a GPU for each process, and CUDA shows {len(self._here())}"
        return None

    def _wrong_dtype(self, case: Case) -> str | None:
        if case.dtype in LEAST and torch_build() == "rocm":
            return f"dtype {case.dtype} is not offered on ROCm: use bf16 or amp-bf16"
        least = LEAST.get(case.dtype, (0, 0))
        gpu = self._first()
        if self._capability() < least and gpu:
            return (f"dtype {case.dtype} needs compute capability {least[0]}.{least[1]}; {gpu.name} has "
                    f"{gpu.compute_capability}")
        if case.task == "training" and case.dtype in ("fp8", "fp16"):
            return (f"{case.dtype} training is not offered: its gradients need scales of their own; use amp-fp16, "
                    "amp-bf16 or bf16")
        if case.dtype == "tf32" and os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
            return "NVIDIA_TF32_OVERRIDE=0 in the environment forbids TF32: unset it"
        return None

    def _wrong_mode(self, case: Case) -> str | None:
        known = ("auto", "off", "on", *MODES)
        if case.compile not in known:
            return f"compile mode {case.compile!r} is not one of {', '.join(known)}"
        return self._no_compiler() if case.compile in ("on", *MODES) else None

    def _no_compiler(self) -> str | None:
        """Why torch.compile cannot make kernels here, or None: it writes triton, which builds its launchers in C."""
        if find_spec("triton") is None:
            return "torch.compile needs triton, which is not installed: pip install triton, or pass --no-compile"
        if not any(which(name) for name in (os.environ.get("CC"), "gcc", "clang", "cc") if name):
            return "torch.compile needs a C compiler and none is on PATH: install gcc, or pass --no-compile"
        gpu = self._first()
        if self._capability() < TRITON_LEAST and gpu:
            return f"triton needs compute capability 7.0; {gpu.name} has {gpu.compute_capability}: pass --no-compile"
        return None


def torch_build() -> str | None:
    """Return what the installed torch is built for by its version: cuda, rocm or cpu; None where there is none.

    Wheels say it after the +, as 2.13.0+cpu or +rocm7.0; one that says nothing (PyPI's, a build of one's
    own) is taken for CUDA, and a child finds out.
    """
    version = _torch_version()
    local = (version or "").partition("+")[2]
    return None if version is None else next((kind for kind in ("rocm", "cpu") if local.startswith(kind)), "cuda")


def _torch_version() -> str | None:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def _facts(device: Gpu | Slice, gpus: Sequence[Gpu]) -> dict[str, Any]:
    """A device as `probe` tells of it. A slice is of its GPU's chip and capability."""
    whole = next(gpu for gpu in gpus if gpu.index == _gpu_index(device))
    return {"name": device.name, "index": whole.index, "chip": chip_id_of(whole.name or ""),
            "memory_bytes": device.memory_total_bytes, "compute_capability": whole.compute_capability,
            "mig": isinstance(device, Slice)}


def _gpu_index(device: Gpu | Slice) -> int:
    return device.gpu if isinstance(device, Slice) else device.index


def amd_gpus(root: Path = ROOT) -> tuple[dict[str, Any], ...]:
    """Return the AMD GPUs that the kernel's driver shows, named by architecture, as "AMD GPU gfx942".

    Source: Linux, amdkfd's /sys/class/kfd/kfd/topology/nodes/*/properties: a CPU node has simd_count 0,
    and gfx_target_version 90402 is gfx942 (major, two digits minor, two digits stepping, the last in hex).
    """
    found: list[dict[str, Any]] = []
    for node in sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("[0-9]*"), key=lambda path: int(path.name)):
        about = {key: int(value) for line in (read(node, "properties") or "").splitlines()
                 for key, _, value in (line.partition(" "),) if value.isdigit()}
        version = about.get("gfx_target_version", 0)
        if about.get("simd_count") and version:
            found.append({"name": f"AMD GPU gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}",
                          "index": len(found), "chip": None})
    return tuple(found)


BACKEND = CudaBackend()
