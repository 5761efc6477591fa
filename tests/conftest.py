"""Fixtures that several tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

STAND_IN = str(Path(__file__).parent / "fakes/torch_neuronx_trace")


class FakeClock:
    """A clock in ns, callable like the real ones; it moves only on `advance`."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, ns: float) -> None:
        self.now_ns += int(ns)


@pytest.fixture(autouse=True)
def _no_prices_of_a_developer_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every test begins with the shipped facts alone, as on a machine of a new user."""
    monkeypatch.delenv("TRNBENCH_PRICES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children answer in this process: seconds less each, and nothing that kills a child can be tested."""
    from bench import runner
    from tests.fakes.inprocess import converse_here

    monkeypatch.setattr(runner, "converse", converse_here)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in of torch-neuronx 2.9, and the Neuron backend as it finds itself with it; children find it too."""
    from bench.backends import neuron

    monkeypatch.syspath_prepend(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", STAND_IN)
    monkeypatch.setenv("NEURON_RT_NUM_CORES", "1")  # which the import sets, and nobody would take back
    monkeypatch.setattr(neuron, "BACKEND", neuron.NeuronBackend())
    ours = ("torch_neuronx", "torch_neuronx.xla")
    for name in ours:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import torch_neuronx

    yield torch_neuronx
    for name in ours:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
