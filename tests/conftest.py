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


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children answer in this process: seconds less each, and nothing that kills a child can be tested."""
    from bench import runner
    from tests.fakes.inprocess import converse_here

    monkeypatch.setattr(runner, "converse", converse_here)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
