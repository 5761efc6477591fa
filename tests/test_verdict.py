"""Verdicts: which results are held against one another, what is answered, and how it is told."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bench.case import Case
from bench.catalog.claims import Claim, Part, Selector, shipped_claims
from bench.catalog.prices import Price, PriceBook, load_book
from bench.catalog.published import published_records
from bench.claims import Verdict, flips, judge, judge_all, on_terms, same_pairs
from bench.claims.pairs import same_basis
from bench.cost.rate import Rate
from bench.cost.terms import Terms
from bench.record import Metric, Record
from bench.report import verdicts as view
from tests.commandline import one_document, spawn, trnbench

JULY = date(2026, 7, 22)
"""The day after which all prices of the readings below are known; none of them had changed since."""

DAY = date(2026, 1, 1)


# Records, claims and prices of these tests' own


def result(run_id: str, chip: str, per_second: float | None = None, *, chips: int = 1, workload: str = "bert",
           precision: str | None = "16-bit", scenario: str = "offline", sequence: str | None = "128",
           tier: str = "published", status: str = "valid", interval: tuple[float, float] | None = None,
           instance: str | None = None, batch_size: int = 8, day: str = "2026-01-01",
           metrics: tuple[Metric, ...] = (), **work: Any) -> Record:
    """A result of one workload on some chips, at so many samples a second."""
    low, high = interval or (None, None)
    if per_second:
        metrics += (Metric(name="samples_per_second", value=per_second, unit="samples/s", low=low, high=high),)
    return Record(
        run_id=run_id, status=status, tier=tier, started_at=f"{day}T00:00:00Z", ended_at=f"{day}T00:00:00Z",
        reasons=("parity failed",) if status != "valid" else (),
        case=Case(workload=workload, size="base", task="inference", scenario=scenario, backend="published",
                  dtype="bf16", batch_size=batch_size, seq_len=128),
        machine={"name": "there", "instance": {"provider": "aws", "type": instance, "count": 1}},
        device={"kind": "aws", "name": chip, "chip": chip, "chips": chips}, metrics=metrics,
        work={"item": "sample", "item_definition": "samples", "precision_class": precision, "sequence": sequence,
              "quality": None, "batch_size": batch_size, "streams": 1, "speculation": None, "batching": None} | work)


INF, GPU, OTHER = "inferentia2", "l4", "t4"


def price(instance_type: str, usd_per_hour: float, basis: str = "on-demand", as_of: date = DAY,
          region: str = "us-east-1") -> Price:
    return Price(provider="aws", instance_type=instance_type, region=region, basis=basis, usd_per_hour=usd_per_hour,
                 as_of=as_of, source="made up for a test")


BOOK = PriceBook([price("inf2.xlarge", 1.0), price("g6.xlarge", 1.0), price("g4dn.xlarge", 1.0)])
TERMS = Terms(as_of=DAY)


def part(**changes: Any) -> Part:
    plain: dict[str, Any] = {
        "name": "cost", "metric": "usd_per_item", "claimed": "50 % cheaper", "ratio": 2.0, "up_to": False,
        "subject": Selector(chips=(INF,)), "baseline": Selector(chips=(GPU, OTHER))}
    return Part(**plain | changes)


def claim(*parts: Part) -> Claim:
    return Claim(id="T1", title="title", statement="statement", source={"publisher": "a test"},
                 parts=parts or (part(),))


def verdict_on(*records: Record, of: Claim | None = None, terms: Terms = TERMS, book: PriceBook = BOOK) -> Verdict:
    return judge(of or claim(), records, terms, book)


def why_out(verdict: Verdict, run_id: str) -> str:
    """Why a result was left out; it must have been."""
    reasons = [why for name, why in verdict.left_out if name == run_id]
    assert reasons, f"{run_id} was not left out"
    return "; ".join(reasons)


def ids(verdict: Verdict) -> set[tuple[str, str]]:
    return {(pair.subject, pair.baseline) for pair in verdict.pairs}


# The answer


def test_without_any_result_the_answer_is_insufficient_evidence() -> None:
    assert verdict_on().answer == "insufficient evidence"
    only_one_side = verdict_on(result("a", INF, 100))
    assert only_one_side.answer == "insufficient evidence"
    assert "No valid result of the baseline (l4, t4)" in only_one_side.sentence


def test_a_flat_claim_is_supported_where_every_pair_reaches_it() -> None:
    # $1 an hour each side, so the ratio of costs is that of throughput: 300/100 = 3 and 300/150 = 2, claimed 2.
    verdict = verdict_on(result("a", INF, 300), result("b", GPU, 100), result("c", OTHER, 150))
    assert (verdict.answer, verdict.best, verdict.condition) == ("supported", pytest.approx(3.0), None)
    assert verdict.median == pytest.approx(6**0.5)  # of two, the geometric mean: sqrt(3 x 2)
    assert (verdict.low, verdict.reason) == (None, "fewer than 3 pairs give no interval")


def test_a_flat_claim_is_refuted_where_no_pair_reaches_it() -> None:
    verdict = verdict_on(result("a", INF, 199), result("b", GPU, 100), result("c", OTHER, 150))
    assert verdict.answer == "refuted"


def test_a_claim_that_is_just_missed_is_missed() -> None:
    assert verdict_on(result("a", INF, 199.9), result("b", GPU, 100)).answer == "refuted"
    assert verdict_on(result("a", INF, 200), result("b", GPU, 100)).answer == "supported"


def test_a_flat_claim_that_holds_against_one_baseline_only_is_conditional_and_says_on_what() -> None:
    verdict = verdict_on(result("a", INF, 100), result("b", GPU, 120), result("c", OTHER, 50))
    assert verdict.answer == "conditional"
    assert verdict.condition == "holds against T4; fails against L4 (reverses)"


def test_the_condition_names_both_dimensions_where_one_does_not_tell() -> None:
    # bert: 3.0 against L4, 1.5 against T4; vit: 1.5 against L4, 3.0 against T4. Neither chip nor workload tells alone.
    verdict = verdict_on(result("a", INF, 300), result("b", GPU, 100), result("c", OTHER, 200),
                         result("d", INF, 300, workload="vit"), result("e", GPU, 200, workload="vit"),
                         result("f", OTHER, 100, workload="vit"))
    assert verdict.condition == ("holds for bert:base against L4 and vit:base against T4; "
                                 "fails for bert:base against T4 and vit:base against L4")


def test_an_up_to_claim_is_judged_by_its_best_pair_and_none_may_reverse() -> None:
    upto = claim(part(up_to=True))
    best = [result("a", INF, 300), result("b", GPU, 100)]
    assert verdict_on(*best, result("c", OTHER, 290), of=upto).answer == "supported"
    reversed_ = verdict_on(*best, result("c", OTHER, 310), of=upto)
    assert (reversed_.answer, reversed_.best) == ("conditional", pytest.approx(3.0))
    assert reversed_.median == pytest.approx((3 * 300 / 310) ** 0.5)
    assert verdict_on(result("a", INF, 199), result("b", GPU, 100), of=upto).answer == "refuted"


def test_a_pair_holds_only_with_its_whole_interval() -> None:
    # 300 (280 to 320) against 100 (90 to 110): 3.0 from 280/110 = 2.545 to 320/90 = 3.556.
    subject = result("a", INF, 300, interval=(280, 320))
    clear = verdict_on(subject, result("b", GPU, 100, interval=(90, 110)))
    pair, = clear.pairs
    assert clear.answer == "supported"
    assert (pair.low, pair.high) == (pytest.approx(2.5455, rel=1e-4), pytest.approx(3.5556, rel=1e-4))
    # Against 140 (130 to 150): 2.14 from 280/150 = 1.87 to 320/130 = 2.46, which spans 2.
    spans = verdict_on(subject, result("b", GPU, 140, interval=(130, 150)))
    assert (spans.answer, spans.pairs[0].holds) == ("insufficient evidence", None)
    assert spans.pairs[0].reason == "the interval spans the claimed ratio"


def test_one_interval_is_none_for_the_ratio_and_that_is_said() -> None:
    verdict = verdict_on(result("a", INF, 300, interval=(280, 320)), result("b", GPU, 100))
    assert (verdict.pairs[0].low, verdict.pairs[0].reason) == (None, "no interval was published")


def test_three_pairs_give_the_median_an_interval() -> None:
    # Ratios 2, 4 and 8: logs ln 2 x (1, 2, 3), mean ln 4, sd ln 2; t(0.975, 2) = 4.3027.
    # Half width 4.3027 x ln 2 / sqrt(3) = 1.7219, so 4 x exp(-+1.7219) = 0.715 to 22.38.
    verdict = verdict_on(result("a", INF, 800), result("b", GPU, 400), result("c", OTHER, 200),
                         result("d", "l40s", 100), of=claim(part(baseline=Selector(chips=(GPU, OTHER, "l40s")))),
                         book=PriceBook([*BOOK.prices, price("g6e.xlarge", 1.0)]))
    assert verdict.median == pytest.approx(4.0)
    assert (verdict.low, verdict.high) == (pytest.approx(0.7149, rel=1e-3), pytest.approx(22.38, rel=1e-3))


def test_parts_that_differ_make_a_claim_conditional_and_the_first_one_without_evidence_decides() -> None:
    records = [result("a", INF, 300), result("b", GPU, 100)]
    cost, speed = part(), part(name="speed", metric="throughput_per_chip", ratio=4.0)
    mixed = verdict_on(*records, of=claim(cost, speed))
    assert mixed.answer == "conditional"
    assert mixed.condition == "cost: supported (best 3.00x); speed: refuted (best 3.00x)"
    assert verdict_on(*records, of=claim(cost, part(name="again"))).answer == "supported"
    energy = part(name="energy", metric="joules_per_item")
    assert verdict_on(*records, of=claim(energy, cost)).answer == "insufficient evidence"


# What is held against what


def test_results_of_another_precision_sequence_scenario_or_workload_are_not_comparable() -> None:
    subject = result("a", INF, 300)
    for changes, told in (({"precision": "int8"}, "precision class differs: 16-bit against int8"),
                          ({"sequence": "512"}, "sequence differs: 128 against 512"),
                          ({"scenario": "server"}, "scenario differs: offline against server"),
                          ({"precision": None}, "precision class is not stated of b"),
                          ({"workload": "vit"}, "workload differs: none of bert on the other side")):
        verdict = verdict_on(subject, result("b", GPU, 100, **changes))
        assert (verdict.answer, verdict.pairs) == ("not comparable", ()), changes
        assert told in why_out(verdict, "a")


def test_what_differs_is_counted_where_nothing_is_comparable() -> None:
    verdict = verdict_on(result("a", INF, 300), result("b", GPU, 100, precision="int8"))
    assert "1 results against 1, none alike; they differ in precision class (1)" in verdict.sentence


def test_an_unlike_precision_is_shown_beside_the_claim_and_changes_no_answer() -> None:
    verdict = verdict_on(result("a", INF, 300), result("b", GPU, 100), result("c", GPU, 400, precision="int8"))
    assert (verdict.answer, ids(verdict)) == ("supported", {("a", "b")})
    cut, = verdict.cuts
    assert [(pair.subject, pair.baseline) for pair in cut.pairs] == [("a", "c")]
    assert cut.pairs[0].ratio == pytest.approx(0.75)
    assert verdict.condition == \
        "with cost at each side's best precision it fails against L4 (16-bit against int8) (reverses)"


def test_an_invalid_record_is_left_out_with_its_reason() -> None:
    verdict = verdict_on(result("a", INF, 300), result("b", GPU, 100, status="invalid"))
    assert verdict.answer == "insufficient evidence"
    assert why_out(verdict, "b") == "invalid record: parity failed"


def test_an_emulated_record_is_never_evidence() -> None:
    verdict = verdict_on(result("a", INF, 300, tier="emulated"), result("b", GPU, 100))
    assert (verdict.answer, verdict.pairs) == ("insufficient evidence", ())
    assert why_out(verdict, "a") == "emulated: it says nothing of any chip"


@pytest.mark.parametrize("metric", ["usd_per_item", "throughput_per_chip", "throughput_per_instance"])
def test_a_run_on_some_cores_of_a_chip_says_nothing_of_the_chip(metric: str) -> None:
    part_of = result("a", INF, 300, tier="measured")
    part_of = dataclasses.replace(part_of, device=part_of.device | {"cores": 1, "share_of_chips": 0.5})
    verdict = verdict_on(part_of, result("b", GPU, 100), of=claim(part(metric=metric)))
    assert (verdict.answer, verdict.pairs) == ("insufficient evidence", ())
    assert "1 of the 2 cores of 1 chip(s) were used" in why_out(verdict, "a")


def test_a_missing_price_leaves_the_pair_out_with_the_books_reason() -> None:
    verdict = verdict_on(result("a", INF, 300), result("b", GPU, 100), book=PriceBook([price("inf2.xlarge", 1.0)]))
    assert (verdict.answer, verdict.pairs) == ("insufficient evidence", ())
    assert "no on-demand price of any instance with l4" in why_out(verdict, "b")
    assert "1 alike pairs, none of them with prices on both sides" in verdict.sentence


def test_a_claim_that_holds_only_as_far_as_there_are_prices_is_conditional() -> None:
    book = PriceBook([price("inf2.xlarge", 1.0), price("g6.xlarge", 1.0)])
    for up_to in (False, True):
        verdict = verdict_on(result("a", INF, 300), result("b", GPU, 100), result("c", OTHER, 400),
                             book=book, of=claim(part(up_to=up_to)))
        assert verdict.answer == "conditional"
        assert verdict.condition == "holds against L4 (16-bit); 1 alike pairs have no price"
    # A result that states no throughput was never a pair: it takes nothing from the answer.
    assert verdict_on(result("a", INF, 300), result("b", GPU, 100), result("c", OTHER)).answer == "supported"


def test_a_missing_price_of_another_day_is_no_flip_of_prices(tmp_path: Path) -> None:
    """In May 2025 the book prices A100 alone of C01's GPUs, and against that it holds: that is not "supported"."""
    then = shipped("C01", as_of=date(2025, 5, 31))
    assert {pair.facts["baseline"] for pair in then.pairs} == {"A100 SXM 40GB"}
    assert then.answer == "conditional"
    assert "alike pairs have no price" in str(then.condition)
    assert not same_pairs(then, shipped("C01"))
    mine = tmp_path / "mine.toml"  # TPU v6e has no price in May 2025
    mine.write_text("""
[[claims]]
id = "X1"
title = "Trainium1 trains for less than a TPU"
statement = "Trainium1 trains for less than a TPU."
source = { publisher = "somebody" }
[[claims.parts]]
name = "cost"
metric = "usd_per_item"
claimed = "cheaper"
times = 1
subject = { chips = ["trainium1"] }
baseline = { chips = ["tpu-v6e"] }
tasks = ["training"]
items = ["token"]
""")
    done = trnbench("verdict", "--claims", mine, "--results", tmp_path, "--as-of", "2026-10-01",
                    "--since", "2025-05-31")
    assert "not the same pairs: some have no price on one of the days" in done.stdout


