"""Fixtures that several tests share."""

from __future__ import annotations

import pytest


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
def clock() -> FakeClock:
    return FakeClock()
