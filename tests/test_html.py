"""The HTML page: its data against bench.cost, what it may hold, and that no text of a record becomes markup."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from typing import Any

import pytest

from bench.case import Case
from bench.catalog.alike import unlike
from bench.catalog.claims import shipped_claims
from bench.catalog.prices import BASES, Price, PriceBook
from bench.claims.verdict import Pair, Verdict
from bench.cost.normalise import amounts
from bench.cost.rate import rate
from bench.cost.terms import Terms
from bench.errors import BenchError
from bench.record import Metric, Record
from bench.report.html import page as page_file
from bench.report.html import render_html
from bench.report.html.choose import MOST_ROWS, group_of
from bench.report.html.data import page_data
from bench.report.html.page import script_json
from bench.store import Problem
from tests.records import failed_record, make_record

DAY = date(2026, 8, 1)
TERMS = Terms(as_of=DAY)
EVIL = "</script><script>window.evil=1</script><img src=x onerror=window.evil=1>"

PRICES = {("inf1.xlarge", "on-demand"): 0.228, ("g6.xlarge", "on-demand"): 0.8048, ("g4dn.xlarge", "on-demand"): 0.526,
          ("inf1.xlarge", "spot"): 0.2, ("g6.xlarge", "spot"): 0.2}
BOOK = PriceBook(Price(provider="aws", instance_type=instance, region="us-east-1", basis=basis, usd_per_hour=usd,
                       as_of=date(2026, 7, 20), source="https://prices.example/list")
                 for (instance, basis), usd in PRICES.items())


def published(run_id: str, instance: str, chip: str, per_second: float, **changes: Any) -> Record:
    """A published result of BERT-base on one chip."""
    work = {"item": "sample", "item_definition": "samples", "precision": "FP16", "precision_class": "16-bit",
            "sequence": "128", "quality": None, "streams": None, "batching": None, "speculation": None}
    case = Case(workload="bert", size="base", task="inference", scenario="offline", backend="published", dtype="fp16",
                batch_size=changes.pop("batch_size", 8), seq_len=128)
    plain: dict[str, Any] = {
        "run_id": run_id, "case": case, "started_at": "2024-09-16", "ended_at": "2024-09-16", "status": "valid",
        "tier": "published",
        "machine": {"name": instance, "instance": {"provider": "aws", "type": instance, "count": 1}},
        "device": {"kind": "chip", "name": chip, "chip": chip, "chips": 1}, "work": work | changes.pop("work", {}),
        "source": {"id": run_id, "publisher": "A publisher", "url": f"https://results.example/{run_id}",
                   "date": "2024-09-16", "software": "1.0", "notes": ""},
        "metrics": (Metric(name="samples_per_second", value=per_second, unit="samples/s"),
                    Metric(name="latency_ms_p50", value=8e3 / per_second, unit="ms"))}
    return Record(**(plain | changes))


INF1 = published("row-inf1", "inf1.xlarge", "inferentia1", 1180.7)
L4 = published("row-l4", "g6.xlarge", "l4", 2290.6)
L4_SLOW = published("row-l4-slow", "g6.xlarge", "l4", 900.0, batch_size=1)
L4_INT8 = published("row-l4-int8", "g6.xlarge", "l4", 5178.0, work={"precision": "INT8", "precision_class": "int8"})
MEASURED = make_record("run-t4", step_ms=4.0, machine={
    "name": "mine", "instance": {"provider": "aws", "type": "g4dn.xlarge", "count": 1}},
    device={"kind": "cuda", "name": "T4", "chip": "t4", "chips": 1}, labels={"note": EVIL})
RECORDS = [INF1, L4, L4_SLOW, L4_INT8, MEASURED]


def data_of(records: list[Record], terms: Terms = TERMS, **changes: Any) -> dict[str, Any]:
    return page_data(records, **({"book": BOOK, "terms": terms, "verdicts": [], "problems": []} | changes))


def html_of(records: list[Record], **changes: Any) -> str:
    return render_html(records, **({"book": BOOK, "terms": TERMS, "verdicts": [], "problems": []} | changes))


def run_of(data: dict[str, Any], row: int) -> str:
    return str(data["rows"][row][0])


def money_of(data: dict[str, Any], basis: str, run_id: str, name: str) -> Any:
    row = [values[0] for values in data["rows"]].index(run_id)
    values = dict(zip(data["money_columns"], data["money"][basis]["rows"][row], strict=False))
    return values.get(name)


def decision_of(data: dict[str, Any], basis: str, run_id: str) -> dict[str, Any]:
    return next(d for d in data["decisions"][basis] if run_id in [run_of(data, n) for n in d["order"]])


@pytest.mark.parametrize("basis", ["on-demand", "spot", "reserved-1yr", "capacity-block"])
def test_every_amount_is_the_one_of_bench_cost_under_each_basis(basis: str) -> None:
    data, terms = data_of(RECORDS), replace(TERMS, basis=basis)
    for record in RECORDS:
        own = amounts(record, rate(record, terms, BOOK))
        for name, amount in (("cost", "usd_per_1m_inferences"), ("per_usd", "inferences_per_usd")):
            shown, true = money_of(data, basis, record.run_id, name), own[amount].value
            assert shown == (None if true is None else pytest.approx(true, rel=1e-6))


def test_the_cheapest_option_its_runner_up_and_the_price_at_which_they_change_places() -> None:
    # inf1.xlarge: 1e6 x 0.228 / (3600 x 1180.7) = 0.0536405; g6.xlarge: 1e6 x 0.8048 / (3600 x 2290.6) = 0.0975969.
    # 0.0975969 / 0.0536405 = 1.819463; 0.8048 / 1.819463 = 0.442328.
    data = data_of([INF1, L4, L4_SLOW])
    decision = decision_of(data, "on-demand", "row-inf1")
    assert [run_of(data, n) for n in decision["order"]] == ["row-inf1", "row-l4"]
    assert money_of(data, "on-demand", "row-inf1", "cost") == pytest.approx(0.0536405, rel=1e-5)
    assert decision["times"][0] == pytest.approx(1.819463, rel=1e-5)
    assert decision["flip"] == pytest.approx(0.442328, rel=1e-5)


def test_a_decision_says_under_which_basis_another_option_wins() -> None:
    # spot, both 0.20 an hour: the faster one, the L4, costs less.
    data = data_of([INF1, L4])
    assert [[basis, run_of(data, n)] for basis, n in decision_of(data, "on-demand", "row-inf1")["others"]] == \
        [["spot", "row-l4"]]


def test_another_precision_is_named_and_never_ranked_among_the_rest() -> None:
    data = data_of([INF1, L4, L4_INT8])
    decision = decision_of(data, "on-demand", "row-inf1")
    assert "row-l4-int8" not in [run_of(data, n) for n in decision["order"]]
    assert run_of(data, decision["cheaper"]) == "row-l4-int8"


def test_a_machine_stands_by_what_was_measured_on_it_before_what_was_published_of_it() -> None:
    slower = replace(MEASURED, device=L4.device, machine=L4.machine)
    data = data_of([INF1, L4, slower])
    assert [run_of(data, n) for n in decision_of(data, "on-demand", "row-inf1")["order"]] == ["row-inf1", "run-t4"]


def test_emulated_and_invalid_records_and_those_of_unstated_precision_are_never_ranked() -> None:
    others = [replace(L4, run_id="emulated", tier="emulated"), failed_record("failed", case={"dtype": "fp16"}),
              replace(L4, run_id="invalid", status="invalid", reasons=("parity failed",)),
              replace(L4, run_id="unsaid", work=L4.work | {"precision_class": None})]
    data = data_of([INF1, *others])
    ranked = {run_of(data, n) for d in data["decisions"]["on-demand"] for n in d["order"]}
    assert ranked == {"row-inf1"}


def test_a_missing_price_is_null_with_its_reason() -> None:
    data = data_of([INF1])
    assert money_of(data, "capacity-block", "row-inf1", "cost") is None
    assert "capacity-block" in data["texts"][money_of(data, "capacity-block", "row-inf1", "why")]


def test_costs_are_held_against_the_baseline_of_their_own_group() -> None:
    data = data_of([INF1, L4, L4_INT8], baseline="l4")
    # L4 over Inf1 as above: Inf1 is 1.819463 times as cheap; the L4 in 16 bit is its own baseline.
    assert money_of(data, "on-demand", "row-inf1", "times") == pytest.approx(1.819463, rel=1e-5)
    assert money_of(data, "on-demand", "row-l4", "times") == 1
    assert money_of(data, "on-demand", "row-l4-int8", "times") == 1


def test_your_own_rate_is_a_basis_of_its_own_and_leaves_the_others_alone() -> None:
    data = data_of([INF1, MEASURED], Terms(basis="user", usd_per_hour=1.0, as_of=DAY))
    assert money_of(data, "user", "run-t4", "cost") == pytest.approx(1e6 / 3600 / speed_of(MEASURED), rel=1e-6)
    assert money_of(data, "user", "row-inf1", "cost") is None
    assert money_of(data, "on-demand", "row-inf1", "cost") == pytest.approx(0.0536405, rel=1e-5)


def speed_of(record: Record) -> float:
    metric = record.metric("samples_per_second")
    assert metric is not None
    assert metric.value is not None
    return metric.value


def test_members_of_one_group_are_alike() -> None:
    groups: dict[object, list[Record]] = {}
    others = [replace(L4, work=L4.work | {"sequence": "384"}), replace(L4, work=L4.work | {"quality": "99 %"})]
    for record in [*RECORDS, *others]:
        groups.setdefault(group_of(record), []).append(record)
    assert len(groups) == 4
    for members in groups.values():
        assert all(unlike(members[0], other) == [] for other in members)


def verdict(basis: str, ratio: float, answer: str) -> Verdict:
    """The first claim, judged by the pair of Inf1 and L4."""
    pair = Pair(part="cost", label="BERT-base", subject="row-inf1", baseline="row-l4", ratio=ratio, holds=ratio > 1.67,
                subject_value=0.05, baseline_value=0.1, unit="USD", reason="no interval was published")
    return Verdict(claim=shipped_claims()[0], answer=answer, sentence=f"{EVIL} judged on {basis}", tier="vendor",
                   best=ratio, median=ratio, pairs=(pair,), basis=basis, as_of="2026-08-01",
                   left_out=(("row-l4-int8", "precision class differs"), ("row-l4-slow", "not its best batch")))


VERDICTS = [verdict("on-demand", 1.819463, "supported"), verdict("spot", 0.5154, "refuted")]


def test_a_verdicts_pairs_point_at_their_rows_and_what_was_left_out_is_counted_by_reason() -> None:
    data = data_of(RECORDS, verdicts=VERDICTS)
    found = data["verdicts"][0]
    assert [run_of(data, found["pairs"][0][side]) for side in ("subject", "baseline")] == ["row-inf1", "row-l4"]
    assert {(data["texts"][why], count) for why, count, _ in found["left_out"]} == \
        {("precision class differs", 1), ("not its best batch", 1)}


def test_records_that_verdicts_stand_on_are_shown_whatever_else_is_not() -> None:
    last = replace(L4_SLOW, run_id="row-l4", started_at="2000-01-01")
    data = data_of([*many(MOST_ROWS + 5), INF1, last], verdicts=VERDICTS)
    assert {"row-inf1", "row-l4"} <= {row[0] for row in data["rows"]}


def test_the_roofline_places_a_record_by_its_own_counts_below_its_chips_data_sheet() -> None:
    # 2e12 FLOPs and 1e11 bytes a step: 20 FLOPs a byte; 5e13 FLOP/s on two chips: 2.5e13 each. L4 in the catalog:
    # 121 TFLOP/s in 16 bit, 300 GB/s.
    record = replace(L4, device=L4.device | {"chips": 2},
                     work=L4.work | {"flops_per_step": 2e12, "bytes_per_step": 1e11},
                     metrics=(*L4.metrics, Metric(name="flops_per_second", value=5e13, unit="FLOP/s")))
    found = data_of([record, replace(INF1, work=INF1.work | {"flops_per_step": 1e9})])["roofline"]
    assert (found["points"][0]["intensity"], found["points"][0]["flops"]) == (20, 2.5e13)
    assert (found["roofs"][0]["peak"], found["roofs"][0]["bytes_per_second"]) == (1.21e14, 3e11)
    assert found["unplaced"] == 1


def test_the_ledger_of_a_run_is_shown_in_the_order_of_its_phases() -> None:
    data = data_of([INF1, MEASURED])
    row, spent = data["phases"][0]
    assert run_of(data, row) == "run-t4"
    assert dict(zip(data["phase_names"], spent, strict=True)) == MEASURED.phases_s


def test_every_dated_price_is_on_the_page_with_its_source() -> None:
    data = data_of([INF1])
    told = {tuple(data["texts"][n] for n in row[:4]): (row[4], data["texts"][row[5]]) for row in data["prices"]}
    assert told["inf1.xlarge", "us-east-1", "on-demand", "2026-07-20"] == (0.228, "https://prices.example/list")
    assert len(told) == len(PRICES)


def many(count: int) -> list[Record]:
    """Published results of ever other batches, the first of them the fastest."""
    return [replace(INF1, run_id=f"row-{i:05d}", started_at=f"2024-01-{1 + i % 28:02d}",
                    case=replace(INF1.case, batch_size=1 + i),
                    source=INF1.source | {"notes": f"note {i}: " + "of some length " * 10},
                    metrics=(Metric(name="samples_per_second", value=1000 - i / 100, unit="samples/s",
                                    low=900 - i / 100, high=1100 - i / 100), INF1.metrics[1])) for i in range(count)]


def test_beyond_the_limit_rows_are_counted_and_the_cheapest_is_kept() -> None:
    records = many(MOST_ROWS + 5)
    data = data_of(records)
    assert len(data["rows"]) == MOST_ROWS
    assert data["hidden"] == 5
    # on-demand: 1e6 x 0.228 / (3600 x 1000) = 0.0633333, that of the fastest
    assert run_of(data, decision_of(data, "on-demand", "row-00000")["order"][0]) == "row-00000"
    assert money_of(data, "on-demand", "row-00000", "cost") == pytest.approx(0.0633333, rel=1e-5)


def test_a_full_page_is_under_six_megabytes() -> None:
    book = PriceBook(replace(BOOK.prices[0], basis=basis) for basis in BASES)
    assert len(html_of(many(MOST_ROWS), book=book).encode()) < 6e6


class Parts(HTMLParser):
    """The scripts of a page with their attributes, and the tags that it has."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=False)
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", {}))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)


