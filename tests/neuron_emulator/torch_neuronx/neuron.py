"""The module that becomes `torch.neuron`; the names are those of torch_neuronx."""
from __future__ import annotations

import contextlib
import os
import time
from types import SimpleNamespace

import torch

from torch_neuronx import _fault

_ops = torch.ops.neuron_emu


# ---------------------------------------------------------------- device


def is_initialized() -> bool:
    return True


def init() -> None:
    pass


def _is_in_bad_fork() -> bool:
    return False


def is_available() -> bool:
    return device_count() > 0


def device_count() -> int:
    return _ops.core_count()  # torch.accelerator.device_count() asks this module, so do not ask it back


def current_device() -> int:
    return torch.accelerator.current_device_index()


def _index(device=None) -> int:
    if device is None:
        return current_device()
    if isinstance(device, int):
        return device
    device = torch.device(device)
    if device.type != "neuron":
        raise ValueError(f"Expected neuron device, got {device.type}")
    return current_device() if device.index is None else device.index


def set_device(device) -> None:
    torch.accelerator.set_device_index(_index(device))


@contextlib.contextmanager
def device(device):
    previous = current_device()
    set_device(device)
    try:
        yield
    finally:
        set_device(previous)


def get_device_name(device=None) -> str:
    return f"neuron:{_index(device)}"


def get_device_properties(device=None):
    return SimpleNamespace(name=get_device_name(device), total_memory=_ops.memory_limit())


def synchronize(device=None) -> None:
    _fault.at("wait")
    limit = os.environ.get("NEURON_EMU_EARLY_WAIT")
    if limit is None:
        torch.accelerator.synchronize(_index(device))
        return
    until_s = time.perf_counter() + float(limit) / 1e6
    while not current_stream(device).query() and time.perf_counter() < until_s:
        time.sleep(1e-4)


# ---------------------------------------------------------------- streams and events


def Stream(device=None, priority=0, **_):
    return torch.Stream(torch.device("neuron", _index(device)))


def Event(enable_timing=False, blocking=False):
    return torch.Event("neuron", enable_timing=enable_timing, blocking=blocking)


def current_stream(device=None):
    return torch.accelerator.current_stream(_index(device))


def set_stream(stream) -> None:
    torch.accelerator.set_stream(stream)


@contextlib.contextmanager
def stream(stream):
    previous = current_stream(stream.device)
    set_stream(stream)
    try:
        yield
    finally:
        set_stream(previous)


# ---------------------------------------------------------------- memory


def memory_stats(device=None) -> dict:
    """Nested, as in torch_neuronx: stats["allocated_bytes"]["current"]."""
    flat = torch.accelerator.memory_stats(_index(device))
    nested = {name: {k: int(flat.get(f"{name}.all.{k}", 0)) for k in ("current", "peak", "allocated", "freed")}
              for name in ("allocated_bytes", "reserved_bytes", "active_bytes")}
    return nested | {"num_ooms": int(flat.get("num_ooms", 0)), "num_alloc_retries": 0,
                     "allocation_requests": int(flat.get("num_device_alloc", 0)),
                     "num_tensor_frees": int(flat.get("num_device_free", 0))}


def memory_allocated(device=None) -> int:
    return memory_stats(device)["allocated_bytes"]["current"]


def max_memory_allocated(device=None) -> int:
    return memory_stats(device)["allocated_bytes"]["peak"]


def memory_reserved(device=None) -> int:
    return memory_stats(device)["reserved_bytes"]["current"]


def max_memory_reserved(device=None) -> int:
    return memory_stats(device)["reserved_bytes"]["peak"]


def reset_peak_memory_stats(device=None) -> None:
    torch.accelerator.reset_peak_memory_stats(_index(device))


def memory_summary(device=None, abbreviated=False) -> str:
    return f"Neuron Memory Summary: {memory_stats(device)['allocated_bytes']}"


def empty_cache() -> None:
    pass


# ---------------------------------------------------------------- random numbers, precision


#: One generator a core, those that the kernels draw from.
default_generators = tuple(_ops.default_generator(i) for i in range(device_count()))


def manual_seed(seed: int) -> None:
    default_generators[current_device()].manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    for generator in default_generators:
        generator.manual_seed(int(seed))


def get_rng_state(device=None) -> torch.Tensor:
    return default_generators[_index(device)].get_state()


def set_rng_state(state, device=None) -> None:
    default_generators[_index(device)].set_state(state)


def get_amp_supported_dtype():
    return [torch.float32, torch.float16, torch.bfloat16]


def is_bf16_supported() -> bool:
    return True


# ---------------------------------------------------------------- what ran where


def get_executed_ops() -> list[str]:
    """Names of the operators that ran on the device, each once however often it ran."""
    return _ran(fallback=False)


def get_fallback_ops() -> list[str]:
    """Names of the operators that ran on the CPU: those that NEURON_EMU_FALLBACK says, each once."""
    return _ran(fallback=True)


def clear_op_tracking() -> None:
    _ops.clear_op_counts()


def _ran(*, fallback: bool) -> list[str]:
    marked = os.environ.get("NEURON_EMU_FALLBACK", "").split(",")
    return [name for name in _ops.op_counts() if (name in marked) == fallback]


# ---------------------------------------------------------------- controls, which the real device has not


def emu_enqueue(microseconds: float, device=None) -> None:
    """Put work of a known length on the current stream and return at once."""
    _ops.enqueue(_index(device), float(microseconds))


def emu_set_op_latency(microseconds: float) -> None:
    """Charge every operator (or graph) this much device time."""
    _ops.set_op_latency(float(microseconds))


def emu_set_memory_limit(nbytes: int) -> None:
    _ops.set_memory_limit(int(nbytes))