def test_mixed_price_bases_are_refused() -> None:
    assert same_basis(Rate(basis="reserved-1yr"), Rate(basis="on-demand")) == \
        "price bases differ: reserved-1yr against on-demand"
    # A chip that is priced in Capacity Blocks alone meets no price of a GPU on demand, whatever the terms.
    book = PriceBook([price("inf2.xlarge", 1.0, basis="capacity-block"), price("g6.xlarge", 1.0)])
    for basis in ("on-demand", "capacity-block"):
        verdict = verdict_on(result("a", INF, 300), result("b", GPU, 100), book=book,
                             terms=Terms(basis=basis, as_of=DAY))
        assert (verdict.answer, verdict.pairs, verdict.elsewhere) == ("insufficient evidence", (), ())


def test_one_hourly_rate_for_all_gives_no_ratio_of_costs() -> None:
    records = [result("a", INF, 300), result("b", GPU, 100)]
    verdict = verdict_on(*records, terms=Terms(basis="user", usd_per_hour=2.0, as_of=DAY))
    assert (verdict.answer, verdict.pairs) == ("insufficient evidence", ())
    assert "each instance's own" in why_out(verdict, "a")


def test_offline_each_side_enters_with_its_best_batch_and_the_newest_of_equals() -> None:
    verdict = verdict_on(result("slow", INF, 200, batch_size=1), result("a", INF, 300, batch_size=8),
                         result("old", GPU, 100, day="2024-01-01"), result("b", GPU, 100, batch_size=4))
    assert ids(verdict) == {("a", "b")}
    assert why_out(verdict, "slow") == "a is a better result of the same kind"
    assert why_out(verdict, "old") == "b is a better result of the same kind"


