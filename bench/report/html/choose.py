"""Which records the page shows, and which of them are alike. Linear, and without prices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from bench.catalog.alike import Likeness, likeness, unlike
from bench.cost.normalise import items_name
from bench.record import TIERS, Record
from bench.report.frame import throughput

MOST_ROWS = 1000
"""So many published rows, which are the longest, priced under every basis, are just under 6 MB with plotly."""


@dataclass(frozen=True, slots=True)
class Group:
    """What options are alike in, and `cost`: the amount by which they are ranked."""

    like: Likeness
    cost: str


def group_of(record: Record) -> Group:
    """Return a record's group: fields that count in some scenarios alone (`alike.unlike`) are None in the others."""
    like = likeness(record)
    generated = like.scenario == "offline" and like.item_definition.endswith("output tokens")
    return Group(replace(like, batch_size=like.batch_size if like.scenario == "server" else None,
                         batching=like.batching if generated else None), cost_name(record))


def unsaid(record: Record) -> list[str]:
    """Return what a record does not state, and so is like no other in: such a record is never ranked."""
    return [reason.partition(" of ")[0] for reason in unlike(record, record)]


def cost_name(record: Record) -> str:
    """Return the amount that tells how dear a record's work is: USD a million items, or a whole training run."""
    if throughput(record) is None and record.metric("time_to_train_s"):
        return "usd_per_run"
    return f"usd_per_1m_{items_name(record)}"


def option_of(record: Record) -> tuple[object, ...]:
    """What would be bought: the machine, how many of it, the chip and how many of that."""
    instance = record.machine.get("instance") or {}
    where = instance.get("type") or (None if record.source else record.machine.get("name"))
    return (where, instance.get("count"), record.device.get("chip") or record.device.get("name"),
            record.device.get("chips"))


def speed(record: Record) -> float | None:
    """Items per second, or runs per second where only the time to train is known; None: not known."""
    metric = throughput(record)
    if metric and metric.value is not None:
        return metric.value
    train = record.metric("time_to_train_s")
    return 1 / train.value if train and train.value else None


def choose(records: Sequence[Record], needed: Collection[str], most: int = MOST_ROWS) -> list[Record]:
    """Return at most `most` records: those that verdicts name, each option's fastest, then by tier and age.

    Of one option in one group the price is one, so that its fastest record is its cheapest and no
    decision is lost by leaving out the others.
    """
    if len(records) <= most:
        return list(records)
    first = fastest(records)
    ranked = sorted(records, key=lambda r: r.started_at, reverse=True)
    ranked.sort(key=lambda r: (r.run_id not in needed, r.run_id not in first, TIERS.index(r.tier)))
    return ranked[:most]


def fastest(records: Iterable[Record]) -> set[str]:
    """Return the run ids of each option's fastest valid record in each group."""
    best: dict[tuple[object, ...], tuple[float, str]] = {}
    for record in records:
        rate = speed(record) if record.status == "valid" and record.tier != "emulated" else None
        if rate is not None:
            key = (group_of(record), option_of(record), record.tier)
            best[key] = max(best.get(key, (0.0, "")), (rate, record.run_id))
    return {run_id for _, run_id in best.values()}
