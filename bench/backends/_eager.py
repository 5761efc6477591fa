"""What devices that run PyTorch eagerly share: placing, casting, the training step, reading back."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.case import Case
from bench.contracts import Program, Work
from bench.errors import CaseFailed
from bench.parallel import gradients_held_back, spread

TORCH_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
                "amp-bf16": torch.float32, "amp-fp16": torch.float32, "fp8": torch.bfloat16}
"""What weights and inputs are kept in. In fp8 linear layers alone are, and everything else in bf16."""

AUTOCAST = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}


class EagerDevice:
    """A `bench.contracts.Device` less its memory and its report, for `torch_device`.

    In an inference case gradients are off from `open` to `close`, so that no step pays for saying so.
    """

    clock_ns: Callable[[], int] = staticmethod(time.perf_counter_ns)
    whole_graphs = False  # its compiler takes no graph breaks: what exchanges gradients stays outside of it
    without_gradients: Callable[[], contextlib.AbstractContextManager[Any]] = torch.inference_mode

    def __init__(self, case: Case, torch_device: str, *, channels_last: bool = False) -> None:
        self.case = case
        self.torch_device = torch.device(torch_device)
        self.dtype = TORCH_DTYPES[case.dtype]
        self._channels_last = channels_last
        self._open = contextlib.ExitStack()
        if case.task == "inference":
            self._open.enter_context(self.without_gradients())

    def place(self, model: nn.Module) -> nn.Module:
        model.train(self.case.task == "training")
        # Both ways, as a trial of one layout hands its model to the trial of another.
        layout = torch.channels_last if self._channels_last else torch.contiguous_format
        model.to(memory_format=layout)
        return model.to(self.torch_device, self.dtype)

    def put(self, tensor: Tensor) -> Tensor:
        moved = tensor.to(self.torch_device, self.dtype if tensor.is_floating_point() else tensor.dtype)
        if self._channels_last and moved.dim() == 4:
            moved = moved.contiguous(memory_format=torch.channels_last)
        return moved

    def compiled(self, module: nn.Module) -> Callable[..., Any]:
        """The module as it is called: here as it is."""
        return module

    def prepare(self, module: nn.Module, example: Sequence[Tensor], work: Work, *,
                plain: bool = False) -> Callable[..., Any]:
        return self._autocasting(module if plain else self.compiled(module))

    def prepare_training(self, program: Program, work: Work) -> Callable[[], Any]:
        assert program.optimizer is not None
        inner = self.compiled(program.model) if self.whole_graphs else program.model
        spread_model = spread(inner, self.case)
        model = self._autocasting(spread_model if self.whole_graphs else self.compiled(spread_model))
        optimizer = program.optimizer([p for p in program.model.parameters() if p.requires_grad])
        batches = itertools.cycle(program.batches)
        accumulate = program.accumulate

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            total = None
            for left in reversed(range(accumulate)):
                with gradients_held_back(spread_model) if left else contextlib.nullcontext():
                    loss = model(*next(batches)) / accumulate
                    self.backward(loss)
                total = loss.detach() if total is None else total + loss.detach()
            self.update(optimizer)
            assert total is not None
            return total

        return step

    def backward(self, loss: Tensor) -> None:
        """Add a micro-batch's gradients; where losses are scaled, here they are."""
        loss.backward()

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """Apply the step's gradients."""
        optimizer.step()

    def _autocasting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Autocast around each call: one context kept open would serve casts of old weights."""
        dtype = AUTOCAST.get(self.case.dtype)
        if dtype is None:
            return call
        kind = self.torch_device.type

        def autocast_call(*inputs: Tensor) -> Any:
            with torch.autocast(kind, dtype=dtype):
                return call(*inputs)

        return autocast_call

    def wait(self) -> None:
        """Nothing to wait for: an eager CPU kernel is done when its call returns."""

    def read(self, output: Any) -> list[Tensor]:
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        for wrong in (o for o in outputs if not isinstance(o, Tensor)):
            raise CaseFailed("failed", f"the model returned {type(wrong).__name__} where a tensor, or a tuple of "
                                       "tensors, is wanted: wrap it")
        return [t.detach().to("cpu", torch.float32, copy=True) for t in outputs]

    def close(self) -> None:
        self._open.close()


def compile_cache() -> str:
    """Whether inductor's cache, where the environment put it, holds anything yet: "warm" or "cold"."""
    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", ""))
    return "warm" if folder.name and folder.is_dir() and any(folder.iterdir()) else "cold"


def dynamo_graphs() -> int:
    """Graphs that dynamo has compiled in this process; to import dynamo takes seconds and 70 MiB."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo else 0


def uses_convolution(model: nn.Module) -> bool:
    """Whether channels-last can matter."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())