def test_no_text_of_a_record_leaves_the_data_and_only_the_pages_own_scripts_may_run() -> None:
    evil = replace(INF1, case=replace(INF1.case, workload=EVIL), source=INF1.source | {"notes": EVIL})
    page = html_of([evil, L4], problems=[Problem(EVIL, "broken\u2028here")])
    parts = Parts(page)
    assert [attributes.get("type") for attributes, _ in parts.scripts] == [None, "application/json", None]
    assert "window.evil" in parts.scripts[1][1]
    assert page.count("window.evil") == parts.scripts[1][1].count("window.evil")
    policy = next(attrs["content"] for tag, attrs in parts.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    for index in (0, 2):
        digest = base64.b64encode(hashlib.sha256(parts.scripts[index][1].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy


def test_json_in_a_script_ends_no_script_and_comes_back_as_it_was() -> None:
    value = {"a": "</script><!-- & \u2028 \u2029 é", "b": [1.5, None]}
    text = script_json(value)
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == value
    assert json.loads(script_json("\ud800")) == "?"


def test_the_page_asks_for_nothing_outside_itself() -> None:
    parts = Parts(html_of(RECORDS))
    outside = [attrs for _, attrs in parts.tags for name in ("src", "href", "action")
               if str(attrs.get(name) or "").startswith(("http", "//"))]
    assert outside == []


def test_an_empty_store_makes_a_page_too() -> None:
    assert data_of([])["rows"] == []
    assert "<main>" in html_of([])


def test_without_plotly_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    page_file.plotly_js.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match="plotly") as error:
        html_of(RECORDS)
    assert "pip install plotly" in error.value.fix
    page_file.plotly_js.cache_clear()