def test_under_a_load_every_layout_is_a_pair_of_its_own() -> None:
    book = PriceBook([price("inf2.24xlarge", 6.0), price("g6.xlarge", 1.0)])
    verdict = verdict_on(result("two", INF, 300, chips=2, scenario="server"),
                         result("six", INF, 600, chips=6, scenario="server"),
                         result("b", GPU, 100, scenario="server"), book=book)
    # 2 of 6 chips cost $2 an hour: 300/2 a dollar against 100, 1.5x; 6 cost $6: 600/6, 1.0x.
    assert {pair.subject: pair.ratio for pair in verdict.pairs} == {
        "two": pytest.approx(1.5), "six": pytest.approx(1.0)}


def test_servers_are_compared_at_as_many_requests_at_a_time() -> None:
    verdict = verdict_on(result("a", INF, 300, scenario="server", batch_size=20),
                         result("b", GPU, 100, scenario="server", batch_size=40))
    assert "requests at a time differs: 20 against 40" in why_out(verdict, "a")


def test_the_best_latency_counts_where_another_run_had_the_better_throughput() -> None:
    def run(run_id: str, chip: str, per_second: float, ms: float) -> Record:
        return result(run_id, chip, per_second, metrics=(Metric(name="latency_ms_p50", value=ms, unit="ms"),))

    of = claim(part(), part(name="latency", metric="latency"))
    verdict = verdict_on(run("fast", INF, 300, 9.0), run("soon", INF, 290, 4.0), run("neither", INF, 280, 10.0),
                         run("b", GPU, 100, 12.0), of=of)
    assert {pair.part: (pair.subject, pair.ratio) for pair in verdict.pairs} == {
        "cost": ("fast", pytest.approx(3.0)), "latency": ("soon", pytest.approx(3.0))}
    assert why_out(verdict, "neither") == "fast is a better result of the same kind"


def test_a_mean_latency_is_never_held_against_a_median() -> None:
    def latency(run_id: str, chip: str, name: str, ms: float) -> Record:
        return result(run_id, chip, scenario="single-stream", metrics=(Metric(name=name, value=ms, unit="ms"),))

    of = claim(part(metric="latency"))
    mixed = verdict_on(latency("a", INF, "latency_ms_mean", 1.0), latency("b", GPU, "latency_ms_p50", 8.0), of=of)
    assert (mixed.answer, mixed.pairs) == ("not comparable", ())
    same = verdict_on(latency("a", INF, "latency_ms_mean", 1.0), latency("b", GPU, "latency_ms_mean", 8.0), of=of)
    assert (same.answer, same.best) == ("supported", pytest.approx(8.0))


def test_throughput_per_instance_needs_a_whole_instance() -> None:
    of = claim(part(metric="throughput_per_instance", baseline=Selector(chips=(GPU,))))
    whole = verdict_on(result("a", INF, 300, instance="inf2.xlarge"), result("b", GPU, 100), of=of)
    assert whole.best == pytest.approx(3.0)  # one L4 without an instance counts as one g6.xlarge, and that is said
    assert "b: the result names no instance: 1 g6.xlarge has as many chips" in whole.pairs[0].notes
    share = verdict_on(result("a", INF, 300, chips=4, instance="inf2.48xlarge"), result("b", GPU, 100), of=of)
    assert why_out(share, "a") == "4 of 12 chips of inf2.48xlarge were used"


def test_a_ratio_of_energy_is_above_1_where_the_subject_needs_less() -> None:
    joules = [Metric(name="joules_per_sample", value=value, unit="J") for value in (0.1, 0.3)]
    verdict = verdict_on(result("a", INF, metrics=(joules[0],)), result("b", GPU, metrics=(joules[1],)),
                         of=claim(part(metric="joules_per_item")))
    assert verdict.best == pytest.approx(3.0)


