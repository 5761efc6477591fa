"""Money in reports: priced when read, cheapest first, unknown with its reason, gates on cost."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bench.cli import main
from bench.record import Record
from bench.store import Store
from tests.records import MACHINE, failed_record, make_record

QUIET = MACHINE | {"noise_floor": {"relative": 0.0, "stale": False}}
PRICES = """provider,instance_type,region,basis,term,usd_per_hour,as_of,source,note
aws,c7i.16xlarge,here,on-demand,,1.0,2026-01-01,a test,
aws,c7i.48xlarge,here,on-demand,,3.0,2026-01-01,a test,
aws,c7i.16xlarge,here,spot,,0.5,2026-01-01,a test,
"""
SMALL, LARGE = "c7i.16xlarge", "c7i.48xlarge"
"""Their shipped prices are of July 2026, so that on 15 January there are these alone."""


def on(instance: str | None, run_id: str, step_ms: float, **changes: Any) -> Record:
    """A record of 8 samples a step on a machine without noise, of an instance type."""
    machine = QUIET | {"name": instance or "nowhere", "instance": {"type": instance, "reason": "nobody said"}}
    return make_record(run_id, step_ms=step_ms, spread=0, machine=machine, **changes)


@pytest.fixture
def prices(tmp_path: Path) -> str:
    path = tmp_path / "prices.csv"
    path.write_text(PRICES)
    return str(path)


def trnbench(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def stored(tmp_path: Path, *records: Record, name: str = "results") -> str:
    for record in records:
        Store(str(tmp_path / name)).save(record)
    return str(tmp_path / name)


def rows(*args: str) -> dict[str, dict[str, Any]]:
    result = trnbench("report", *args, "--format", "json", "--as-of", "2026-01-15")
    assert result.exit_code == 0, result.output
    return {row["run_id"]: row for row in json.loads(result.stdout)["rows"]}


def test_records_of_one_kind_of_work_stand_cheapest_first(tmp_path: Path, prices: str) -> None:
    # small: 8 per 10 ms = 800/s at 1 USD/h -> 1e6/(800 x 3600) = 0.347222 USD; large: 8 per 4 ms = 2000/s at
    # 3 USD/h -> 0.416667 USD: faster, and yet dearer
    results = stored(tmp_path, on(LARGE, "run-large", 4), on(SMALL, "run-small", 10))
    found = rows(results, "--prices", prices)
    assert found["run-small"]["usd_per_1m_items"] == pytest.approx(0.3472222)
    assert found["run-large"]["usd_per_1m_items"] == pytest.approx(0.4166667)
    assert found["run-small"]["usd_item"] == "inferences"
    shown = trnbench("report", results, "--prices", prices, "--as-of", "2026-01-15").output
    assert shown.index("run-small") < shown.index("run-large")
    assert "0.3472 inferences" in shown


def test_a_record_without_a_price_says_why_and_has_none(tmp_path: Path, prices: str) -> None:
    results = stored(tmp_path, on(None, "run-nowhere", 5), on(SMALL, "run-small", 10))
    row = rows(results, "--prices", prices)["run-nowhere"]
    assert row["usd_per_1m_items"] is row["usd_per_hour"] is row["usd_per_run"] is None
    assert "nobody said" in row["usd_unknown_because"]
    shown = trnbench("report", results, "--prices", prices).output
    assert "run-nowhere: no cost per item: nobody said" in shown
    assert shown.index("run-small") < shown.index("run-nowhere")  # what has no price stands last


def test_money_has_no_columns_where_nothing_has_a_price(tmp_path: Path) -> None:
    shown = trnbench("report", stored(tmp_path, on(None, "run-nowhere", 5))).output
    assert "USD/h" not in shown
    assert "no cost per item" in shown


def test_a_rate_of_one_s_own_prices_all_that_is_stored_without_changing_it(tmp_path: Path) -> None:
    results = stored(tmp_path, on(None, "run", 10))
    (file,) = Path(results).rglob("*.json")
    before = file.read_bytes()
    # 800/s at 2.88 USD/h: 2.88e6 / (800 x 3600) = 1 USD a million
    row = rows(results, "--usd-per-hour", "2.88")["run"]
    assert (row["price_basis"], row["usd_per_1m_items"]) == ("user", pytest.approx(1.0))
    assert file.read_bytes() == before


def test_the_basis_changes_the_price(tmp_path: Path, prices: str) -> None:
    results = stored(tmp_path, on(SMALL, "run-small", 10), on(LARGE, "run-large", 4))
    found = rows(results, "--prices", prices, "--basis", "spot")
    assert found["run-small"]["usd_per_1m_items"] == pytest.approx(0.1736111)  # half of 0.3472222
    assert found["run-large"]["usd_per_1m_items"] is None  # never guessed from on-demand
    assert "it has: on-demand" in found["run-large"]["usd_unknown_because"]


def test_an_old_price_is_marked(tmp_path: Path, prices: str) -> None:
    results = stored(tmp_path, on(SMALL, "run-small", 10))
    assert "1.000*" in (shown := trnbench("report", results, "--prices", prices, "--as-of", "2026-06-01").output)
    assert "too old to be relied on" in shown
    assert "1.000*" not in trnbench("report", results, "--prices", prices, "--as-of", "2026-01-15").output


def test_a_baseline_holds_every_alike_record_against_it(tmp_path: Path, prices: str) -> None:
    # cost: 0.416667 (large) over 0.347222 (small) = 1.2; speed: 800 over 2000 = 0.4
    results = stored(tmp_path, on(LARGE, "run-large", 4), on(SMALL, "run-small", 10),
                     on(SMALL, "run-fp32", 10, case={"dtype": "fp32"}), failed_record("run-failed"))
    shown = trnbench("report", results, "--prices", prices, "--as-of", "2026-01-15", "--baseline", LARGE).output
    (line,) = [line for line in shown.splitlines() if line.endswith("run-small")]
    assert "1.200 (1.200 to 1.200)" in line
    assert "0.400 (0.400 to 0.400)" in line
    assert ("run-fp32: not held against c7i.48xlarge: nothing alike: "
            "precision class differs: fp32 against 16-bit") in shown


def test_a_baseline_that_names_nothing_is_refused_with_what_there_is(tmp_path: Path) -> None:
    result = trnbench("report", stored(tmp_path, on(SMALL, "run", 10)), "--baseline", "c7i.16")
    assert result.exit_code == 2
    assert "c7i.16xlarge" in result.stderr


def test_csv_and_parquet_hold_the_same_money(tmp_path: Path, prices: str) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    results = stored(tmp_path, on(SMALL, "run-small", 10))
    priced = ("--prices", prices, "--as-of", "2026-01-15")
    (row,) = csv.DictReader(io.StringIO(trnbench("report", results, *priced, "--format", "csv").stdout))
    out = tmp_path / "runs.parquet"
    assert trnbench("report", results, *priced, "-o", str(out)).exit_code == 0
    (kept,) = pd.read_parquet(out).to_dict("records")
    assert float(row["usd_per_1m_items"]) == kept["usd_per_1m_items"] == pytest.approx(0.3472222)
    assert row["price_id"] == kept["price_id"] == "aws/c7i.16xlarge/here/on-demand/2026-01-01"


def test_parquet_to_a_terminal_is_refused(tmp_path: Path) -> None:
    result = trnbench("report", stored(tmp_path, on(SMALL, "run", 10)), "--format", "parquet")
    assert (result.exit_code, "-o runs.parquet" in result.stderr) == (2, True)


def test_published_results_are_shown_beside_records_and_apart_from_them(tmp_path: Path) -> None:
    shown = trnbench("report", stored(tmp_path, on(SMALL, "run-small", 10)), "--published", "--tier", "measured",
                     "--tier", "published", "--tier", "vendor").output
    assert shown.index("Measured") < shown.index("run-small") < shown.index("Published or imported: not checked by us")
    assert shown.index("Published or imported") < shown.index("mlperf-inf-v3.0-010")
    assert shown.index("Stated by a vendor") < shown.index("neuron-inf2-002")


@pytest.mark.parametrize(("args", "said"), [
    (("--basis", "ondemand"), "'on-demand'"), (("--as-of", "yesterday"), "2025-05-31"),
    (("--usd-per-hour", "0"), "above 0"), (("--usd-per-hour", "nan"), "above 0"),
    (("--usd-per-hour", "2", "--basis", "spot"), "your own rate"), (("--prices", "no-such.csv"), "no-such.csv")])
def test_terms_that_cannot_be_say_what_to_do(tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    result = trnbench("report", stored(tmp_path, on(SMALL, "run", 10)), *args)
    assert result.exit_code == 2
    assert said in result.stderr


# -- one record's money


def test_show_holds_a_record_s_cost_against_a_rival_s(tmp_path: Path, prices: str) -> None:
    # ratio 0.416667 / 0.347222 = 1.2; level at 1.2 USD/h; busy 1/1.2 = 83 % of its hours
    results = stored(tmp_path, on(LARGE, "run-large", 4), on(SMALL, "run-small", 10))
    result = trnbench("show", "run-small", "--rival", "run-large", "--results", results, "--prices", prices,
                      "--as-of", "2026-01-15")
    assert result.exit_code == 0, result.output
    assert "the rival's cost per item over this one's: 1.200" in result.output
    assert "both cost the same at 1.200 USD/h" in result.output
    assert "busy 83 %" in result.output
    assert "spot: not known" in result.output  # the large one has no spot price
    assert "compile: " in result.output


def test_show_holds_no_unlike_work_against_one_another(tmp_path: Path, prices: str) -> None:
    results = stored(tmp_path, on(LARGE, "run-large", 4, case={"dtype": "fp32"}), on(SMALL, "run-small", 10))
    result = trnbench("show", "run-small", "--rival", "run-large", "--results", results, "--prices", prices)
    assert "no ratio: not alike: precision class differs: 16-bit against fp32" in result.output
    assert "both cost the same" not in result.output
    assert "cheaper at any length" not in result.output


def test_show_finds_a_published_result_by_its_id(tmp_path: Path) -> None:
    # 0.7582 USD/h over 2674.2/s: 0.078757 USD a million
    result = trnbench("show", "neuron-inf2-002", "--results", str(tmp_path), "--as-of", "2026-08-01")
    assert result.exit_code == 0, result.output
    assert "0.07876" in result.output
    assert "AWS Neuron docs" in result.output


# -- gates on cost


def gate(tmp_path: Path, before: Record, after: Record, text: str, *args: str) -> Result:
    base, new = stored(tmp_path, before, name="base"), stored(tmp_path, after, name="new")
    return trnbench("compare", base, new, "--fail-if", text, *args, "--as-of", "2026-01-15", "--json")


def outcome(result: Result) -> dict[str, Any]:
    (found,) = json.loads(result.stdout)["gates"]
    return dict(found)


def test_a_gate_on_cost_fails_where_a_dearer_machine_is_not_as_much_faster(tmp_path: Path, prices: str) -> None:
    # 0.347222 -> 0.416667: +20 %, though twice and a half as fast
    result = gate(tmp_path, on(SMALL, "a", 10), on(LARGE, "b", 4), "usd_per_1m_inferences>+3%", "--prices", prices)
    assert result.exit_code == 1
    assert (found := outcome(result))["outcome"] == "fails"
    assert found["relative"] == pytest.approx(0.2)
    assert found["ratio"] == pytest.approx(1 / 1.2)


def test_a_gate_on_cost_holds_where_the_machine_is_the_same_and_no_slower(tmp_path: Path, prices: str) -> None:
    result = gate(tmp_path, on(SMALL, "a", 10), on(SMALL, "b", 10), "usd_per_1m_inferences>+3%", "--prices", prices)
    assert (result.exit_code, outcome(result)["outcome"]) == (0, "holds")


def test_a_gate_on_cost_without_a_price_cannot_tell(tmp_path: Path) -> None:
    result = gate(tmp_path, on(None, "a", 10), on(None, "b", 20), "usd_per_1m_inferences>+3%")
    assert (result.exit_code, outcome(result)["outcome"]) == (0, "cant_tell")
    assert "nobody said" in outcome(result)["text"]


def test_a_gate_on_the_cost_of_a_step_needs_a_rate_alone(tmp_path: Path) -> None:
    # 10 ms -> 12 ms at any rate: +20 %
    result = gate(tmp_path, on(None, "a", 10), on(None, "b", 12), "usd_per_step>+3%", "--usd-per-hour", "1")
    assert outcome(result)["relative"] == pytest.approx(0.2)
    assert result.exit_code == 1


def test_a_gate_on_the_cost_of_other_items_names_those_that_there_are(tmp_path: Path) -> None:
    result = gate(tmp_path, on(None, "a", 10), on(None, "b", 10), "usd_per_1m_tokens>+3%")
    assert result.exit_code == 2
    assert "usd_per_1m_inferences" in result.stderr


def test_a_report_without_any_results_names_what_can_be_seen_at_once(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = trnbench("report")
    assert (result.exit_code, "--published" in result.stderr) == (2, True)
    assert trnbench("report", "--published", "--tier", "vendor").exit_code == 0


def test_a_chip_that_the_catalog_does_not_know_breaks_no_report_and_no_verdict(tmp_path: Path) -> None:
    results = stored(tmp_path, make_record("run", device={"kind": "new", "name": "New", "chip": "new-1", "chips": 1},
                                           work=make_record().work | {"bytes_per_step": 1e6}))
    assert "Unknown chip 'new-1'" in trnbench("report", results).output
    assert trnbench("report", results, "-o", str(tmp_path / "page.html")).exit_code == 0
    assert trnbench("verdict", "--results", results).exit_code == 0
