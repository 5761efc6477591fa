"""Records and rates -> per chip, per instance, per dollar. Numbers in and out, each with its interval.

All money follows from two facts: items per second and USD per hour. Items in an hour are
3600 x items per second, so a million of them cost 1e6 x USD per hour / (3600 x items per second).
Nothing is rounded on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.catalog.chips import chip as chip_of
from bench.catalog.chips import peak_flops_per_second
from bench.catalog.instances import known_instance
from bench.cost import ledger
from bench.cost.billing import billed_seconds
from bench.cost.rate import Rate
from bench.errors import BenchError
from bench.record import Metric, Record, partly_used
from bench.units import HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A normalised number. None: not known, and `reason` says why. `low`, `high`: its 95 % interval."""

    name: str
    unit: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    source: str | None = None


def items_name(record: Record) -> str:
    """Return what is counted, in the plural: inferences, samples (in training), images or tokens."""
    item = str(record.work.get("item") or "item")
    return "inferences" if item == "sample" and record.case.task == "inference" else f"{item}s"


def throughput(record: Record) -> Metric | None:
    """Return the metric `<item>s_per_second` of the whole system."""
    return record.metric(f"{record.work.get('item')}s_per_second")


def usd_per_million(usd_per_hour: float, items_per_second: float) -> float:
    """Return what a million items cost at a rate; ValueError for a throughput that is not above 0."""
    if items_per_second <= 0:
        raise ValueError(f"items per second must be above 0, got {items_per_second}")
    return 1e6 * usd_per_hour / (HOUR_S * items_per_second)


def amounts(record: Record, rate: Rate) -> dict[str, Amount]:
    """Return a record's normalised numbers by name.

    Of a record that is not valid every one is None but what its run cost: a wrong answer has no price,
    and was paid for. Names:
    `usd_per_1m_<items>` (steady state), `usd_per_1m_<items>_all_in_1h` (an hour that begins with
    starting, loading, compiling and warming up), `<items>_per_usd`, `usd_per_step`, `usd_per_run`
    (the run's own ledger, or its time to train), `usd_per_run_billed`, `<items>_per_second_per_chip`,
    `_per_instance`, `_per_core`, `mfu` and `mbu` against the chip's data sheet, `joules_per_<item>`.
    """
    items, tp = items_name(record), _throughput(record)
    found = [
        cost_of(record, rate),
        _all_in(record, items, tp, rate),
        _cost(f"{items}_per_usd", f"{items}/USD", tp, rate, lambda usd, per_s: HOUR_S * per_s / usd, falling=False),
        _step(record, rate), _run(record, rate, billed=False), _run(record, rate, billed=True),
        _per_chip(record, items, tp), _per_instance(record, items, tp, rate), _per_core(record, items, tp),
        _mfu(record), _mbu(record), _joules(record),
    ]
    return {amount.name: amount for amount in found}


def cost_of(record: Record, rate: Rate) -> Amount:
    """Return `usd_per_1m_<items>` alone: what a million items cost in the steady state."""
    return _cost(f"usd_per_1m_{items_name(record)}", "USD", _throughput(record), rate, usd_per_million)


def _throughput(record: Record) -> Metric:
    return _valid(record, throughput(record), "no throughput is stated")


def _valid(record: Record, metric: Metric | None, missing: str) -> Metric:
    if record.status != "valid":
        return Metric(name="", value=None, unit="", reason=f"{record.status} record: "
                      f"{'; '.join(record.reasons) or 'no reason kept'}")
    if metric is None:
        return Metric(name="", value=None, unit="", reason=missing)
    if metric.value is not None and metric.value <= 0:
        return Metric(name=metric.name, value=None, unit=metric.unit, reason=f"{metric.name} is {metric.value:g}")
    return metric


def _cost(name: str, unit: str, tp: Metric, rate: Rate, formula: Callable[[float, float], float], *,
          falling: bool = True) -> Amount:
    """A number of money from throughput; `falling`: more throughput makes it less, so that bounds change sides."""
    usd = rate.usd_per_hour
    if tp.value is None or usd is None:
        return Amount(name=name, unit=unit, reason=tp.reason if tp.value is None else rate.reason)
    low, high = (None if bound is None or bound <= 0 else formula(usd, bound) for bound in (tp.low, tp.high))
    return Amount(name=name, unit=unit, value=formula(usd, tp.value), source=rate.price_id,
                  low=high if falling else low, high=low if falling else high)


def _all_in(record: Record, items: str, tp: Metric, rate: Rate) -> Amount:
    """A million items of a job of one hour: its first part is paid for but makes nothing."""
    name = f"usd_per_1m_{items}_all_in_1h"
    fixed_s, why = ledger.fixed_seconds(record)
    if fixed_s is None:
        return Amount(name=name, unit="USD", reason=why)
    if fixed_s >= HOUR_S:
        return Amount(name=name, unit="USD", reason=f"starting takes {fixed_s:,.0f} s: an hour makes nothing")
    busy = 1 - fixed_s / HOUR_S
    return _cost(name, "USD", tp, rate, lambda usd, per_s: usd_per_million(usd, per_s * busy))


def _step(record: Record, rate: Rate) -> Amount:
    step = _valid(record, record.metric("step_time_ms"), "no step time is stated")
    if step.value is None or rate.usd_per_hour is None:
        return Amount(name="usd_per_step", unit="USD", reason=step.reason if step.value is None else rate.reason)
    value, low, high = (None if ms is None else ms / 1e3 / HOUR_S * rate.usd_per_hour
                        for ms in (step.value, step.low, step.high))
    return Amount(name="usd_per_step", unit="USD", value=value, low=low, high=high, source=rate.price_id)


