"""A stand-in for AWS's native `torch_neuronx`: device "neuron" in host memory, for tests.

It is not the AWS package, runs no Neuron code and says nothing about speed. Written from the public
interface (names, and what they return) as documented for SDK 2.33; the marks of an emulator are the
distribution's classifier "Private :: Emulator", its local version "+emulator" and `EMULATOR` here.

Importing torch loads it (entry point group `torch.backends`), as the real one. What a test can turn,
as environment variables, read when torch is imported:

    NEURON_EMU_CORES        logical cores that exist (2); NEURON_RT_VISIBLE_CORES / _NUM_CORES choose
    NEURON_EMU_HBM_BYTES    memory of a core (16 GiB); beyond it RuntimeError in the runtime's words
    NEURON_EMU_OP_US        device time of an operator or a graph (0): the queue is real, work is done at once
    NEURON_EMU_EARLY_WAIT   microseconds after which synchronize() returns, whatever is still to be done
    NEURON_EMU_COMPILE_US   what compiling one new program costs (0): an operator of new shapes, or a graph
    NEURON_EMU_FALLBACK     operators that get_fallback_ops() reports, e.g. aten::gelu,aten::mm
    NEURON_EMU_FAULT        where:text, an error in the runtime's words: at import, compile or wait; where `abort`, the
                            text goes to stderr and the process dies at the first wait; `hang`: it waits for ever
    NEURON_EMU_BUILD        where the two built libraries go (~/.cache/trnbench-neuron-emulator)
"""
from __future__ import annotations

EMULATOR = True
__version__ = "2.13.3.0+emulator"


def _autoload() -> None:
    """Called by `import torch`; importing this module has done it all."""


# After `_autoload`: where a user imports this package first, torch asks for it half-way through.
import torch  # noqa: E402

from torch_neuronx import _build, _fault  # noqa: E402

_fault.at("import")
_build.load_device()
torch.utils.rename_privateuse1_backend("neuron")

from torch_neuronx import neuron  # noqa: E402

torch._register_device_module("neuron", neuron)
torch.utils.generate_methods_for_privateuse1_backend(for_tensor=True, for_module=True, for_storage=True)

from torch_neuronx.neuron import (  # noqa: E402, F401
    clear_op_tracking,
    current_device,
    device_count,
    empty_cache,
    get_device_properties,
    get_executed_ops,
    get_fallback_ops,
    is_available,
    max_memory_allocated,
    max_memory_reserved,
    memory_allocated,
    memory_reserved,
    memory_stats,
    memory_summary,
    reset_peak_memory_stats,
    set_device,
    synchronize,
)


def get_dynamo_metrics() -> list:
    """One entry a graph that torch.compile has compiled."""
    from torch_neuronx import neuron_dynamo_backend

    return list(neuron_dynamo_backend.compiled)


def reset_dynamo_metrics() -> None:
    from torch_neuronx import neuron_dynamo_backend

    neuron_dynamo_backend.compiled.clear()


def _register_process_group() -> None:
    """`init_process_group("neuron")`: gloo over CPU views of the device's tensors."""
    import torch.distributed as dist

    if not dist.is_available() or "neuron" in dist.Backend.backend_list:
        return

    def create(store, rank, size, timeout):
        return _build.load_distributed().wrap(dist.ProcessGroupGloo(store, rank, size, timeout=timeout))

    dist.Backend.register_backend("neuron", create, devices=["neuron"])


_register_process_group()
