"""Money: worked by hand from a small price book, unknown with its reason, never a stored record changed."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import pytest

from bench.catalog.prices import Price, PriceBook
from bench.cost import ledger
from bench.cost.amortise import Job, crossover
from bench.cost.billing import billed_seconds
from bench.cost.breakeven import break_even, cost_ratio, usd_per_used_hour
from bench.cost.normalise import amounts, usd_per_million
from bench.cost.rate import Rate, rate
from bench.cost.terms import Terms
from bench.errors import BenchError
from bench.record import Metric, Record
from tests.records import MACHINE, make_record

DAY = date(2026, 8, 1)


def price(instance_type: str, usd_per_hour: float, basis: str = "on-demand", region: str = "us-east-1",
          as_of: str = "2026-07-20") -> Price:
    return Price(provider="aws", instance_type=instance_type, region=region, basis=basis, term="", note="", own=False,
                 usd_per_hour=usd_per_hour, as_of=date.fromisoformat(as_of), source="a test")


BOOK = PriceBook([
    price("inf2.xlarge", 0.7582), price("inf2.xlarge", 0.5, "spot", as_of="2026-07-25"), price("g6.xlarge", 0.8048),
    price("trn1.32xlarge", 21.5), price("p4d.24xlarge", 21.957642), price("p4d.24xlarge", 32.77, as_of="2025-05-31"),
    price("c7i.16xlarge", 2.856)])


def machine(instance_type: str | None, count: int = 1) -> dict[str, Any]:
    return MACHINE | {"instance": {"provider": "aws", "type": instance_type, "region": None, "count": count,
                                   "reason": None if instance_type else "the result names no instance"}}


def result(run_id: str = "r", *, per_s: float | None = 1000.0, low: float | None = None, high: float | None = None,
           instance: str | None = "inf2.xlarge", chip: str | None = "inferentia2", chips: int | None = 1,
           item: str = "sample", count: int = 1, **changes: Any) -> Record:
    """A published result of so many items a second."""
    metric = Metric(name=f"{item}s_per_second", value=per_s, unit=f"{item}s/s", low=low, high=high,
                    reason=None if per_s else "not stated")
    plain: dict[str, Any] = {
        "metrics": (metric,), "machine": machine(instance, count), "source": {"id": run_id, "publisher": "somebody"},
        "device": {"kind": "neuron", "name": "x", "chip": chip, "chips": chips}, "work": {"item": item},
        "phases_s": {}, "wall_s": None, "tier": "published"}
    return dataclasses.replace(make_record(run_id, **(plain | changes)), children=())


def rate_of(record: Record, **terms: Any) -> Rate:
    return rate(record, Terms(**({"as_of": DAY} | terms)), BOOK)


# -- what an hour costs


def test_a_named_instance_is_charged_whole() -> None:
    found = rate_of(result())
    assert (found.usd_per_hour, found.share, found.price_id) == (
        0.7582, 1.0, "aws/inf2.xlarge/us-east-1/on-demand/2026-07-20")


def test_only_the_share_of_chips_in_use_is_charged_where_that_is_asked_for() -> None:
    # 4 of the 16 chips of trn1.32xlarge: a quarter of 21.50
    record = result(instance="trn1.32xlarge", chip="trainium1", chips=4)
    assert rate_of(record).usd_per_hour == 21.5
    assert rate_of(record, attribution="chips").usd_per_hour == pytest.approx(5.375)
    assert rate_of(record, attribution="chips").whole_usd_per_hour == 21.5


def test_several_instances_cost_several_times_as_much() -> None:
    assert rate_of(result(instance="trn1.32xlarge", chip="trainium1", chips=256, count=16)).usd_per_hour == 344.0


def test_more_chips_than_the_instances_have_is_refused() -> None:
    found = rate_of(result(instance="inf2.xlarge", chips=12))
    assert found.usd_per_hour is None
    assert "12 chips" in str(found.reason)


def test_a_chip_without_an_instance_is_priced_as_its_share_of_the_smallest_priced_host() -> None:
    # one of the 8 A100 of p4d.24xlarge: 21.957642 / 8
    found = rate_of(result(instance=None, chip="a100-40gb"))
    assert found.usd_per_hour == pytest.approx(2.74470525)
    assert found.attribution == "chips"
    assert "1 of 8 chips of p4d.24xlarge" in str(found.assumption)


def test_more_chips_than_any_host_has_are_several_hosts() -> None:
    # 12 A100: two p4d have 16, of which 12 are charged: 2 x 21.957642 x 12/16
    found = rate_of(result(instance=None, chip="a100-40gb", chips=12))
    assert found.usd_per_hour == pytest.approx(32.936463)
    assert found.instances == 2


@pytest.mark.parametrize(("record", "said"), [
    (result(instance="trn2.48xlarge", chip="trainium2", chips=16), "trn2.48xlarge"),
    (result(instance=None, chip=None), "the result names no instance"),
    (result(instance=None, chip="h100-sxm"), "h100-sxm"),
    (result(instance="no-such.xlarge"), "no-such.xlarge"),
    (result(tier="emulated"), "emulated"),
])
def test_an_unknown_price_is_none_with_its_reason_and_so_is_what_depends_on_it(record: Record, said: str) -> None:
    found = rate_of(record)
    assert found.usd_per_hour is None
    assert said in str(found.reason)
    cost = amounts(record, found)["usd_per_1m_inferences"]
    assert (cost.value, cost.reason) == (None, found.reason)


def test_an_own_rate_prices_what_was_measured_and_nothing_that_was_published() -> None:
    measured = make_record(machine=machine(None))
    assert rate_of(measured, basis="user", usd_per_hour=2.0).usd_per_hour == 2.0
    assert "published" in str(rate_of(result(), basis="user", usd_per_hour=2.0).reason)


def test_a_cpu_instance_has_no_chips_to_share_and_is_charged_whole() -> None:
    record = make_record(machine=machine("c7i.16xlarge"))
    assert rate_of(record, attribution="chips").usd_per_hour == 2.856


@pytest.mark.parametrize("changes", [{"basis": "on demand"}, {"attribution": "core"}, {"usd_per_hour": 1.0},
                                     {"basis": "user", "usd_per_hour": 0.0},
                                     {"basis": "user", "usd_per_hour": float("nan")}])
def test_terms_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BenchError):
        Terms(**changes)


# -- per item


def test_a_million_inferences_cost_what_the_division_says() -> None:
    # 0.7582 USD/h over 2674.2 x 3600 = 9,627,120 inferences an hour: 0.078757 USD a million
    assert usd_per_million(0.7582, 2674.2) == pytest.approx(0.0787567, rel=1e-5)


def test_amounts_of_a_published_result() -> None:
    # 1000/s at 0.7582 USD/h: 3.6 M an hour, 0.210611 USD a million; 4,748,087 an USD
    record = result(low=900.0, high=1100.0)
    found = amounts(record, rate_of(record))
    cost = found["usd_per_1m_inferences"]
    assert cost.value == pytest.approx(0.2106111, rel=1e-6)
    assert (cost.low, cost.high) == (pytest.approx(0.1914646, rel=1e-6), pytest.approx(0.2340123, rel=1e-6))
    assert found["inferences_per_usd"].value == pytest.approx(4748087, rel=1e-6)
    assert found["inferences_per_second_per_chip"].value == 1000
    assert found["inferences_per_second_per_instance"].value == 1000
    assert found["usd_per_run"].reason == "no wall time or time to train is stated"
    assert found["usd_per_1m_inferences_all_in_1h"].reason == "no phases of single processes were kept"


def test_per_instance_is_not_made_up_from_a_part_of_one() -> None:
    record = result(instance="trn1.32xlarge", chip="trainium1", chips=4, per_s=400.0)
    found = amounts(record, rate_of(record))
    assert found["inferences_per_second_per_chip"].value == 100
    assert found["inferences_per_second_per_instance"].value is None
    assert "4 of 16 chips" in str(found["inferences_per_second_per_instance"].reason)


def test_a_part_of_a_chip_is_no_chip_and_its_peak_is_that_part_of_the_chips() -> None:
    # Trainium2: 667 TFLOP/s in bf16 on 8 physical cores; one of its 4 logical ones has 166.75. 1000 samples/s of
    # 50 GFLOP are 50 TFLOP/s: 0.299850 of that, and 0.074963 of the chip that it was no run of.
    flops = Metric(name="flops_per_second", value=50e12, unit="FLOP/s")
    whole = result(instance="trn2.3xlarge", chip="trainium2")
    whole = dataclasses.replace(whole, case=dataclasses.replace(whole.case, dtype="bf16"),
                                metrics=(*whole.metrics, flops))
    part = dataclasses.replace(whole, device=whole.device | {"cores": 1, "share_of_chips": 0.25})
    found = amounts(part, rate_of(part, basis="capacity-block"))
    assert found["mfu"].value == pytest.approx(0.2998501, rel=1e-6)
    assert amounts(whole, rate_of(whole))["mfu"].value == pytest.approx(0.0749625, rel=1e-6)
    for name in ("inferences_per_second_per_chip", "inferences_per_second_per_instance"):
        assert found[name].value is None
        assert found[name].reason == "1 of the 4 cores of 1 chip(s) were used: the whole was not measured"
    assert found["inferences_per_second_per_core"].value == 1000
    unknown = dataclasses.replace(part, device=part.device | {"share_of_chips": None})
    assert amounts(unknown, rate_of(unknown))["mfu"].reason == "what share of its chips it used is not known"


def test_a_part_of_an_instance_is_known_as_one_without_any_price() -> None:
    record = result(instance="trn2.48xlarge", chip="trainium2", chips=2)  # no on-demand price in this book
    found = amounts(record, rate_of(record))["inferences_per_second_per_instance"]
    assert (found.value, found.reason) == (None, "2 of 16 chips were used: the whole was not measured")


def test_more_chips_than_one_host_has_are_priced_at_aws_before_others() -> None:
    # 64 H100 in hosts of 8: p5.48xlarge, and not the a3 of another provider that has as many; 8 x 55.04
    book = PriceBook([price("p5.48xlarge", 55.04), price("a3-megagpu-8g", 94.0666, region="us-east5")])
    found = rate(result(instance=None, chip="h100-sxm", chips=64), Terms(as_of=DAY), book)
    assert (found.instance_type, found.instances) == ("p5.48xlarge", 8)
    assert found.usd_per_hour == pytest.approx(440.32)
    assert "the largest host of that chip" in str(found.assumption)


def test_unlike_work_has_no_break_even() -> None:
    found = break_even(result(), result("other", case={"workload": "vit"}), Terms(as_of=DAY), BOOK)
    assert found.ratio is None
    assert "not alike: workload differs: bert against vit" in str(found.reason)


def test_training_counts_samples_and_generation_tokens() -> None:
    training, tokens = result(case={"task": "training", "scenario": "training"}), result(item="token")
    assert "usd_per_1m_samples" in amounts(training, rate_of(training))
    assert "usd_per_1m_tokens" in amounts(tokens, rate_of(tokens))


def test_a_record_that_is_not_valid_has_no_price_at_all() -> None:
    record = make_record(machine=machine("inf2.xlarge"), status="invalid", reasons=("parity failed",))
    found = amounts(record, rate_of(record))
    assert {name for name, amount in found.items() if amount.value is not None} <= {"usd_per_run", "usd_per_run_billed"}
    assert found["usd_per_1m_inferences"].reason == "invalid record: parity failed"


def test_mfu_is_over_the_dense_peak_of_the_chips_used() -> None:
    # inferentia2: 190 TFLOP/s dense in bf16; 19 TFLOP/s done on one chip is 10 %, on two 5 %
    done = Metric(name="flops_per_second", value=19e12, unit="FLOP/s", low=18e12, high=20e12)
    record = result(metrics=(done,))
    assert amounts(record, rate_of(record))["mfu"].value == pytest.approx(0.1)
    two = result(metrics=(done,), chips=2, instance=None)
    assert amounts(two, rate_of(two))["mfu"].value == pytest.approx(0.05)


def test_more_than_the_dense_peak_is_no_mfu() -> None:
    record = result(metrics=(Metric(name="flops_per_second", value=300e12, unit="FLOP/s"),))
    found = amounts(record, rate_of(record))["mfu"]
    assert found.value is None
    assert "1.58 of the dense peak" in str(found.reason)


def test_a_format_without_a_dense_peak_has_no_mfu() -> None:
    record = result(metrics=(Metric(name="flops_per_second", value=1e12, unit="FLOP/s"),), chip="t4",
                    case={"dtype": "bf16"}, instance=None)
    found = amounts(record, rate_of(record))["mfu"]
    assert found.value is None
    assert "bf16" in str(found.reason)


def test_mbu_is_over_the_bandwidth_of_the_chips_used() -> None:
    # inferentia2: 820 GB/s; 205 GB/s is a quarter
    record = result(metrics=(Metric(name="gb_per_second", value=205.0, unit="GB/s"),))
    assert amounts(record, rate_of(record))["mbu"].value == pytest.approx(0.25)


# -- the ledger


def measured(children: int = 3) -> Record:
    child = {"role": "measure", "status": "valid", "compile": {"cache": "cold"},
             "phases_s": {"start": 5.0, "load": 10.0, "check": 7.0, "tune": 3.0, "compile": 100.0, "warmup": 5.0,
                          "measure": 20.0, "teardown": 1.0}, "wall_s": 151.5}
    warm = child | {"compile": {"cache": "warm"}, "phases_s": child["phases_s"] | {"compile": 4.0}, "wall_s": 55.5}
    plain: dict[str, Any] = {
        "machine": machine("inf2.xlarge"),
        "phases_s": {"start": 15.0, "load": 30.0, "check": 21.0, "tune": 9.0, "compile": 204.0, "warmup": 15.0,
                     "measure": 60.0, "teardown": 3.0}, "wall_s": 358.5,
        "started_at": "2026-07-01T00:00:00+00:00", "ended_at": "2026-07-01T00:06:00+00:00"}
    return dataclasses.replace(make_record(**plain), children=(child, child, warm)[:children])


def test_the_priced_ledger_adds_up_to_the_wall_time_s_price() -> None:
    # 358.5 s at 0.7582 USD/h = 0.0755041 USD; phases sum to 357, so 1.5 s are in none; 1.5 s idle of 360
    record = measured()
    phases, why = ledger.priced(record, rate_of(record))
    assert why is None
    assert sum(usd for phase, usd in phases.items() if phase != "idle") == pytest.approx(358.5 / 3600 * 0.7582)
    assert phases["compile"] == pytest.approx(204 / 3600 * 0.7582)
    assert phases["other"] == pytest.approx(1.5 / 3600 * 0.7582)
    assert phases["idle"] == pytest.approx(1.5 / 3600 * 0.7582)
    assert amounts(record, rate_of(record))["usd_per_run"].value == pytest.approx(0.07550408, rel=1e-6)


def test_what_comes_before_the_first_item_is_told_for_a_cold_and_a_warm_cache() -> None:
    # start 5 + load 10 + compile 100 or 4 + warm-up 5; the harness's own check and tune are no user's
    assert ledger.fixed_seconds(measured(), "cold") == (120.0, None)
    assert ledger.fixed_seconds(measured(), "warm") == (24.0, None)
    assert ledger.fixed_seconds(measured()) == (120.0, None)  # the median of 120, 120, 24
    only_cold = measured(children=2)
    assert ledger.fixed_seconds(only_cold, "warm") == (None, "no process ran with a warm compile cache")


def test_an_hour_that_begins_with_two_minutes_of_starting_costs_a_thirtieth_more() -> None:
    record = measured()
    found = amounts(record, rate_of(record))
    assert found["usd_per_1m_inferences_all_in_1h"].value == pytest.approx(
        found["usd_per_1m_inferences"].value * 3600 / 3480)  # type: ignore[operator]


def test_pricing_anew_changes_no_record() -> None:
    record = measured()
    before = record.dumps()
    for basis in ("on-demand", "spot", "capacity-block"):
        amounts(record, rate_of(record, basis=basis))
    assert record.dumps() == before


# -- job length, break-even, billing


def test_compile_time_is_paid_back_after_so_many_items() -> None:
    # A: 1 USD/h, 1800 s to start, 1000/s; B: 1 USD/h, 0 s, 500/s.
    # (1800 + n/1000) = n/500  ->  n = 1,800,000; both then cost 1 USD
    slow_start, quick = (Job(usd_per_hour=1, fixed_s=1800, items_per_second=1000),
                         Job(usd_per_hour=1, fixed_s=0, items_per_second=500))
    found = crossover(slow_start, quick)
    assert (found.items, found.below, found.above) == (pytest.approx(1_800_000), "second", "first")
    assert slow_start.usd(1_800_000) == pytest.approx(quick.usd(1_800_000)) == pytest.approx(1.0)
    assert slow_start.usd_per_million(1_800_000) == pytest.approx(1 / 1.8)


def test_where_one_is_always_cheaper_there_is_no_crossover() -> None:
    better, worse = (Job(usd_per_hour=1, fixed_s=10, items_per_second=100),
                     Job(usd_per_hour=2, fixed_s=20, items_per_second=100))
    assert crossover(better, worse).items is None
    assert crossover(better, worse).above == "first"
    assert crossover(worse, better).above == "second"
    same_rate = Job(usd_per_hour=1, fixed_s=5, items_per_second=100)
    assert (crossover(better, same_rate).items, crossover(better, same_rate).below) == (None, "second")


def test_break_even_is_the_price_the_use_and_the_bases_at_which_the_answer_flips() -> None:
    # inf2 1000/s at 0.7582, L4 900/s at 0.8048: cost 0.210611 and 0.248395; ratio 1.1794
    # level at 0.7582 x 1.1794 = 0.894222 USD/h = 0.8048 x 1000/900, or when busy 84.79 % of its hours
    ours = result(low=950.0, high=1050.0)
    theirs = result("l4", per_s=900.0, low=880.0, high=920.0, instance="g6.xlarge", chip="l4")
    found = break_even(ours, theirs, Terms(as_of=DAY), BOOK)
    assert found.ratio == pytest.approx(1.179402, rel=1e-6)
    assert found.usd_per_hour == pytest.approx(0.8942222, rel=1e-6)
    assert found.utilisation == pytest.approx(0.847887, rel=1e-5)
    assert found.low == pytest.approx(0.8048 / 0.7582 * 950 / 920)
    assert found.high == pytest.approx(0.8048 / 0.7582 * 1050 / 880)
    bases = {basis: (ratio, why) for basis, ratio, why in found.by_basis}
    assert bases["on-demand"][0] == pytest.approx(found.ratio)
    assert bases["spot"][0] is None  # g6.xlarge has no spot price here: never on-demand times a guess
    assert "g6.xlarge" in str(bases["spot"][1])


def test_two_bases_are_never_set_against_one_another() -> None:
    record = result()
    with pytest.raises(ValueError, match="mixed price bases: on-demand against spot"):
        cost_ratio(record, rate_of(record), record, rate_of(record, basis="spot"))


def test_different_items_have_no_break_even() -> None:
    found = break_even(result(), result("t", item="token"), Terms(as_of=DAY), BOOK)
    assert (found.ratio, found.reason) == (None, "items differ: inferences against tokens")


def test_a_reservation_costs_more_per_hour_of_use() -> None:
    assert usd_per_used_hour(0.5, 0.25) == 2.0
    with pytest.raises(ValueError):
        usd_per_used_hour(0.5, 0)


@pytest.mark.parametrize(("used_s", "basis", "billed_s"), [
    (10.2, "on-demand", 60), (90.5, "on-demand", 91), (10, "capacity-block", 86400), (86401, "capacity-block", 172800),
    (15 * 86400, "capacity-block", 21 * 86400), (14 * 86400, "capacity-block", 14 * 86400), (10.2, "user", 10.2)])
def test_time_is_billed_in_the_provider_s_blocks(used_s: float, basis: str, billed_s: float) -> None:
    assert billed_seconds(used_s, provider="aws", basis=basis) == (billed_s, None)


def test_an_unknown_way_of_billing_is_said() -> None:
    assert billed_seconds(10, provider="gcp", basis="on-demand")[0] is None
    assert "182 days" in str(billed_seconds(200 * 86400, provider="aws", basis="capacity-block")[1])


def test_time_to_train_is_a_run_of_that_length() -> None:
    # 120 minutes on 16 x trn1.32xlarge at 21.50: 2 h x 344 USD
    record = result(instance="trn1.32xlarge", chip="trainium1", chips=256, count=16,
                    metrics=(Metric(name="time_to_train_s", value=7200.0, unit="s"),))
    assert amounts(record, rate_of(record))["usd_per_run"].value == pytest.approx(688.0)


def test_prices_of_another_day_are_those_of_that_day() -> None:
    record = result(instance="p4d.24xlarge", chip="a100-40gb", chips=8)
    assert rate_of(record).usd_per_hour == 21.957642
    assert rate_of(record, as_of=date(2025, 6, 1)).usd_per_hour == 32.77
    assert rate_of(record, as_of=date(2025, 1, 1)).usd_per_hour is None


def test_an_old_price_is_flagged() -> None:
    assert not rate_of(result()).stale
    assert rate_of(result(), as_of=date(2026, 10, 19)).stale  # 91 days
    assert not rate_of(result(), as_of=date(2026, 10, 18)).stale  # 90 days
    assert rate_of(result(), basis="spot", as_of=date(2026, 8, 25)).stale  # 31 days
    assert dataclasses.asdict(rate_of(result()))["price_as_of"] == "2026-07-20"
