"""What devices of torch_xla share: tensors are lazy, so that a step ends in a sync and nothing runs before it.

Sources: PyTorch/XLA 2.9 documentation ("PyTorch on XLA devices", "Learn about PyTorch/XLA", "Troubleshooting") and
its code (torch_xla.py, core/xla_model.py, debug/metrics.py). The tests run this on PJRT's CPU device.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from bench.backends._eager import EagerDevice
from bench.case import Case
from bench.contracts import Program, Work
from bench.errors import CaseFailed

FALLBACK, READ_OUT = "aten::", "aten::_local_scalar_dense"
"""Counters of operators that torch_xla has no lowering for and runs on the host; the second is `.item()`'s."""


class LazyDevice(EagerDevice):
    """A `bench.contracts.Device` less its report, for the one torch_xla device of this process.

    `wanted` is the PJRT device type (NEURON, TPU, CPU in tests): CaseFailed where torch_xla has another
    one, as it falls back to the CPU where nobody says which.
    """

    def __init__(self, case: Case, wanted: str) -> None:
        import torch_xla
        from torch import distributed
        from torch_xla import runtime
        from torch_xla.core import xla_model
        from torch_xla.debug import metrics

        found = runtime.device_type()
        if found != wanted:
            raise CaseFailed("failed", f"torch_xla computes on {found}, and {wanted} was asked for: PJRT_DEVICE says "
                                       "which")
        self._xla, self._model, self._metrics, self.pjrt_device = torch_xla, xla_model, metrics, wanted
        self._runtime, self._device = runtime, torch_xla.device()
        if distributed.is_initialized() and distributed.get_backend() == "xla":
            # As init_method "xla://" does, which would count ranks by itself: 1 of 1 in each on PJRT's CPU.
            xla_model.set_replication(self._device, xla_model.get_xla_supported_devices())
        super().__init__(case, "xla")
        self._not_the_cases = self._count("UncachedCompile")  # graphs before this case, the canary's, and reads'
        self._aside_s: list[tuple[float, float]] = []  # when those of this device were compiled, by time.time()
        self._bytes_before = self._memory_info().get("bytes_used", 0)
        self._fallen_before = self._fallen()
        self._probe: Tensor | None = None

    # ---- what is timed

    def place(self, model: nn.Module) -> nn.Module:
        """Cast on the host, which compiles nothing, then move; tensors that were shared are shared again.

        torch makes new Parameters on a device of another kind, so that tied weights would come apart.
        """
        model.train(self.case.task == "training")
        shared = _shared(model)
        model.to(self.dtype).to(self.torch_device)
        for first, *others in shared:
            tensor = _tensor(model, first)
            for name in others:
                owner, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(owner), leaf, tensor)
        self._xla.sync(wait=True)
        return model

    def put(self, tensor: Tensor) -> Tensor:
        """Cast on the host, then move."""
        return tensor.to(self.dtype if tensor.is_floating_point() else tensor.dtype).to(self.torch_device)

    def prepare(self, module: nn.Module, example: Sequence[Tensor], work: Work, *,
                plain: bool = False) -> Callable[..., Any]:
        """A call that cuts the graph and launches it; nothing is compiled before the first one."""
        call = super().prepare(module, example, work, plain=plain)

        def launched(*inputs: Tensor) -> Any:
            with _lowered:
                output = call(*inputs)
                self._launch(output, probed=2 if plain else 1)
            return output

        return self._aside(launched) if plain else launched

    def prepare_training(self, program: Program, work: Work) -> Callable[[], Any]:
        """Micro-batches of one graph each; the last one's holds the update too.

        Gradients are dropped before the last sync: held, they would be results to be kept. AdamW makes its
        state in the first step, so that the second is a new graph, and from the third on nothing compiles.
        """
        assert program.optimizer is not None
        world = self._runtime.world_size()
        if world != self.case.ranks:
            raise CaseFailed("invalid", f"torch_xla averages gradients over a world of {world}, and {self.case.ranks} "
                                        "ranks were asked for: they compute each for itself")
        model = self._autocasting(program.model)
        optimizer = program.optimizer([p for p in program.model.parameters() if p.requires_grad])
        batches = itertools.cycle(program.batches)
        accumulate = program.accumulate

        def step() -> Tensor:
            total = None
            for left in reversed(range(accumulate)):
                with _lowered:
                    loss = model(*next(batches)) / accumulate
                    loss.backward()
                    total = loss.detach() if total is None else total + loss.detach()
                    if not left:
                        self._model.optimizer_step(optimizer)  # means of the gradients over ranks, then the update
                        optimizer.zero_grad(set_to_none=True)
                    self._launch(total)
            assert total is not None
            return total

        return step

    def _launch(self, output: Any, *, probed: int = 1) -> None:
        """Cut the graph and launch it, with one element of its first result as a result of its own.

        What nobody holds at the sync is never computed: the caller holds `output`. The canary's graphs have two
        elements `probed`, so that a case finds none of them compiled, were it the same product.
        """
        first = output[0] if isinstance(output, (tuple, list)) else output
        self._probe = first.reshape(-1)[:probed] if isinstance(first, Tensor) else None
        self._xla.sync()

    def wait(self) -> None:
        """Wait for the device's queue, and prove it: an element of the last launch is read back.

        It is a result of that launch, so that reading it compiles nothing and cannot come before its end.
        """
        self._model.wait_device_ops()
        if self._probe is not None:
            self._probe.cpu()

    def read(self, output: Any) -> list[Tensor]:
        """Casting happens on the host: on the device it would be another graph."""
        many = isinstance(output, (tuple, list))
        fetch = self._aside(lambda: [one.cpu() if isinstance(one, Tensor) else one
                                     for one in (output if many else (output,))])
        return super().read(fetch())

    # ---- what is seen

    def compiles(self) -> int:
        return self._count("UncachedCompile") - self._not_the_cases

    def reset_peak_memory(self) -> None:
        """PJRT keeps one peak for the whole process. Fallbacks are counted from here on."""
        self._fallen_before = self._fallen()

    def peak_memory_bytes(self) -> tuple[int | None, str]:
        peak = self._memory_info().get("peak_bytes_used")
        if peak is None:
            return None, f"PJRT's {self.pjrt_device} device does not say how much memory it uses"
        return max(0, peak - self._bytes_before), ("PJRT's peak since the process began, the canary's included, net of "
                                                   "what was in use at open")

    def ceiling_flops_per_second(self) -> tuple[float | None, str]:
        return None, f"the chip behind PJRT's {self.pjrt_device} device is unknown"

    def report(self) -> dict[str, Any]:
        """What holds for any torch_xla device; a backend puts its own on top."""
        fallen = {name: count - self._fallen_before.get(name, 0) for name, count in self._fallen().items()
                  if count > self._fallen_before.get(name, 0)}
        warnings = [f"{len(fallen)} operator(s) fell back to the CPU from the timed part on "
                    f"({', '.join(sorted(fallen))}): this is no measurement of the device alone"] if fallen else []
        return {"device": {"pjrt_device": self.pjrt_device, "device_kind": self._model.xla_device_kind(),
                           "execution": "lazy", "inputs": "on the device",
                           "wait": "wait_device_ops and one element of the last result read back"},
                "compile": {"cache": "cold", "launches_of_compiled": self._count("CachedCompile")},
                "fallbacks": {"operators": fallen, "runs": sum(fallen.values())} if fallen else {},
                "warnings": warnings}

    def close(self) -> None:
        self._probe = None
        super().close()

    def _aside(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call whose graphs are none of the case's."""
        def counted(*inputs: Any) -> Any:
            before, began_s = self._count("UncachedCompile"), time.time()
            result = call(*inputs)
            rose = self._count("UncachedCompile") - before
            if rose:
                self._not_the_cases += rose
                self._aside_s.append((began_s, time.time()))
            return result

        return counted

    def _count(self, name: str) -> int:
        """A counter of torch_xla's; one that does not exist yet has counted nothing."""
        return int(self._metrics.counter_value(name) or 0)

    def _fallen(self) -> dict[str, int]:
        return {name: self._count(name) for name in self._metrics.counter_names()
                if name.startswith(FALLBACK) and name != READ_OUT}

    def _memory_info(self) -> dict[str, int]:
        """{"bytes_used", "bytes_limit", "peak_bytes_used"}, or {} from a PJRT device that does not keep them."""
        try:
            return dict(self._model.get_memory_info(str(self._device)))
        except RuntimeError:
            return {}


class _Lowered:
    """Says in words that torch_xla cannot run an operator, on the device or on the host; it can be entered again."""

    def __enter__(self) -> None:
        """Nothing to open: a timed step pays for no more than the two calls."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, NotImplementedError):
            return
        text = str(error).partition("\n")[0]
        if "SparseXLA" in text:
            raise CaseFailed("unsupported", "torch_xla has no sparse tensors: ask for dense gradients (dlrm: --option "
                                            "sparse_gradients=false)") from error
        raise CaseFailed("unsupported", f"an operator of this model runs neither by torch_xla nor on the host, "
                                        f"which options of the workload may avoid: {text[:300]}") from error


_lowered = _Lowered()


def _shared(model: nn.Module) -> list[list[str]]:
    """Names of the parameters and buffers that a model has under several, one list a tensor."""
    names: dict[int, list[str]] = {}
    for name, tensor in itertools.chain(model.named_parameters(remove_duplicate=False),
                                        model.named_buffers(remove_duplicate=False)):
        names.setdefault(id(tensor), []).append(name)
    return [found for found in names.values() if len(found) > 1]


def _tensor(model: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of a name."""
    owner, _, leaf = name.rpartition(".")
    tensor: Tensor = getattr(model.get_submodule(owner), leaf)
    return tensor
