"""What one result says by the metric of a claim: cost, throughput, latency, energy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from bench.catalog.instances import hosts_for, known_instance, largest_hosts
from bench.cost.normalise import cost_of, items_name, throughput
from bench.cost.rate import Rate
from bench.record import Metric, Record, partly_used

LOWER_IS_BETTER = ("usd_per_item", "latency", "joules_per_item")
LATENCIES = ("latency_ms_p50", "latency_ms_mean", "latency_ms", "latency_ms_p99")
"""In this order: the first that both sides state is compared. A mean is never held against a median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a result says by a part's metric. `number` None: nothing, and `reason` says why.

    `unpriced`: it has all that its cost needs but a price.
    """

    record: Record
    name: str
    unit: str = ""
    number: float | None = None
    low: float | None = None
    high: float | None = None
    rate: Rate | None = None
    notes: tuple[str, ...] = ()
    unpriced: bool = False
    reason: str | None = None


def values_of(record: Record, metric: str, hour: Callable[[], Rate]) -> list[Value]:
    """Return what a record says by a metric of a part: one value, or of latency each statistic that it states.

    `hour` is asked for the record's rate, by metrics of cost alone.
    """
    if metric == "latency":
        stated = [found for name in LATENCIES if (found := record.metric(name)) and found.value]
        return [_value(record, found.name, found) for found in stated] or [
            Value(record=record, name="latency", reason="no latency of a request is stated")]
    if metric == "joules_per_item":
        name = f"joules_per_{record.work.get('item')}"
        return [_value(record, name, record.metric(name), "energy was not measured")]
    done, items = throughput(record), items_name(record)
    if metric == "throughput":
        return [_value(record, f"{items}_per_second", done)]
    why = partly_used(record.device)
    if why:
        return [Value(record=record, name=metric, reason=why)]
    if metric == "throughput_per_chip":
        return [_scaled(record, f"{items}_per_second_per_chip", done, record.device.get("chips"),
                        "the number of chips used is not known")]
    if metric == "throughput_per_instance":
        return [_per_instance(record, items, done)]
    return [_cost(record, done, hour())]


def _value(record: Record, name: str, metric: Metric | None, missing: str = "no throughput is stated") -> Value:
    if metric is None or metric.value is None or metric.value <= 0:
        return Value(record=record, name=name, reason=(metric and metric.reason) or missing)
    return Value(record=record, name=name, unit=metric.unit, number=metric.value, low=metric.low, high=metric.high)


def _scaled(record: Record, name: str, metric: Metric | None, by: float | None, missing: str) -> Value:
    whole = _value(record, name, metric)
    if whole.number is None or not by:
        return dataclasses.replace(whole, number=None, reason=whole.reason or missing)
    number, low, high = (None if n is None else n / by for n in (whole.number, whole.low, whole.high))
    return dataclasses.replace(whole, number=number, low=low, high=high)


def _cost(record: Record, done: Metric | None, hour: Rate) -> Value:
    """USD per million items: what an hour costs over the items of an hour; more throughput makes it less."""
    cost = cost_of(record, hour)
    if cost.value is None:
        made = done is not None and done.value is not None and done.value > 0
        return Value(record=record, name=cost.name, rate=hour, unpriced=made, reason=cost.reason)
    notes = [*([hour.assumption] if hour.assumption else []), *hour.notes]
    return Value(record=record, name=cost.name, unit=cost.unit, number=cost.value, low=cost.low, high=cost.high,
                 rate=hour, notes=tuple(notes))


def _per_instance(record: Record, items: str, done: Metric | None) -> Value:
    count, kind, why = whole_instances(record)
    value = _scaled(record, f"{items}_per_second_per_instance", done, count, why or "")
    assumed = why is None and not _named(record)
    notes = (f"the result names no instance: {count} {kind} has as many chips",) if assumed else ()
    return dataclasses.replace(value, rate=Rate(basis="", instance_type=kind, instances=count), notes=notes)


def whole_instances(record: Record) -> tuple[int | None, str | None, str | None]:
    """Return of how many whole instances a result is, and of which type; else None and why.

    Without a named instance: the smallest type whose number of that chip goes into the chips used.
    """
    used, chip = record.device.get("chips"), record.device.get("chip")
    if _named(record):
        facts = record.machine["instance"]
        known, count = known_instance(str(facts["type"])), int(facts.get("count") or 1)
        if known and known.chips and used and used != known.chips * count:
            return None, known.type, f"{used} of {known.chips * count} chips of {known.type} were used"
        return count, str(facts["type"]), None
    if not chip or not used:
        return None, None, "no instance is named, and its chip or how many were used is not known"
    hosts = hosts_for(str(chip), used) or largest_hosts(str(chip))
    host = next((host for host in hosts if used % host.chips == 0), None)
    if host is None:
        return None, None, f"no instance is named, and {used} {chip} are no whole number of instances"
    return used // host.chips, host.type, None


def _named(record: Record) -> bool:
    return bool((record.machine.get("instance") or {}).get("type"))
