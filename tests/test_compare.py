"""Comparing: alike cases only, ratios above 1 where NEW is better, gates that fail on proof alone."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.cli import main
from bench.errors import BenchError
from bench.record import Record
from bench.report.children import children_values
from bench.report.compare import Change, Comparison, change, compare
from bench.report.gate import judge, parse_gate
from bench.store import Store
from tests.records import MACHINE, failed_record, make_record

QUIET = MACHINE | {"noise_floor": {"relative": 0.0, "stale": False}}


def record(run_id: str, step_ms: float = 10.0, **changes: Any) -> Record:
    """A record of a machine without noise, all of whose steps take exactly `step_ms`."""
    plain: dict[str, Any] = {"spread": 0, "machine": QUIET}
    return make_record(run_id, step_ms=step_ms, **(plain | changes))


def only_change(base: Record, new: Record) -> Change:
    (row,) = compare([base], [new]).rows
    return row.change


def reason_left_out(base: list[Record], new: list[Record], run_id: str) -> str:
    (found,) = [one for one in compare(base, new).left_out if one.record.run_id == run_id]
    return f"{found.side}: {found.reason}"


# -- ratios


def test_a_slower_new_record_has_a_ratio_below_one() -> None:
    found = only_change(record("b", 10), record("n", 12.5))
    assert (found.metric, found.verdict) == ("samples_per_second", "worse")
    assert (found.base, found.new) == (pytest.approx(800), pytest.approx(640))
    assert found.ratio == pytest.approx(0.8)
    assert found.relative == pytest.approx(-0.2)


def test_a_latency_that_rises_has_a_ratio_below_one_and_a_change_above_zero() -> None:
    single = {"scenario": "single-stream", "batch_size": 1}
    found = only_change(record("b", 10, case=single), record("n", 12.5, case=single))
    assert (found.metric, found.verdict) == ("latency_ms_p50", "worse")
    assert found.ratio == pytest.approx(0.8)
    assert found.relative == pytest.approx(0.25)


def test_bounds_of_a_change_are_those_of_the_metric_itself() -> None:
    single = {"scenario": "single-stream", "batch_size": 1}
    found = only_change(make_record("b", case=single, seed=1), make_record("n", step_ms=13, case=single, seed=2))
    assert found.low is not None
    assert found.high is not None
    assert found.relative_low == pytest.approx(1 / found.high - 1)
    assert found.relative_high == pytest.approx(1 / found.low - 1)
    assert found.relative is not None
    assert found.relative_low is not None
    assert found.relative_high is not None
    assert found.relative_low < found.relative < found.relative_high


def test_rounds_of_more_steps_and_steps_of_more_items_are_put_on_one_footing() -> None:
    one_by_one = record("b", 10, steps_per_round=1)
    four = record("n", 10, steps_per_round=4)
    assert only_change(one_by_one, four).ratio == pytest.approx(1)
    twice_the_items = record("n", 20, items=16)  # 16 items in 20 ms are 8 in 10 ms
    assert only_change(one_by_one, twice_the_items).ratio == pytest.approx(1)


def test_the_noise_floor_of_the_noisier_machine_widens_the_interval() -> None:
    noisy = QUIET | {"noise_floor": {"relative": 0.03, "stale": False}}
    found = only_change(record("b", 10), record("n", 10.5, machine=noisy))
    # Children do not vary, so the half-width of the log ratio is the floor's: 1.96 x 0.03 = 0.0588.
    # 10 / 10.5 / e^0.0588 = 0.898 and 10 / 10.5 x e^0.0588 = 1.010; e^0.0588 - 1 = 6.1 % could be seen.
    assert found.verdict == "cant_tell"
    assert found.smallest_visible == pytest.approx(0.0606, abs=0.001)
    assert (found.low, found.high) == (pytest.approx(0.898, abs=0.001), pytest.approx(1.010, abs=0.001))


def test_one_child_a_side_tells_nothing_and_says_why() -> None:
    found = only_change(record("b", 10, children=1), record("n", 20, children=1))
    assert (found.verdict, found.low, found.smallest_visible) == ("cant_tell", None, None)
    assert "one child" in str(found.reason)


def test_records_of_one_speed_are_seldom_told_apart_and_of_two_speeds_mostly() -> None:
    def worse(step_ms: float) -> int:
        return sum(only_change(make_record("b", seed=i, machine=QUIET, rounds=5),
                               make_record("n", seed=1000 + i, machine=QUIET, rounds=5, step_ms=step_ms)).verdict
                   in ("worse", "better") for i in range(100))

    assert worse(10.0) <= 12  # 5 % of 100 expected; more than 12 would be a 0.2 % accident
    assert worse(11.5) >= 90


@pytest.mark.parametrize(("name", "case", "expected"), [
    ("samples_per_second", {}, 800), ("samples_per_second_per_chip", {}, 800),
    ("samples_per_second_sustained", {}, 800), ("step_time_ms", {}, 10),
    ("latency_ms_p90", {"scenario": "single-stream"}, 10),
    ("ttft_ms_p50", {"scenario": "generation"}, 5), ("itl_ms_p50", {"scenario": "generation"}, 1.25),
    ("tpot_ms_p50", {"scenario": "generation"}, 1.25)])  # (10 - 5) ms over four further tokens
def test_a_metric_of_each_child_is_computed_as_the_records_own_is(
        name: str, case: dict[str, Any], expected: float) -> None:
    one = record("r", 10, rounds=100, case=case)
    values, why = children_values(one, name)
    assert (values, why) == ([pytest.approx(expected)] * 3, None)
    metric = one.metric(name)
    assert metric
    assert metric.value == pytest.approx(expected)


def test_memory_is_compared_child_by_child_without_the_noise_of_time() -> None:
    base = make_record("b")
    more = dataclasses.replace(make_record("n"), memory={"peak_bytes": 2**31}, children=tuple(
        child | {"memory": {"peak_bytes": 2**31}} if "memory" in child else child for child in base.children))
    found = change(base, more, "peak_memory_bytes")
    assert found.verdict == "worse"
    assert found.relative == pytest.approx(1 / 3, abs=0.001)  # 2 GiB against 1.5 GiB, less a MiB


def test_a_metric_kept_for_the_whole_record_alone_is_judged_by_both_intervals() -> None:
    found = change(record("b", 10), record("n", 20), "mfu")
    assert (found.verdict, found.ratio) == ("worse", pytest.approx(0.5))
    wide = make_record("n", step_ms=10.2, seed=5)
    assert change(make_record("b"), wide, "mfu").verdict == "cant_tell"


def test_compile_times_of_unlike_caches_are_not_compared() -> None:
    base = make_record("b")
    warm = dataclasses.replace(base, run_id="n", children=tuple(
        child | {"compile": child["compile"] | {"cache": "warm"}} if "compile" in child else child
        for child in base.children))
    found = change(base, warm, "compile_s")
    assert (found.verdict, found.reason) == (
        "cant_tell", "compile caches differ: cold/cold/cold against warm/warm/warm")


# -- what is held against what


def test_the_newest_valid_record_of_a_case_stands_for_its_side() -> None:
    old = record("old", 20, started_at="2026-01-01T00:00:00Z")
    new = record("new", 10, started_at="2026-01-02T00:00:00Z")
    broken = failed_record("broken", started_at="2026-01-03T00:00:00Z", machine=QUIET)
    found = compare([record("base")], [new, broken, old])
    assert [row.pair.new.run_id for row in found.rows] == ["new"]
    assert "a later run in NEW is oom and not used (broken)" in found.rows[0].pair.notes
    assert found.left_out == ()


def test_the_same_work_on_another_backend_is_compared_and_the_difference_said() -> None:
    other = record("n", case={"backend": "cuda", "threads": 4}, settings={"threads": 4, "compile": "off"})
    found = compare([record("b")], [other])
    assert [(row.pair.base.run_id, row.pair.new.run_id) for row in found.rows] == [("b", "n")]
    assert {"backend differs: cpu -> cuda", "setting threads differs: 1 -> 4",
            "setting compile differs: inductor -> off"} <= set(found.rows[0].pair.notes)


def test_the_same_case_is_preferred_to_the_same_work() -> None:
    cuda = {"backend": "cuda"}
    found = compare([record("b1"), record("b2", case=cuda)], [record("n1"), record("n2", case=cuda)])
    assert [(row.pair.base.run_id, row.pair.new.run_id) for row in found.rows] == [("b1", "n1"), ("b2", "n2")]


def test_several_set_ups_of_one_work_are_not_guessed_between() -> None:
    base = [record("b1", case={"threads": 1}), record("b2", case={"threads": 2})]
    new = [record("n1", case={"threads": 4})]
    assert compare(base, new).rows == ()
    assert "several set-ups of this work" in reason_left_out(base, new, "n1")


def test_the_same_case_on_two_machines_is_paired_machine_by_machine_or_alone() -> None:
    here, there = {"name": "here"}, {"name": "there"}
    both = [record("b1", machine=here), record("b2", machine=there)]
    found = compare(both, [record("n2", machine=there), record("n1", machine=here)])
    assert {(row.pair.base.run_id, row.pair.new.run_id) for row in found.rows} == {("b1", "n1"), ("b2", "n2")}
    across = compare([record("b1", machine=here)], [record("n2", machine=there)])
    assert "machine differs: here -> there" in across.rows[0].pair.notes


@pytest.mark.parametrize(("case", "expected"), [
    ({"dtype": "fp32"}, "NEW: no alike case in BASE: dtype differs (fp32 here, bf16 there)"),
    ({"batch_size": 9, "dtype": "fp32"}, "NEW: no alike case in BASE: dtype differs (fp32 here, bf16 there); "
                                         "batch_size differs (9 here, 8 there)"),
    ({"workload": "gpt2"}, "NEW: no alike case in BASE")])
def test_what_is_not_alike_is_left_out_with_what_differs(case: dict[str, Any], expected: str) -> None:
    assert reason_left_out([record("b")], [record("n", case=case)], "n") == expected


def test_records_that_are_not_valid_are_left_out_with_their_reason() -> None:
    bad = record("n", status="invalid", reasons=("MFU 1.5 is above 1",))
    assert reason_left_out([record("b")], [bad], "n") == "NEW: invalid record: MFU 1.5 is above 1"
    assert reason_left_out([failed_record("b")], [record("n")], "b") == (
        "BASE: oom record: the child was killed for memory")


def test_emulated_is_never_held_against_measured() -> None:
    emulated = record("n", tier="emulated")
    assert compare([record("b")], [emulated]).rows == ()
    assert reason_left_out([record("b")], [emulated], "n") == "NEW: tier emulated is not compared with tier measured"
    assert len(compare([emulated], [emulated]).rows) == 1


def test_what_weakens_an_answer_is_noted() -> None:
    plain = record("b", machine={"name": "one", "software": {"torch": "2.12"}}, parity={"status": "unchecked"})
    child = plain.children[1] | {"disturbance": {"disturbed": True, "why": ["steal 12 % > 5 %"]}}
    newer = dataclasses.replace(plain, run_id="n", machine={"name": "one", "software": {"torch": "2.13"}},
                                tier="published", children=(plain.children[0], child, *plain.children[2:]))
    (row,) = compare([plain], [newer]).rows
    assert set(row.pair.notes) >= {
        "parity not checked in BASE", "1 disturbed children in NEW: steal 12 % > 5 %",
        "version of torch differs: 2.12 -> 2.13", "tier differs: measured -> published",
        "no noise floor is recorded, so that intervals may be too narrow: run `trnbench doctor`"}


# -- gates


@pytest.mark.parametrize("text", ["throughput", "throughput<5", "throughput<=5%", "<5%", "throughput<-5%%",
                                  "throughput<five%", "Throughput < -5 %;", ""])
def test_a_gate_that_is_none_is_a_usage_error_with_an_example(text: str) -> None:
    with pytest.raises(BenchError, match="is not METRIC<PERCENT") as caught:
        parse_gate(text)
    assert caught.value.exit_code == 2
    assert "throughput<-5%" in caught.value.fix


@pytest.mark.parametrize(("text", "likely"), [("throughput<5%", "throughput<-5%"), ("latency>-10%", "latency>10%")])
def test_a_gate_that_no_change_would_fail_is_refused(text: str, likely: str) -> None:
    with pytest.raises(BenchError, match="where nothing has changed") as caught:
        parse_gate(text)
    assert likely in caught.value.fix


def test_a_gate_may_have_blanks_and_decimals() -> None:
    gate = parse_gate(" latency_p99 > 2.5 % ")
    assert (gate.metric, gate.below, gate.threshold) == ("latency_p99", False, pytest.approx(0.025))


def outcome(gate: str, comparison: Comparison) -> str:
    (found,) = judge([parse_gate(gate)], comparison)
    return f"{found.outcome}: {found.text}"


def test_a_gate_fails_on_a_change_beyond_it_that_is_proven() -> None:
    slower = compare([record("b", 10)], [record("n", 12.5)])
    assert outcome("throughput<-5%", slower) == "fails: samples_per_second changed by -20.00 %"
    assert outcome("latency>10%", slower) == "fails: step_time_ms changed by +25.00 %"
    assert outcome("step_time_ms>10%", slower).startswith("fails")
    assert outcome("samples_per_second_sustained<-10%", slower).startswith("fails")


def test_a_gate_holds_where_the_whole_interval_is_on_its_near_side() -> None:
    slower = compare([record("b", 10)], [record("n", 12.5)])
    assert outcome("throughput<-30%", slower) == "holds: samples_per_second changed by -20.00 %"
    assert outcome("throughput>5%", slower).startswith("holds")
    assert outcome("latency>30%", slower).startswith("holds")


def test_a_gate_that_noise_hides_says_so_and_does_not_fail() -> None:
    noisy = QUIET | {"noise_floor": {"relative": 0.05, "stale": False}}
    hidden = compare([record("b", 10, machine=noisy)], [record("n", 10.8, machine=noisy)])
    assert outcome("throughput<-5%", hidden) == (  # e^(1.96 x 0.05) - 1 = 10.3 %
        "cant_tell: samples_per_second changed by -7.41 %, but the smallest difference visible here is 10 %")
    unchanged = compare([record("b", 10, machine=noisy)], [record("n", 10, machine=noisy)])
    assert outcome("throughput<-5%", unchanged).startswith("cant_tell")
    assert outcome("throughput<-10%", unchanged).startswith("holds")
    assert outcome("memory>5%", unchanged) == "holds: peak_memory_bytes changed by +0.00 %"


def test_a_gate_on_times_to_tokens() -> None:
    case = {"workload": "gpt2", "scenario": "generation"}
    slower = compare([record("b", 10, case=case)], [record("n", 12, case=case)])
    assert outcome("ttft>5%", slower) == "fails: ttft_ms_p50 changed by +20.00 %"
    assert outcome("tpot>5%", slower) == "fails: tpot_ms_p50 changed by +20.00 %"


def test_a_gate_on_what_was_not_measured_cannot_tell_and_on_what_does_not_exist_is_an_error() -> None:
    found = compare([record("b")], [record("n")])
    assert outcome("ttft>5%", found).startswith("cant_tell: ttft_ms_p50 is not known")
    with pytest.raises(BenchError, match=r"has a metric 'througput'.*'throughput'"):
        judge([parse_gate("througput<-5%")], found)


# -- the command


@pytest.fixture
def sides(tmp_path: Path) -> tuple[str, str]:
    base, new = Store(str(tmp_path / "base")), Store(str(tmp_path / "new"))
    base.save(record("b1", 10))
    base.save(record("b2", 10, case={"workload": "a|b[red]"}))
    new.save(record("n1", 12.5))
    new.save(record("n2", 10, case={"workload": "a|b[red]"}))
    new.save(record("n3", case={"dtype": "fp32"}))
    return base.location, new.location


def run(*arguments: str, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(main, ["compare", *arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout, done.stderr


def test_compare_prints_ratios_and_what_was_left_out(sides: tuple[str, str]) -> None:
    shown, _ = run(*sides)
    line = next(line for line in shown.splitlines() if "bert:base" in line)
    assert "0.800" in line
    assert "worse" in line
    assert "a|b[red]:base" in shown
    assert "NEW bert:base inference/offline fp32 b8 s128 on cpu: no alike case in BASE: dtype differs" in shown


def test_compare_of_results_with_themselves_finds_no_difference(sides: tuple[str, str]) -> None:
    shown, _ = run(sides[0], sides[0], "--fail-if", "throughput<-1%", "--fail-if", "latency>1%")
    assert "worse" not in shown
    assert "better" not in shown.replace("NEW is better", "")


def test_exit_codes_tell_gates_usage_and_nothing_alike_apart(sides: tuple[str, str], tmp_path: Path) -> None:
    assert "FAILS throughput<-5%" in run(*sides, "--fail-if", "throughput<-5%", code=1)[0]
    run(*sides, "--fail-if", "throughput<-30%", code=0)
    assert "To fix" in run(*sides, "--fail-if", "throughput", code=2)[1]
    assert "No results" in run(sides[0], str(tmp_path / "none"), code=2)[1]
    (tmp_path / "empty").mkdir()
    assert "No alike cases." in run(sides[0], str(tmp_path / "empty"), "--fail-if", "throughput<-5%", code=3)[0]


def test_compare_json_is_one_document(sides: tuple[str, str]) -> None:
    document = json.loads(run(*sides, "--fail-if", "throughput<-5%", "--json", code=1)[0])
    assert document["schema_version"] == "trnbench.compare/1"
    assert sorted(row["ratio"] for row in document["rows"]) == [pytest.approx(0.8), pytest.approx(1)]
    assert [one["run_id"] for one in document["left_out"]] == ["n3"]
    assert sorted(one["outcome"] for one in document["gates"]) == ["fails", "holds"]


def test_compare_writes_markdown_and_csv(sides: tuple[str, str], tmp_path: Path) -> None:
    run(*sides, "-o", str(tmp_path / "c.md"))
    page = (tmp_path / "c.md").read_text()
    assert "a\\|b\\[red\\]:base" in page
    assert "## Left out" in page
    out, told = run(*sides, "--format", "csv", "--fail-if", "throughput<-5%", code=1)
    assert {row["verdict"] for row in csv.DictReader(io.StringIO(out))} == {"worse", "same"}
    assert "FAILS" in told
