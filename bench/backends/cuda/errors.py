"""What CUDA, ROCm and their compilers say when something goes wrong -> a status and what to tell the user.

Texts: torch 2.9 to 2.13 (c10/cuda/CUDACachingAllocator.cpp for memory), CUDA runtime API error names,
torch._inductor and triton for missing compilers.
"""

from __future__ import annotations

import re

SIZE = r"([\d.]+ (?:bytes|[KMGT]iB))"
OOM = re.compile(rf"(?:CUDA|HIP) out of memory\. Tried to allocate {SIZE}")
FREE = re.compile(rf"total capacity of {SIZE} of which {SIZE} is free")
ALLOCATED = re.compile(rf"{SIZE} is allocated by PyTorch")
OTHERS = re.compile(rf"Process \d+ has {SIZE} memory in use")
OOM_WITHOUT_NUMBERS = re.compile(r"(?:CUDA|HIP) error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
                                 r"|CUDNN_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation|hipErrorOutOfMemory")
SMALLER = "try a smaller --batch-size or --size"

KNOWN = (
    ("no kernel image is available for execution on the device", "unsupported",
     "this build of torch has no kernels for this GPU's compute capability: install one that has "
     "(python -c 'import torch; print(torch.cuda.get_arch_list())' shows which)"),
    ("driver on your system is too old", "failed",
     "the NVIDIA driver is too old for this build of torch: update the driver, or install a torch built for an "
     "older CUDA"),
    ("CUDA driver version is insufficient", "failed",
     "the NVIDIA driver is too old for this build of torch: update the driver, or install a torch built for an "
     "older CUDA"),
    ("devices are busy or unavailable", "failed",
     "the GPU is held by another process (compute mode exclusive), or is in an unusable state: see nvidia-smi"),
    ("uncorrectable ECC error", "failed",
     "the GPU's memory had an error that it could not correct: its numbers cannot be trusted until it is reset"),
    ("CUDA error: device-side assert triggered", "failed",
     "a kernel's own check failed, most often an index out of range: the same case on --backend cpu says where"),
    ("an illegal memory access was encountered", "failed",
     "a kernel read or wrote memory that is not its own: a fault of torch, of a compiled kernel or of the model; "
     "with --no-compile it is none of a compiled kernel"),
    ("overwritten by a subsequent run", "failed",
     "a result of a CUDA graph was used after the next run had overwritten it: pass --compile-mode default"),
    ("working triton installation", "unsupported",
     "torch.compile needs triton, and none works here: pip install triton, or pass --no-compile"),
    ("Failed to find C compiler", "unsupported",
     "torch.compile needs a C compiler for its launchers: install gcc, or pass --no-compile"),
)
"""A part of a text, the status, and what to tell. The first that fits counts."""


def explain(text: str) -> tuple[str, str] | None:
    """Return (status, what to tell) for an error's text or a dead child's last lines, or None if unknown."""
    asked = OOM.search(text)
    if asked:
        return "oom", _memory(asked[1], text[asked.start():])
    if OOM_WITHOUT_NUMBERS.search(text):
        return "oom", f"GPU memory ran out; CUDA does not say what was asked for or free: {SMALLER}"
    return next(((status, told) for part, status, told in KNOWN if part in text), None)


def _memory(asked: str, text: str) -> str:
    """Torch's own numbers: what was asked for, what was free, and who held the rest."""
    free, allocated, others = FREE.search(text), ALLOCATED.search(text), OTHERS.findall(text)
    parts = [f"asked for {asked}"]
    if free:
        parts.append(f"{free[2]} of {free[1]} free")
    if allocated:
        parts.append(f"{allocated[1]} held by this case")
    if others:
        parts.append(f"{' and '.join(others)} held by other processes")
    return f"GPU memory ran out: {', '.join(parts)}: {SMALLER}"