def test_a_slice_of_a_machine_is_charged_by_its_chips_unless_the_whole_bill_is_asked_for() -> None:
    # One of 8 H100 of p5.48xlarge at $80 is $10 an hour, as "1 GPU" would be; inf2.xlarge at $1 does a third of it.
    book = PriceBook([price("inf2.xlarge", 1.0), price("p5.48xlarge", 80.0)])
    records = [result("a", INF, 100, instance="inf2.xlarge"), result("b", "h100-sxm", 300, instance="p5.48xlarge")]
    of = claim(part(ratio=4.0, baseline=Selector(chips=("h100-sxm",))))
    share = verdict_on(*records, of=of, book=book)
    assert (share.answer, share.best) == ("refuted", pytest.approx(10 / 3))
    whole = verdict_on(*records, of=on_terms(of, attribution=True), book=book)
    assert (whole.answer, whole.best) == ("supported", pytest.approx(80 / 3))
    assert share.condition == "with whole instances charged it is supported"


def test_a_vendor_selects_all_its_chips() -> None:
    of = claim(part(subject=Selector(vendors=("aws",)), baseline=Selector(vendors=("nvidia",))))
    records = [result("a", INF, 300), result("b", GPU, 100), result("c", OTHER, 100), result("d", "tpu-v6e", 100)]
    assert ids(verdict_on(*records, of=of)) == {("a", "b"), ("a", "c")}


def test_the_order_of_the_records_does_not_matter() -> None:
    records = published_records()[0]
    for shuffled in (records[::-1], random.Random(1).sample(records, len(records))):
        for claim_id in ("C01", "C03", "C07"):
            wanted = next(one for one in shipped_claims() if one.id == claim_id)
            again = judge(wanted, shuffled, Terms(as_of=JULY), load_book())
            assert again.pairs == shipped(claim_id).pairs
            assert again.sentence == shipped(claim_id).sentence
            assert set(again.left_out) == set(shipped(claim_id).left_out)


def test_every_result_of_a_side_is_in_a_pair_or_left_out() -> None:
    verdict = shipped("C03")
    named = {end for pair in verdict.pairs for end in (pair.subject, pair.baseline)}
    named |= {name for name, _ in verdict.left_out}
    assert {record.run_id for record in published_records()[0]
            if record.device.get("chip") in ("inferentia1", "inferentia2") and record.case.task == "inference"} == named


def test_what_was_measured_here_and_what_was_published_are_not_one_cell() -> None:
    verdict = verdict_on(result("ours", INF, 250, tier="measured"), result("theirs", INF, 300), result("b", GPU, 100))
    assert ids(verdict) == {("ours", "b"), ("theirs", "b")}


def test_an_instance_family_selects_its_types_alone() -> None:
    of = claim(part(baseline=Selector(instances=("g6",))))
    records = [result("a", INF, 300), result("b", GPU, 100, instance="g6.xlarge"),
               result("c", "l40s", 100, instance="g6e.xlarge"), result("d", GPU, 90)]
    assert ids(verdict_on(*records, of=of)) == {("a", "b")}


# How it is told


def test_a_verdict_on_published_results_cannot_be_read_as_measured() -> None:
    verdict = verdict_on(result("a", INF, 300, tier="vendor"), result("b", GPU, 100))
    assert (verdict.tier, verdict.measured) == ("vendor", False)
    assert "published evidence only, nothing measured by us" in verdict.sentence
    assert json.loads(view.to_json([verdict]))["verdicts"][0]["measured"] is False
    half = verdict_on(result("a", INF, 300, tier="vendor"), result("b", GPU, 100, tier="measured"))
    assert (half.tier, half.measured) == ("vendor", False)
    assert "no pair measured by us" in half.sentence
    ours = verdict_on(result("a", INF, 300, tier="measured"), result("b", GPU, 100, tier="measured"))
    assert (ours.tier, ours.measured) == ("measured", True)
    assert "1 of 1 pairs measured by us on both sides" in ours.sentence


def test_a_pair_says_in_which_regions_and_at_what_age_its_prices_are() -> None:
    book = PriceBook([price("inf2.xlarge", 1.0, region="us-east-2", as_of=date(2025, 1, 1)), price("g6.xlarge", 1.0)])
    pair, = verdict_on(result("a", INF, 300), result("b", GPU, 100), book=book).pairs
    assert "regions differ: us-east-2 against us-east-1" in pair.notes
    assert (pair.stale, "a: the price is 365 days old" in pair.notes) == (True, True)
    assert pair.price_ids == ("aws/inf2.xlarge/us-east-2/on-demand/2025-01-01",
                              "aws/g6.xlarge/us-east-1/on-demand/2026-01-01")


def test_stale_prices_are_told_in_the_sentence() -> None:
    late = verdict_on(result("a", INF, 300), result("b", GPU, 100), terms=Terms(as_of=date(2026, 6, 1)))
    assert "on-demand prices as of 2026-06-01, stale: the oldest is of 2026-01-01" in late.sentence
    assert "stale" not in verdict_on(result("a", INF, 300), result("b", GPU, 100)).sentence


def test_an_up_to_claim_tells_its_best_pair_and_what_speaks_against_it() -> None:
    slow = dataclasses.replace(result("b", GPU, 100), warnings=("plain PyTorch",))
    verdict = verdict_on(result("a", INF, 300), slow, result("c", OTHER, 200), of=claim(part(up_to=True)))
    assert "The best pair is a against b (b: plain PyTorch)." in verdict.sentence


def test_a_peak_that_is_not_published_is_left_out() -> None:
    of = claim(part(metric="peak", quantities=("fp8", "fp4"), subject=Selector(chips=("trainium3",)),
                    baseline=Selector(chips=("trainium2",))))
    verdict = verdict_on(of=of)
    assert [pair.facts["quantity"] for pair in verdict.pairs] == ["fp8 dense peak"]
    assert verdict.left_out == (("trainium2", "no fp4 dense peak is published"),)


def test_a_basis_on_which_the_answer_flips_is_named() -> None:
    book = PriceBook([*BOOK.prices, price("inf2.xlarge", 3.0, basis="spot"), price("g6.xlarge", 1.0, basis="spot")])
    verdict = verdict_on(result("a", INF, 300), result("b", GPU, 100), book=book)
    other = next(other for other in verdict.elsewhere if other.terms == "spot prices")
    assert (verdict.answer, other.answer, other.flips, other.best) == ("supported", "refuted", True, pytest.approx(1.0))
    assert verdict.condition == "with spot prices it is refuted"
    assert "On other terms the answer is another: with spot prices: refuted." in verdict.sentence


