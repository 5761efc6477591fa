"""Records of stand-ins: dressed as the chip they stand for, they reach no comparison, no price and no verdict.

Each door is tried with the stand-in's record and with the same record as a real chip would have left it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import runner
from bench.backends.emulated import EmulatedBackend
from bench.case import Effort
from bench.measure import child
from bench.record import Record
from bench.registry import case_for, load_workload
from bench.runner import Session, run_case
from bench.scaling import newest_in
from bench.store import Store
from tests.commandline import one_document, trnbench
from tests.fakes.inprocess import converse_here

CLAIM = """
[[claims]]
id = "M1"
title = "Inferentia2 is a tenth cheaper than an L4"
statement = "It is."
source = { publisher = "a test", url = "https://example.org", date = "2026" }

[[claims.parts]]
name = "cost"
metric = "usd_per_item"
claimed = "10 % cheaper"
saving_percent = 10
subject = { chips = ["inferentia2"] }
baseline = { chips = ["l4"] }
tasks = ["inference"]
scenarios = ["offline"]
"""
TIERS = pytest.mark.parametrize("tier", ["emulated", "measured"])
Put = Callable[..., Path]


@pytest.fixture(scope="module")
def made() -> Record:
    """What a run on the emulated device leaves."""
    case = case_for("bert", load_workload("bert"), backend="emulated", dtype="fp32", size="tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "converse", converse_here)
        record = run_case(case, Session(effort=Effort(repeats=2, max_seconds=0.1), machine={"name": "a machine"}))
    assert (record.status, record.tier) == ("valid", "emulated")
    return record


@pytest.fixture
def put(made: Record, tmp_path: Path) -> Put:
    """Store the record in a folder, as that of a chip on an instance, and return the folder."""
    def dressed(folder: str, tier: str, chip: str = "inferentia2", instance: str = "inf2.xlarge", slower: float = 1.0,
                **changes: Any) -> Path:
        metrics = tuple(metric if metric.value is None else dataclasses.replace(
            metric, value=metric.value / slower, low=metric.low and metric.low / slower,
            high=metric.high and metric.high / slower) for metric in made.metrics)
        Store(str(tmp_path / folder)).save(dataclasses.replace(
            made, run_id=f"{made.run_id}-{chip}-{tier}", tier=tier, metrics=metrics,
            machine={"name": "a machine" if slower == 1 else "another machine",
                     "instance": {"provider": "aws", "type": instance, "count": 1, "region": "us-east-1"}},
            device=made.device | {"chip": chip}, **changes))
        return tmp_path / folder

    return dressed


def rows(*words: object) -> list[dict[str, Any]]:
    """The rows of `trnbench report`."""
    found: list[dict[str, Any]] = one_document(trnbench("report", *words, "--format", "json").stdout)["rows"]
    return found


@TIERS
def test_compare_pairs_it_with_nothing_real(put: Put, tier: str) -> None:
    done = trnbench("compare", put("real", "measured"), put("other", tier), "--fail-if", "throughput<-50%", "--json")
    found = one_document(done.stdout)
    assert (done.exit_code, bool(found["rows"])) == ((0, True) if tier == "measured" else (3, False))
    assert ("tier emulated is not compared with tier measured" in json.dumps(found)) == (tier == "emulated")


@TIERS
@pytest.mark.parametrize("asked", [(), ("--usd-per-hour", "3"), ("--attribution", "chips")])
def test_report_prices_it_by_no_basis(put: Put, tier: str, asked: tuple[str, ...]) -> None:
    row, = rows(put("one", tier), *asked)
    costs = [name for name, value in row.items()
             if name.startswith("usd_") and isinstance(value, float)]
    assert bool(costs) == (tier == "measured")
    assert ("emulated: no such device is sold" in str(row["usd_unknown_because"])) == (tier == "emulated")


@TIERS
def test_report_ranks_it_against_no_real_baseline(put: Put, tier: str) -> None:
    put("both", "measured", chip="l4", instance="g6.xlarge", slower=2.0)
    told = trnbench("report", put("both", tier), "--baseline", "l4", "--format", "md").stdout
    row = next(line for line in told.splitlines() if line.startswith("|") and f"inferentia2-{tier}" in line)
    assert ("2.000 (" in row) == (tier == "measured"), row  # twice as fast, with an interval
    assert ("emulated results are compared with emulated ones alone" in told) == (tier == "emulated")


@TIERS
def test_show_draws_no_bill_and_no_break_even_of_it(put: Put, tier: str) -> None:
    put("both", "measured", chip="l4", instance="g6.xlarge", slower=2.0)
    folder = put("both", tier)
    shown = {record.device["chip"]: record.run_id for record in Store(str(folder)).load_all().records}
    told = trnbench("show", shown["inferentia2"], "--results", folder, "--rival", shown["l4"]).stdout
    assert ("USD/h" in told and "no such device is sold" not in told) == (tier == "measured"), told


@TIERS
def test_verdict_takes_it_for_no_evidence(put: Put, tmp_path: Path, tier: str) -> None:
    (tmp_path / "claims.toml").write_text(CLAIM)
    put("both", "measured", chip="l4", instance="g6.xlarge", slower=4.0)
    verdict, = one_document(trnbench("verdict", "--claims", tmp_path / "claims.toml", "--no-published", "--results",
                                     put("both", tier), "--json").stdout)["verdicts"]
    assert verdict["answer"] == ("supported" if tier == "measured" else "insufficient evidence")
    assert ("emulated: it says nothing of any chip" in json.dumps(verdict)) == (tier == "emulated")


@TIERS
def test_an_exported_record_comes_back_as_what_it_was(put: Put, tmp_path: Path, tier: str) -> None:
    out = tmp_path / "out.json"
    assert trnbench("export", put("one", tier), "--format", "pytest-benchmark", "-o", out).exit_code == 0
    assert trnbench("import", "--format", "pytest-benchmark", out, "--results", tmp_path / "back").exit_code == 0
    back, = Store(str(tmp_path / "back")).load_all().records
    assert back.tier == tier


@TIERS
def test_scaling_is_not_taken_against_it(put: Put, made: Record, tier: str) -> None:
    found = newest_in(Store(str(put("one", tier))), "a machine")(made.case_id)
    assert (found is not None) == (tier == "measured")


def test_ab_alternates_it_with_nothing_real() -> None:
    sides = [f"gemm --size tiny --dtype fp32 --backend {backend}" for backend in ("emulated", "cpu")]
    done = trnbench("ab", *sides, "--max-seconds", "0.1", "--repeats", "1", "--json")
    assert done.exit_code == 3
    assert one_document(done.stdout) == {"status": "unsupported", "reasons": [
        "emulated times are held against emulated ones alone, and the other side is measured"]}


@pytest.mark.usefixtures("in_process")
def test_ab_of_two_stand_ins_says_that_it_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EmulatedBackend.tier == "emulated"
    side = "gemm --size tiny --dtype fp32 --backend emulated"
    told = trnbench("ab", side, side, "--max-seconds", "0.1", "--repeats", "1").stdout
    assert "warning: emulated: this says nothing of any device" in told


@pytest.mark.usefixtures("in_process")
def test_ab_says_where_no_reference_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "REFERENCE_SHARE", 1e-12)  # of the timeout: less than any reference takes
    side = "gemm --size tiny --dtype fp32 --backend emulated"
    told = trnbench("ab", side, side, "--max-seconds", "0.1", "--repeats", "1").stdout
    assert "warning: parity of A and B is unchecked: this host made no float32 reference" in told
