"""`torch.compile(backend="neuron")`: AOTAutograd down to ATen graphs, each run as one program.

A graph is "compiled" once: what it costs, and whether a cache folder has it already, is the device's
to say (`obtain_program`). As in the real one, `dynamic=True` is refused.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch._dynamo.device_interface import DeviceInterface, register_interface_for_device

from torch_neuronx import _fault

_ops = torch.ops.neuron_emu


@dataclass
class Compiled:
    graph_id: str
    graph_name: str
    model_name: str
    graph_node_count: int


compiled: list[Compiled] = []


def neuron_backend(graph: torch.fx.GraphModule, example_inputs, *, options=None, **_):
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    if any(isinstance(x, torch.SymInt) for x in example_inputs):
        raise RuntimeError("Neuron backend: dynamic=True is not supported, shapes must be static (NCC_EMOD025)")
    name = (options or {}).get("model_name", "model")

    def compiler(direction: str):
        def compile_graph(graph: torch.fx.GraphModule, inputs):
            shapes = [(tuple(x.shape), x.dtype) for x in inputs if isinstance(x, torch.Tensor)]
            identity = hashlib.sha256(f"{graph.code}{shapes}".encode()).hexdigest()[:15]
            _fault.at("compile")
            _ops.obtain_program(int(identity, 16))
            compiled.append(Compiled(identity, f"{name}_{direction}", name, len(graph.graph.nodes)))

            def run(*args):
                _ops.enter_program()
                try:
                    return graph(*args)
                finally:
                    _ops.leave_program()

            return make_boxed_func(run)

        return compile_graph

    return aot_autograd(fw_compiler=compiler("forward"), bw_compiler=compiler("backward"),
                        inference_compiler=compiler("inference"))(graph, example_inputs)


class NeuronInterface(DeviceInterface):
    Event = torch.Event
    Stream = torch.Stream

    class Worker:
        set_device = staticmethod(lambda device: torch.neuron.set_device(device))
        current_device = staticmethod(lambda: torch.neuron.current_device())
        get_device_properties = staticmethod(lambda device=None: torch.neuron.get_device_properties(device))

    current_device = staticmethod(lambda: torch.neuron.current_device())
    set_device = staticmethod(lambda device: torch.neuron.set_device(device))
    device_count = staticmethod(lambda: torch.neuron.device_count())
    is_available = staticmethod(lambda: torch.neuron.is_available())
    synchronize = staticmethod(lambda device=None: torch.neuron.synchronize(device))
    current_stream = staticmethod(lambda device=None: torch.neuron.current_stream(device))
    get_device_properties = staticmethod(lambda device=None: torch.neuron.get_device_properties(device))
    get_compute_capability = staticmethod(lambda device=None: 0)
    is_bf16_supported = staticmethod(lambda including_emulation=False: True)


register_interface_for_device("neuron", NeuronInterface)
for _i in range(torch.neuron.device_count()):
    register_interface_for_device(f"neuron:{_i}", NeuronInterface)