def test_a_part_with_a_basis_of_its_own_is_judged_on_it_unless_another_is_asked_for() -> None:
    book = PriceBook([*BOOK.prices, price("inf2.xlarge", 3.0, basis="spot"), price("g6.xlarge", 1.0, basis="spot")])
    of = claim(part(basis="spot"))
    records = [result("a", INF, 300), result("b", GPU, 100)]
    own = verdict_on(*records, of=of, book=book)
    assert (own.answer, own.basis) == ("refuted", "spot")
    assert verdict_on(*records, of=on_terms(of, basis=True), book=book).basis == "on-demand"


def test_flips_between_two_days_are_found() -> None:
    book = PriceBook([price("inf2.xlarge", 1.0), price("g6.xlarge", 1.0),
                      price("g6.xlarge", 0.5, as_of=date(2026, 2, 1))])
    records = [result("a", INF, 300), result("b", GPU, 100)]
    then, now = (judge_all([claim()], records, Terms(as_of=day), book) for day in (DAY, date(2026, 3, 1)))
    assert [(before.answer, after.answer) for before, after in flips(then, now)] == [("supported", "refuted")]
    assert same_pairs(then[0], now[0])
    assert flips(then, then) == []


def test_judging_never_changes_a_record() -> None:
    records = [result("a", INF, 300), result("b", GPU, 100)]
    before = [record.dumps() for record in records]
    verdict_on(*records, of=claim(part(priced_as="p4d.24xlarge"), part(name="other")))
    assert [record.dumps() for record in records] == before


# What the published results say, by hand from the shipped rows


@functools.cache
def shipped(claim_id: str, **terms: Any) -> Verdict:
    """The verdict on a shipped claim from the published results, by default on prices of July 2026."""
    named = {"as_of": JULY} | terms
    wanted = next(one for one in shipped_claims() if one.id == claim_id)
    return judge(wanted, published_records()[0], Terms(**named), load_book())


@pytest.fixture(autouse=True)
def _shipped_prices_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No price of the user's own gets into these numbers."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TRNBENCH_PRICES", raising=False)


def values(verdict: Verdict) -> dict[str, float]:
    """What each result of a verdict's cost pairs says, those beside the claim included."""
    found = {}
    for pair in (*verdict.pairs, *(pair for cut in verdict.cuts for pair in cut.pairs)):
        assert pair.subject_value is not None
        assert pair.baseline_value is not None
        found |= {pair.subject: pair.subject_value, pair.baseline: pair.baseline_value}
    return found


def ratio(verdict: Verdict, subject: str, baseline: str, of: str | None = None) -> float:
    """The ratio of one pair, of those beside the claim too; `of`: of that part, else of the first that has it."""
    pairs = [*verdict.pairs, *(pair for one in verdict.cuts for pair in one.pairs)]
    found = next(pair.ratio for pair in pairs if (pair.subject, pair.baseline) == (subject, baseline)
                 and of in (None, pair.part))
    assert found is not None
    return found


def test_bert_base_costs_per_million_are_those_worked_out_by_hand() -> None:
    """USD per hour x 10^6 / (3600 x samples per second), on demand in July 2026, 16 bit."""
    cost = values(shipped("C01"))
    assert cost["neuron-inf1-002"] == pytest.approx(0.0536, abs=5e-5)  # 0.228 / (3600 x 1180.7)
    assert cost["neuron-inf2-002"] == pytest.approx(0.0788, abs=5e-5)  # 0.7582 / (3600 x 2674.2)
    assert cost["trt-demobert-012"] == pytest.approx(0.1516, abs=5e-5)  # T4: 0.526 / (3600 x 963.86)
    assert cost["trt-demobert-003"] == pytest.approx(0.0976, abs=5e-5)  # L4: 0.8048 / (3600 x 2290.6)
    assert cost["trt-demobert-032"] == pytest.approx(0.0808, abs=5e-5)  # L40S: 1.861 / (3600 x 6400)
    assert cost["trt-demobert-023"] == pytest.approx(0.0917, abs=5e-5)  # A100: 21.957642 / 8 / (3600 x 8311.7)
    assert cost["trt-demobert-017"] == pytest.approx(0.0830, abs=5e-5)  # T4 INT8: 0.526 / (3600 x 1760.2)
    assert cost["trt-demobert-007"] == pytest.approx(0.0432, abs=5e-5)  # L4 INT8: 0.8048 / (3600 x 5178)


def test_inferentia_beats_an_l4_in_fp16_and_loses_to_it_in_int8() -> None:
    verdict = shipped("C01")
    # Inf1 against L4: 0.05364 / 0.09760 = 0.5496, 45 % cheaper; in INT8 0.05364 / 0.04317 = 1.2424, 24 % dearer.
    assert 1 - 1 / ratio(verdict, "neuron-inf1-002", "trt-demobert-003") == pytest.approx(0.4504, abs=1e-4)
    assert 1 / ratio(verdict, "neuron-inf1-002", "trt-demobert-007") - 1 == pytest.approx(0.2424, abs=1e-4)
    assert 1 / ratio(verdict, "neuron-inf2-002", "trt-demobert-007") - 1 == pytest.approx(0.8241, abs=1e-4)
    assert 1 - 1 / ratio(verdict, "neuron-inf1-002", "trt-demobert-012") == pytest.approx(0.6462, abs=1e-4)
    assert ("neuron-inf1-002", "trt-demobert-003") in ids(verdict)
    assert ("neuron-inf1-002", "trt-demobert-007") not in ids(verdict)  # unlike: beside the claim only


def test_c01_is_conditional_and_says_against_what_it_holds_and_reverses() -> None:
    verdict = shipped("C01")
    assert (verdict.answer, verdict.basis) == ("conditional", "on-demand")
    assert (verdict.tier, verdict.measured) == ("vendor", False)
    assert verdict.condition is not None
    holds, _, rest = verdict.condition.partition("; fails for ")
    assert holds == "holds for Inferentia1 against A100 SXM 40GB, L4, T4 and Inferentia2 against T4"
    assert "Inferentia1 against L40S" in rest
    assert "Inferentia2 against A100 SXM 40GB, L4, L40S" in rest
    assert "at each side's best precision it fails against" in rest
    assert "L4 (16-bit against int8) (reverses)" in rest
    assert "published evidence only, nothing measured by us" in verdict.sentence
    assert "nvidia-dle-017: plain PyTorch on the GPU: far below what TensorRT reaches on it" in verdict.sentence


def test_mlperf_results_have_a_quality_target_and_meet_none_without() -> None:
    every = {run_id for pair in ids(shipped("C01")) for run_id in pair}
    assert "nvidia-dle-017" in every
    assert not {"mlperf-inf-v2.0-003", "mlperf-inf-v2.0-007"} & every


