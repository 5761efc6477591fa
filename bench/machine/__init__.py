"""What this computer is: CPU, memory, accelerators, system, software, cloud instance. No torch, no host name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.machine import accelerators, cloud
from bench.machine.cpu import cpu, machine_name, usable_cores
from bench.machine.files import ROOT
from bench.machine.memory import host_memory
from bench.machine.software import software, system, tool

__all__ = ["describe", "tool", "usable_cores"]


def describe(root: Path = ROOT, *, instance_type: str | None = None) -> dict[str, Any]:
    """Return this machine as JSON values for a record's `machine`; unknown is None.

    `name` is the folder of its results. `instance_type` is the user's word on which cloud instance
    this is, or "none"; without it the cloud that the firmware names is asked (`bench.machine.cloud`).
    """
    processor = cpu(root)
    return {"name": machine_name(processor), "cpu": processor, "memory": host_memory(root),
            "accelerators": accelerators.accelerators(root), "os": system(root), "software": software(),
            "instance": cloud.instance(instance_type, root=root)}