def _run(record: Record, rate: Rate, *, billed: bool) -> Amount:
    """What this run costs: its time to train, else the wall time of all its processes.

    Billed: whole instances, by the provider's increments, whatever share of the chips was used.
    """
    name = "usd_per_run_billed" if billed else "usd_per_run"
    train = record.metric("time_to_train_s")
    if train and record.status != "valid":
        return Amount(name=name, unit="USD", reason=_valid(record, train, "").reason)
    seconds = train.value if train else record.wall_s
    usd = rate.whole_usd_per_hour if billed else rate.usd_per_hour
    if seconds is None or usd is None:
        return Amount(name=name, unit="USD", reason="no wall time or time to train is stated" if seconds is None
                      else rate.reason)
    if billed:
        paid, why = billed_seconds(seconds, provider=rate.provider, basis=rate.basis)
        if paid is None:
            return Amount(name=name, unit="USD", reason=why)
        seconds = paid
    return Amount(name=name, unit="USD", value=seconds / HOUR_S * usd, source=rate.price_id)


def _scaled(name: str, unit: str, tp: Metric, by: float | None, missing: str) -> Amount:
    if tp.value is None or not by:
        return Amount(name=name, unit=unit, reason=tp.reason if tp.value is None else missing)
    value, low, high = (None if n is None else n / by for n in (tp.value, tp.low, tp.high))
    return Amount(name=name, unit=unit, value=value, low=low, high=high)


def _per_chip(record: Record, items: str, tp: Metric) -> Amount:
    why = partly_used(record.device)
    return _scaled(f"{items}_per_second_per_chip", f"{items}/s", tp, None if why else record.device.get("chips"),
                   why or "the number of chips used is not known")


def _per_instance(record: Record, items: str, tp: Metric, rate: Rate) -> Amount:
    """Only of instances whose chips were all used: what the rest would have added was not measured."""
    name, missing = f"{items}_per_second_per_instance", "no instance is named"
    why = partly_used(record.device)
    if why:
        return _scaled(name, f"{items}/s", tp, None, why)
    if rate.assumption or not rate.instances or not rate.instance_type:
        return _scaled(name, f"{items}/s", tp, None, missing)
    if rate.share is not None and rate.share < 1:
        known = known_instance(rate.instance_type)
        total = known.chips * rate.instances if known else "all"
        return _scaled(name, f"{items}/s", tp, None, f"{rate.chips_used} of {total} chips were used: "
                                                     "the whole was not measured")
    return _scaled(name, f"{items}/s", tp, rate.instances, missing)


def _per_core(record: Record, items: str, tp: Metric) -> Amount:
    return _scaled(f"{items}_per_second_per_core", f"{items}/s", tp, record.device.get("cores"),
                   "the number of cores used is not stated")


def _mfu(record: Record) -> Amount:
    """FLOP/s over the dense data-sheet peak of the chips used, in the record's number format."""
    done = _valid(record, record.metric("flops_per_second"), "the work per item is not stated in FLOPs")
    return _share("mfu", record, done, lambda chip: peak_flops_per_second(chip, record.case.dtype))


def _mbu(record: Record) -> Amount:
    """Bytes per second over the data-sheet bandwidth of the chips used, decimal GB/s on both sides."""
    done = _valid(record, record.metric("gb_per_second"), "the bytes per item are not stated")
    return _share("mbu", record, done, _bandwidth)


def _bandwidth(chip: str) -> tuple[float | None, str]:
    facts = chip_of(chip)
    if facts.memory_bandwidth_gb_per_second is None:
        return None, f"no memory bandwidth of {facts.name} is published"
    return (facts.memory_bandwidth_gb_per_second,
            f"{facts.name}: {facts.memory_bandwidth_gb_per_second:g} GB/s a chip ({facts.source})")


def _share(name: str, record: Record, done: Metric, peak_of: Callable[[str], tuple[float | None, str]]) -> Amount:
    """What was done over the data-sheet peak of the chips used; above 1 something is wrong, and it is None."""
    chip, chips = record.device.get("chip"), record.device.get("chips")
    if done.value is None or not chip or not chips:
        return Amount(name=name, unit="1", reason=done.reason if done.value is None
                      else "which chip it is, or how many were used, is not known to the catalog")
    try:
        each, source = peak_of(str(chip))
    except BenchError as error:
        return Amount(name=name, unit="1", reason=error.what)
    if each is None:
        return Amount(name=name, unit="1", reason=source)
    share = record.device.get("share_of_chips", 1.0)
    if share is None:
        return Amount(name=name, unit="1", reason=partly_used(record.device))
    peak = each * chips * share
    if done.value > peak:
        return Amount(name=name, unit="1", source=source, reason=f"{done.value / peak:.2f} of the dense peak: the "
                      "throughput, the work per item or the peak is wrong")
    value, low, high = (None if n is None else n / peak for n in (done.value, done.low, done.high))
    return Amount(name=name, unit="1", value=value, low=low, high=high, source=source)


def _joules(record: Record) -> Amount:
    name = f"joules_per_{record.work.get('item')}"
    metric = _valid(record, record.metric(name), "energy was not measured")
    return Amount(name=name, unit="J", value=metric.value, low=metric.low, high=metric.high, reason=metric.reason)