def test_the_pairs_of_the_readings_of_c01_are_among_those_found() -> None:
    verdict = shipped("C01")
    every = ids(verdict) | {(pair.subject, pair.baseline) for cut in verdict.cuts for pair in cut.pairs}
    assert {("neuron-inf2-002", "trt-demobert-003"), ("neuron-inf2-002", "trt-demobert-032"),
            ("neuron-inf2-003", "trt-demobert-006"), ("neuron-inf2-003", "trt-demobert-034"),
            ("neuron-inf2-003", "trt-demobert-026"), ("mlperf-inf-v2.0-001", "mlperf-inf-v3.0-001"),
            ("mlperf-inf-v2.0-001", "mlperf-inf-v3.0-010")} <= every
    # MLPerf: 0.362 / (3600 x 63.758) = $1.577 against L4 in INT8 0.8048 / (3600 x 1032.1) = $0.217.
    assert values(verdict)["mlperf-inf-v2.0-001"] == pytest.approx(1.577, abs=5e-4)
    assert ratio(verdict, "mlperf-inf-v2.0-001", "mlperf-inf-v3.0-010") == pytest.approx(0.1373, abs=1e-4)


def test_c02_reaches_its_saving_but_not_its_throughput() -> None:
    verdict = shipped("C02")
    throughput, cost = verdict.parts
    # BERT-base per chip: 1180.7 / 963.86 = 1.225; ResNet-50: 2207 / 1190 = 1.855, the best, below 2.3.
    assert ratio(verdict, "neuron-inf1-016", "nvidia-dle-017") > 0
    assert (throughput.answer, throughput.best) == ("refuted", pytest.approx(1.8546, abs=1e-4))
    # ResNet-50: 0.228 / 2207 against 0.526 / 1190: 4.28x, 77 % cheaper than a T4 with plain PyTorch.
    assert (cost.answer, cost.best) == ("supported", pytest.approx(4.2786, abs=1e-3))
    assert verdict.answer == "conditional"


def test_c03_reaches_neither_4x_nor_10x() -> None:
    verdict = shipped("C03")
    throughput, latency = verdict.parts
    # BERT-base 2674.2 / 1180.7 = 2.265, DistilBERT 5307.9 / 1876.7 = 2.828, ResNet-50 4393.3 / 2207 = 1.991.
    assert ratio(verdict, "neuron-inf2-002", "neuron-inf1-002") == pytest.approx(2.2649, abs=1e-4)
    assert ratio(verdict, "neuron-inf2-039", "neuron-inf1-016") == pytest.approx(1.9906, abs=1e-4)
    assert (throughput.answer, throughput.best) == ("refuted", pytest.approx(2.8283, abs=1e-4))
    # BERT-base batch 1: 7.9 ms / 0.999 ms = 7.908.
    assert ratio(verdict, "neuron-inf2-009", "neuron-inf1-009") == pytest.approx(7.908, abs=1e-3)
    assert (latency.answer, latency.best) == ("refuted", pytest.approx(7.908, abs=1e-3))
    assert verdict.answer == "refuted"


def test_c04_holds_for_no_typical_encoder_although_the_gpu_ran_in_fp32() -> None:
    verdict = shipped("C04")
    measured = verdict.parts[0]
    # 8.232 / 2.398 = 3.433 at 128 tokens; 9.908 / 10.725 = 0.924 at 512; BERT-large 15.815 / 6.316 = 2.504;
    # ViT 7.209 / 3.514 = 2.052; DistilBERT 4.403 / 0.774 = 5.689, the only one above 4.5. The claim is of an average:
    # (3.433 + 0.924 + 2.504 + 1.087 + 5.689 + 3.507 + 2.052) / 7 = 2.74.
    assert ratio(verdict, "hf-encoder-020", "hf-encoder-008") == pytest.approx(3.4329, abs=1e-4)
    assert ratio(verdict, "hf-encoder-021", "hf-encoder-009") == pytest.approx(0.9238, abs=1e-4)
    assert ratio(verdict, "hf-encoder-022", "hf-encoder-010") == pytest.approx(2.5040, abs=1e-4)
    assert ratio(verdict, "hf-encoder-026", "hf-encoder-014") == pytest.approx(2.0515, abs=1e-4)
    assert (measured.answer, measured.best) == ("refuted", pytest.approx(5.6886, abs=1e-4))
    assert measured.why == "their mean is 2.74x"
    assert measured.condition is not None
    assert measured.condition.startswith("holds for distilbert")


def test_c05_trainium1_was_cheaper_than_p4de_before_june_2025_and_hardly_is_now() -> None:
    before, now = shipped("C05", as_of=date(2025, 5, 31)), shipped("C05")
    # USD per million sequences of BERT-large phase 1: trn1.32xlarge 21.5 / (3600 x 3826.6) = 1.561;
    # 8 A100 80 GB, 4591/s: p4de 40.97 -> 2.479, then 27.44705 -> 1.661; at p4d's price 32.77 -> 1.983, then
    # 21.957642 -> 1.329.
    trn1, a100 = "neuron-trn1-040", "nvidia-dle-002"

    def costs(verdict: Verdict) -> tuple[float, float, float]:
        own, at_p4d = (next(pair for pair in pairs if (pair.subject, pair.baseline) == (trn1, a100))
                       for pairs in (verdict.pairs, verdict.cuts[0].pairs))
        assert own.subject_value is not None
        assert own.baseline_value is not None
        assert at_p4d.baseline_value is not None
        return own.subject_value, own.baseline_value, at_p4d.baseline_value

    assert costs(before) == pytest.approx((1.561, 2.479, 1.983), abs=5e-4)
    assert costs(now) == pytest.approx((1.561, 1.661, 1.329), abs=5e-4)
    # Best ratio: 2.479 / 1.561 = 1.588 (37 % cheaper), then 1.064 (6 %); both below the 2.0 that "50 % lower" asks for.
    assert (before.parts[0].best, now.parts[0].best) == pytest.approx((1.5883, 1.0641), abs=1e-4)
    assert (before.answer, now.answer) == ("refuted", "refuted")
    assert now.parts[1].best == pytest.approx(0.8335, abs=1e-4)  # per instance: 3826.6 / 4591, where 1.4 is claimed


def test_c05_compares_systems_of_as_many_whole_instances() -> None:
    verdict = shipped("C05")
    assert {("neuron-trn1-040", "nvidia-dle-002"), ("neuron-trn1-038", "nvidia-dle-006")} == ids(verdict)
    # 16 nodes: 16 x 21.5 / (3600 x 57408) = 1.664 against 16 x 27.44705 / (3600 x 70555) = 1.729.
    assert ratio(verdict, "neuron-trn1-038", "nvidia-dle-006") == pytest.approx(1.0387, abs=1e-4)
    per_instance = ratio(verdict, "neuron-trn1-038", "nvidia-dle-006", of="throughput per instance")
    assert per_instance == pytest.approx(0.8137, abs=1e-4)  # 57408 / 70555
    assert "whole instances" in why_out(verdict, "nvidia-dle-001")


