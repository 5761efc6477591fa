"""A stand-in for torch-neuronx 2.9 (XLA flavour), for tests: tracing with the documented signatures, on the CPU.

The folder belongs on PYTHONPATH: its .dist-info marks it as an emulator. Lazy execution needs no stand-in, as
torch_xla has a CPU device. Source of the signatures: AWS Neuron documentation, "PyTorch NeuronX Tracing API for
Inference" and "PyTorch NeuronX DataParallel API". As with the real one, tensors are the host's, a traced model takes
inputs of one shape, and it can be saved. CALLS notes what `trace` was asked for, and what DataParallel ran on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_neuronx import xla

CALLS: list[dict[str, Any]] = []


def trace(func: Callable[..., Any], example_inputs: Tensor | tuple[Tensor, ...], *_: Any,
          input_output_aliases: dict[Any, int] | None = None, compiler_workdir: str | None = None,
          compiler_args: str | list[str] | None = None, partitioner_config: Any = None,
          inline_weights_to_neff: bool = True, cpu_backend: bool = False) -> torch.jit.ScriptModule:
    """Return a ScriptModule that runs `func` on inputs of these shapes alone."""
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    for tensor in inputs:
        if tensor.device.type != "cpu" or tensor.is_inference():
            raise RuntimeError(f"trace takes plain tensors of the host, not one of {tensor.device}")
    CALLS.append({"inputs": [tuple(tensor.shape) for tensor in inputs], "compiler_args": compiler_args})
    traced: torch.jit.ScriptModule = torch.jit.trace(_Fixed(func, inputs), inputs, check_trace=False)
    return traced


class DataParallel:
    """Copies of a traced model, one a core: each takes its part of the inputs along `dim`.

    As in 1.13 (xla_impl/data_parallel.py) cores that follow one another are one loaded module, so that
    `num_workers` is 2 unless it is set. A core that this process was not given cannot be loaded.
    """

    def __init__(self, model: Any, device_ids: Sequence[int] | None = None, dim: int = 0,
                 set_dynamic_batching: bool = True) -> None:
        self._model, self._dim = model, dim
        self._cores = list(range(_visible_cores())) if device_ids is None else list(device_ids)
        if max(self._cores) >= _visible_cores():
            raise RuntimeError(f"nc:{max(self._cores)} is not among the {_visible_cores()} cores of this process")
        self.num_workers = 2

    def __call__(self, *inputs: Tensor) -> Any:
        parts = list(zip(*(tensor.chunk(len(self._cores), self._dim) for tensor in inputs), strict=True))
        CALLS.append({"cores": self._cores, "at_once": min(self.num_workers, len(parts))})
        outputs = [self._model(*part) for part in parts]
        if isinstance(outputs[0], Tensor):
            return torch.cat(outputs, self._dim)
        return tuple(torch.cat(found, self._dim) for found in zip(*outputs, strict=True))


def _visible_cores() -> int:
    """Cores that the runtime would take: those that are named, else so many free ones."""
    first, _, last = os.environ.get("NEURON_RT_VISIBLE_CORES", "").partition("-")
    return int(last or first) - int(first) + 1 if first else int(os.environ["NEURON_RT_NUM_CORES"])


@torch.jit.script
def _exactly(tensor: Tensor, shape: list[int]) -> Tensor:
    """Scripted, so that the check stays in the traced graph."""
    if list(tensor.shape) != shape:
        raise RuntimeError("compiled for inputs of other shapes")
    return tensor


class _Fixed(torch.nn.Module):
    def __init__(self, func: Callable[..., Any], inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self._func, self._shapes = func, [list(tensor.shape) for tensor in inputs]

    def forward(self, *inputs: Tensor) -> Any:
        return self._func(*(_exactly(tensor, shape) for tensor, shape in zip(inputs, self._shapes, strict=True)))


xla.init()
