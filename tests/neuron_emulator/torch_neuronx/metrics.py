"""Counters of the compile cache, as `torch_neuronx.metrics`: off unless set_enabled or the variable says so."""
from __future__ import annotations

import os

import torch

_NAMES = ("InMemoryHits", "PersistentHits", "PersistentMisses", "TotalCompilations")
_enabled = os.environ.get("TORCH_NEURONX_METRICS_ENABLED", "").lower() in ("1", "true", "yes")


def is_enabled() -> bool:
    return _enabled


def set_enabled(enabled: bool) -> None:
    global _enabled
    _enabled = enabled


def get_counter_names() -> list[str]:
    """Counters that have counted something."""
    return [name for name, count in _counters().items() if count]


def get_counter_value(name: str) -> int | None:
    return _counters().get(name)


def _counters() -> dict[str, int]:
    counts = torch.ops.neuron_emu.program_counts()
    # A program that no cache holds is a miss and is compiled: two names, one number.
    hits, loads, misses = counts
    return dict(zip((f"CompilationCache.{name}" for name in _NAMES), (hits, loads, misses, misses),
                    strict=True)) if _enabled else {}