def test_c06_has_no_training_result_of_trainium2_and_its_stand_ins_change_nothing() -> None:
    verdict = shipped("C06")
    assert (verdict.answer, verdict.best) == ("insufficient evidence", None)
    memory = next(one for one in verdict.parts if one.part == "memory per chip")
    assert (memory.answer, memory.best) == ("supported", 3.0)  # 96 / 32 GiB
    sheet = next(cut for cut in verdict.cuts if cut.name == "data sheet per chip")
    # BF16 667 / 190 = 3.51; FP8 1299 / 190 = 6.84; bandwidth 2900 / 820 = 3.54.
    assert {pair.label.partition(" dense")[0].partition(":")[0]: pair.ratio for pair in sheet.pairs} == {
        "bf16": pytest.approx(3.5105, abs=1e-4), "memory bandwidth": pytest.approx(3.5366, abs=1e-4),
        "fp8": pytest.approx(6.8368, abs=1e-4)}


def test_c07_names_h200_of_which_there_is_no_like_result_and_h100_stands_beside_it() -> None:
    verdict = shipped("C07")
    assert (verdict.answer, verdict.basis) == ("not comparable", "capacity-block")
    # Capacity Blocks of 2026-07-22: 2 of 16 Trn2 chips 35.7608 / 8 = 4.4701 an hour, 2 of 8 H100 41.528 / 4 = 10.382.
    # Tokens per dollar: 959.96 / 4.4701 against 1670.34 / 10.382 = 1.335; with 4 chips 1297.22 / 8.9402: 0.902.
    assert ratio(verdict, "thirdparty-seedoss-011", "thirdparty-seedoss-009") == pytest.approx(1.3348, abs=1e-3)
    assert ratio(verdict, "thirdparty-seedoss-010", "thirdparty-seedoss-009") == pytest.approx(0.9019, abs=1e-3)
    assert ratio(verdict, "thirdparty-seedoss-007", "thirdparty-seedoss-005") == pytest.approx(1.3968, abs=1e-3)
    # Against one H100 in FP8, 1419.78 / 5.191: 0.785.
    assert ratio(verdict, "thirdparty-seedoss-011", "thirdparty-seedoss-012") == pytest.approx(0.7852, abs=1e-3)
    assert "H100, where the claim names P5e and P5en" in verdict.sentence


def test_c08_has_no_like_pair_and_the_sketch_beside_it_favours_the_gpu() -> None:
    verdict = shipped("C08")
    assert (verdict.answer, verdict.pairs) == ("not comparable", ())
    sketch = next(cut for cut in verdict.cuts if cut.name.startswith("cost per output token, other lengths"))
    # Llama-3.1-8B: 4 of 12 chips of inf2.48xlarge, 12.98127 / 3 / (3600 x 440.45) = $2.729 per million output
    # tokens; one H100 at its best, 512 sequences: 6.88 / (3600 x 9805.6) = $0.195.
    pair = next(pair for pair in sketch.pairs if pair.subject == "optimum-neuron-022")
    assert pair.subject_value == pytest.approx(2.729, abs=5e-4)
    assert (pair.baseline, pair.baseline_value) == ("ml-energy-029", pytest.approx(0.1949, abs=1e-4))
    assert "a sketch, no comparison" in verdict.sentence


def test_c09_holds_for_the_fp8_peak_alone() -> None:
    verdict = shipped("C09")
    assert (verdict.answer, verdict.tier, verdict.measured) == ("conditional", "vendor", False)
    # FP8 2517 / 1299 = 1.94; BF16 671 / 667 = 1.01; beside it bandwidth 4900 / 2900 = 1.69, memory 144 / 96 = 1.5.
    assert {pair.facts["quantity"]: pytest.approx(pair.ratio, abs=5e-3) for pair in verdict.pairs} == {
        "fp8 dense peak": 1.94, "bf16 dense peak": 1.01}
    assert [pair.ratio for pair in verdict.cuts[0].pairs] == [pytest.approx(1.69, abs=5e-3), 1.5]
    assert verdict.condition is not None
    assert verdict.condition.startswith("holds for fp8 dense peak; fails for bf16 dense peak")
    assert "data sheets only, nothing measured by us" in verdict.sentence


def test_a_sparse_peak_is_not_in_any_ratio() -> None:
    """Trainium2's sparse 2563 and Trainium3's sparse BF16 2517 would make 3.77 of the BF16 ratio, or 0.98 of FP8."""
    peaks = {end for pair in shipped("C09").pairs for end in (pair.subject_value, pair.baseline_value)}
    assert peaks == {2517e12, 1299e12, 671e12, 667e12}


def test_c10_tells_the_cost_that_trainium3_would_have_to_beat() -> None:
    verdict = shipped("C10")
    assert verdict.answer == "insufficient evidence"
    # B200 at 98.84 / 8 an hour, 6111 tokens/s: $0.562 per million; 40 % less is $0.337.
    assert "must cost less than $0.337 per million tokens: B200 SXM in 4-bit costs $0.562 per million output tokens " \
        "(tensorrt-llm-031" in verdict.sentence


def test_c11_is_as_much_chip_count_as_chip_speed() -> None:
    verdict = shipped("C11")
    compute, bandwidth = verdict.parts[:2]
    # 144 x 2517 / (64 x 1299) = 4.36, which rounds to 4.4; 144 x 4900 / (64 x 2900) = 3.80, within 5 % of "about 3.9".
    assert (compute.answer, compute.best) == ("supported", pytest.approx(4.3597, abs=1e-4))
    assert (bandwidth.answer, bandwidth.best) == ("supported", pytest.approx(3.8017, abs=1e-4))
    assert verdict.answer == "conditional"


def test_c13_has_no_gpu_alike_and_beside_it_costs_more_per_training_token_than_a_tpu_and_than_b200() -> None:
    verdict = shipped("C13", as_of=date(2026, 10, 1))
    # 32 x 21.5 / (3600 x 392806) = $0.4865 per million tokens; 64 x 10.8 / (3600 x 1844992) = $0.1041 on TPU v6e.
    assert values(verdict)["neuron-trn1-042"] == pytest.approx(0.4865, abs=1e-4)
    assert values(verdict)["maxtext-002"] == pytest.approx(0.1041, abs=1e-4)
    assert (verdict.answer, verdict.pairs) == ("not comparable", ())
    beside = {(pair.subject, pair.baseline): pair.ratio for cut in verdict.cuts for pair in cut.pairs}
    assert beside["neuron-trn1-042", "maxtext-002"] == pytest.approx(0.2139, abs=1e-4)
    # B200 states no precision, so it stands beside: 113.9328 / (3600 x 289173) = $0.1094.
    assert values(verdict)["mlperf-train-v5.1-007"] == pytest.approx(0.1094, abs=1e-4)


def test_c12_is_not_comparable() -> None:
    verdict = shipped("C12")
    assert (verdict.answer, verdict.pairs) == ("not comparable", ())


