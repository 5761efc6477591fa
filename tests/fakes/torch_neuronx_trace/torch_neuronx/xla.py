"""What importing torch_xla, and so torch_neuronx, does to a process's variables; nothing of it is undone.

Sources: torch-neuronx 1.13, xla.py (one core a process, whatever was said) and torch_xla 2.9.0,
_internal/neuron.py, which is run as it is: it makes one world of what torchrun started.
"""

from __future__ import annotations

import os

_done: list[bool] = []


def init() -> None:
    """Called by torch_xla, when it finds libneuronxla, and by this package; the second time it does nothing."""
    if _done:
        return
    _done.append(True)
    os.environ["NEURON_RT_NUM_CORES"] = "1"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # 1.13 asks for that alone, torch_xla for torchrun's own word
        from torch_xla._internal import neuron, neuron_utils

        if "TORCHELASTIC_RUN_ID" in os.environ:
            neuron.configure_pjrt_environment()
        else:
            neuron_utils.remap_visible_cores(int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]))
