"""Every workload, task and scenario at its tiny size on the CPU: does it run, and is it right?"""

from __future__ import annotations

import time
from typing import Any

import pytest

from bench.case import Effort
from bench.measure import canary
from bench.record import PHASES, Record
from bench.registry import case_for, load_backend, load_workload
from bench.runner import Session, run_case
from bench.suites import everything

EFFORT = Effort(repeats=1, max_seconds=0.05, timeout_s=300)
FLOPS_UNKNOWN = ("membw", "collectives")
"""A copy has bytes and no FLOPs, an exchange bytes on the bus."""

ENTRIES = everything(size="tiny")


def test_discovery_finds_every_workload_with_a_tiny_size() -> None:
    names = {name for name, _ in ENTRIES}
    assert {"bert", "collectives", "dlrm", "gemm", "gpt2", "llama", "llama_lora", "membw", "mixtral", "resnet50",
            "unet", "vit", "whisper"} <= names
    assert {(entry["task"], entry["scenario"]) for _, entry in ENTRIES} == {
        ("inference", "offline"), ("inference", "single-stream"), ("inference", "generation"),
        ("inference", "collective"), ("training", "training")}


@pytest.mark.parametrize(("name", "entry"), ENTRIES,
                         ids=[f"{name}-{entry['task']}-{entry['scenario']}" for name, entry in ENTRIES])
@pytest.mark.usefixtures("in_process")
def test_a_tiny_case_is_measured_and_right(name: str, entry: dict[str, Any],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "LONG_ENOUGH_NS", 2_000_000)  # or it would take most of this test's time
    workload, backend = load_workload(name), load_backend("cpu")
    dtype = backend.default_dtype(entry["task"], workload.dtypes)
    case = case_for(name, workload, backend="cpu", dtype=dtype, threads=1, **entry)
    started_s = time.monotonic()
    record = run_case(case, Session(effort=EFFORT, machine={"name": "a machine"}))
    assert (record.status, record.reasons) == ("valid", ())
    assert record.parity["status"] == "passed"
    assert record.parity["error"] < record.parity["tolerance"]
    assert record.canary["passed"]
    assert set(record.phases_s) == set(PHASES)
    assert sum(record.phases_s.values()) == pytest.approx(record.wall_s, rel=0.02)
    assert record.wall_s is not None
    assert record.wall_s < time.monotonic() - started_s + 0.1
    if name not in FLOPS_UNKNOWN:
        assert record.work["flops_per_step"] > 0
    rate = record.metric(f"{record.work['item']}s_per_second")
    assert rate is not None
    assert rate.value is not None
    assert rate.value > 0
    assert record.memory["peak_bytes"] >= 0
    assert record.machine == {"name": "a machine", "noise_floor": None}
    assert Record.from_json(record.to_json()) == record