def test_c15_is_answered_by_who_submitted_what() -> None:
    verdict = shipped("C15")
    assert verdict.answer == "supported"
    assert {pair.subject for pair in verdict.pairs} == {f"mlperf-inf-v2.0-{n:03}" for n in range(1, 9)}
    assert "8 are on these chips, submitted by NVIDIA (8)" in verdict.sentence
    own = dataclasses.replace(result("own", "trainium2", 100), source={"publisher": "MLCommons, submitted by AWS"})
    listed = next(one for one in shipped_claims() if one.id == "C15")
    assert judge(listed, [own], TERMS, BOOK).answer == "refuted"
    assert judge(listed, [], TERMS, BOOK).answer == "insufficient evidence"


def test_what_cannot_be_measured_is_not_answered() -> None:
    answers = {claim_id: shipped(claim_id).answer for claim_id in ("C14", "C16", "C17", "C18", "C19")}
    assert answers == {"C14": "out of scope", "C16": "insufficient evidence", "C17": "insufficient evidence",
                       "C18": "not comparable", "C19": "out of scope"}
    assert "projection" not in shipped("C19").sentence
    assert "not released" in shipped("C14").sentence


def test_neurons_batches_of_one_are_no_throughput_of_a_single_stream() -> None:
    """They ran a replica a core: 1998.2/s at 0.999 ms. Against 125.7/s they would make 15.9x of C03."""
    assert ("neuron-inf2-009", "neuron-inf1-009") in ids(shipped("C03"))
    assert all(pair.part == "latency" for pair in shipped("C03").pairs if pair.subject == "neuron-inf2-009")


def test_every_pair_is_alike_or_beside_the_claim_and_everything_else_has_a_reason() -> None:
    for one in shipped_claims():
        verdict = shipped(one.id)
        for pair in verdict.pairs:
            assert " against " not in pair.facts.get("precision", "") or one.id == "C04", pair
            assert pair.ratio is not None or one.id == "C15"
        assert all(why for _, why in verdict.left_out)


# The command


def test_the_command_prints_a_line_a_claim_and_exits_0(tmp_path: Path) -> None:
    done = trnbench("verdict", "--results", tmp_path, "--as-of", "2026-07-22")
    assert done.exit_code == 0
    for claim_id in ("C01", "C19"):
        assert f"\n{claim_id}  " in done.stdout
    assert "nothing measured by us" in done.stdout


def test_all_verdicts_take_less_than_5_seconds_from_a_cold_start(tmp_path: Path) -> None:
    began = time.perf_counter()
    process = spawn("verdict", "--results", tmp_path, "--json")
    stdout, _ = process.communicate(timeout=60)
    assert time.perf_counter() - began < 5
    assert len(one_document(stdout)["verdicts"]) == 19


def test_one_claim_by_name_shows_its_pairs_its_prices_and_what_was_left_out(tmp_path: Path) -> None:
    done = trnbench("verdict", "c05", "--results", tmp_path, "--as-of", "2025-05-31")
    assert "neuron-trn1-040" in done.stdout
    assert "aws/p4de.24xlarge/us-east-1/on-demand/2025-05-31" in done.stdout
    assert "Left out (" in done.stdout
    assert "C01" not in done.stdout


def test_expect_is_a_gate(tmp_path: Path) -> None:
    asked = ("verdict", "C09", "--results", tmp_path, "--expect")
    assert trnbench(*asked, "conditional").exit_code == 0
    missed = trnbench(*asked, "supported")
    assert (missed.exit_code, missed.stderr) == (1, "Expected supported, but C09 is conditional.\n")


def test_an_unknown_claim_is_named_with_the_nearest() -> None:
    done = trnbench("verdict", "C99")
    assert done.exit_code == 2
    assert "Unknown claim 'C99'." in done.stderr


def test_json_is_one_document_and_says_that_nothing_was_measured(tmp_path: Path) -> None:
    done = trnbench("verdict", "--results", tmp_path, "--json", "--as-of", "2026-07-22")
    document = one_document(done.stdout)
    assert document["schema_version"] == "trnbench.verdicts/1"
    assert [one["claim"]["id"] for one in document["verdicts"]][:2] == ["C01", "C02"]
    assert {one["measured"] for one in document["verdicts"]} == {False}
    pair = document["verdicts"][0]["pairs"][0]
    assert {"subject", "baseline", "ratio", "holds", "price_ids", "tier", "notes", "facts"} <= set(pair)


def test_markdown_escapes_the_texts_of_records(tmp_path: Path) -> None:
    evil = verdict_on(result("a|<script>", INF, 300), result("b", GPU, 100))
    text = view.render_markdown([evil], full=True)
    assert "<script>" not in text
    assert "a\\|\\<script\\>" in text
    done = trnbench("verdict", "C01", "--results", tmp_path, "--format", "md")
    assert done.stdout.startswith("# Verdicts")


def test_since_names_the_answers_that_flipped(tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text("provider,instance_type,region,basis,term,usd_per_hour,as_of,source,note\n"
                      + "".join(f"aws,{name},us-east-1,on-demand,,0.001,2026-11-01,me,\n"
                                for name in ("inf1.xlarge", "inf1.2xlarge", "inf1.6xlarge", "inf2.xlarge")), "utf-8")
    done = trnbench("verdict", "C01", "--results", tmp_path / "none", "--prices", prices)
    assert done.exit_code == 2  # results that are not there are no evidence to pass over
    done = trnbench("verdict", "C01", "--results", tmp_path, "--prices", prices, "--as-of", "2026-11-02",
                    "--since", "2026-07-22", "--json")
    document = one_document(done.stdout)
    flipped = [(one["claim"], one["then"], one["now"]) for one in document["flipped"]]
    assert flipped == [("C01", "conditional", "supported")]


def test_no_published_judges_the_users_own_records_alone(tmp_path: Path) -> None:
    done = trnbench("verdict", "C01", "--results", tmp_path, "--no-published", "--json")
    assert one_document(done.stdout)["verdicts"][0]["answer"] == "insufficient evidence"


def test_an_asked_basis_replaces_a_claims_own(tmp_path: Path) -> None:
    done = trnbench("verdict", "C07", "--results", tmp_path, "--basis", "spot", "--json")
    assert one_document(done.stdout)["verdicts"][0]["basis"] == "spot"


def test_a_day_that_is_none_and_a_format_that_is_none_are_told(tmp_path: Path) -> None:
    assert "--since 'May' is no day" in trnbench("verdict", "--since", "May").stderr
    assert "not written as csv" in trnbench("verdict", "-o", tmp_path / "x.csv").stderr


def test_the_claims_can_be_listed() -> None:
    done = trnbench("list", "claims", "--json")
    listed = one_document(done.stdout)
    assert [row["claim"] for row in listed] == [one.id for one in shipped_claims()]
