"""How long stores of many records take: a few here, 10,000 with TRNBENCH_SPEED_RECORDS=10000."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.report.terminal import render_terminal
from bench.store import Store
from tests.records import make_record

COUNT = int(os.environ.get("TRNBENCH_SPEED_RECORDS", "300"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Records of three children with 200 rounds each, over ten workloads, written without syncing."""
    root = tmp_path_factory.mktemp("results")
    data = json.loads(make_record(rounds=200).dumps())
    for i in range(COUNT):
        folder = root / "emr-2c" / f"w{i % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        data["run_id"], data["case"]["workload"], data["case"]["seed"] = f"run-{i:05}", f"w{i % 10}", i
        (folder / f"run-{i:05}.json").write_text(json.dumps(data, separators=(",", ":")))
    return Store(str(root))


def test_reading_all_records(benchmark: Any, filled: Store) -> None:
    loaded = benchmark.pedantic(filled.load_all, rounds=3)
    assert (len(loaded.records), loaded.problems) == (COUNT, ())
    assert benchmark.stats.stats.median / COUNT < 0.003  # 10,000 in 30 s on the slowest machine; 4 s seen


def test_reading_all_records_without_their_samples(benchmark: Any, filled: Store) -> None:
    loaded = benchmark.pedantic(filled.load_all, kwargs={"samples": False}, rounds=3)
    assert len(loaded.records) == COUNT


def test_finding_one_record(benchmark: Any, filled: Store) -> None:
    assert benchmark.pedantic(filled.find, args=("run-00007",), rounds=3).run_id == "run-00007"


def test_saving_a_record(benchmark: Any, tmp_path: Path) -> None:
    store, records = Store(str(tmp_path)), iter([make_record(f"run-{i}", rounds=200) for i in range(20)])
    benchmark.pedantic(lambda: store.save(next(records)), rounds=20)
    assert len(store.load_all().records) == 20


def test_printing_a_table_of_all_records(benchmark: Any, filled: Store) -> None:
    import io

    from rich.console import Console

    records = filled.load_all(samples=False).records

    def render() -> str:
        out = io.StringIO()
        render_terminal(records, Console(file=out))
        return out.getvalue()

    assert benchmark.pedantic(render, rounds=1).count("run-") == COUNT
