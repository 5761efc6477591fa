"""Two results held against one another: the ratio, its interval, and all that weakens it."""

from __future__ import annotations

from bench.catalog.alike import likeness
from bench.catalog.chips import known_chip
from bench.catalog.claims import Part
from bench.claims.values import LOWER_IS_BETTER, Value
from bench.claims.verdict import Pair
from bench.cost.rate import Rate
from bench.record import TIERS, Record
from bench.stats.ratio import at_extremes

NO_INTERVAL = "no interval was published"
NOT_STATED = "precision not stated"


def same_basis(ours: Rate | None, theirs: Rate | None) -> str | None:
    """Return why two rates are not to be held against one another, None where they share their basis."""
    if ours and theirs and ours.basis != theirs.basis:
        return f"price bases differ: {ours.basis} against {theirs.basis}"
    return None


def ratio_of(ours: Value, theirs: Value, metric: str) -> tuple[float, float | None, float | None]:
    """Return the ratio that is above 1 where the subject is better, and its extremes where both have an interval."""
    assert ours.number is not None
    assert theirs.number is not None
    up, down = (theirs, ours) if metric in LOWER_IS_BETTER else (ours, theirs)
    assert up.number is not None
    assert down.number is not None
    ratio, low, high = at_extremes((up.number, up.low, up.high), (down.number, down.low, down.high))
    return ratio, *((low, high) if low is not None and high is not None else (None, None))


def reaches(ratio: float, low: float | None, high: float | None, claimed: float) -> bool | None:
    """Return whether a ratio reaches the claimed one, None where its interval spans it."""
    claimed *= 1 - 1e-9  # or a ratio of two quotients would miss 2 by a rounding of the last digit
    if low is None or high is None:
        return ratio >= claimed
    return True if low >= claimed else False if high < claimed else None


def pair_of(part: Part, ours: Value, theirs: Value) -> Pair:
    """Return an alike pair of values that both have a number."""
    ratio, low, high = ratio_of(ours, theirs, part.metric)
    facts = _facts(ours, theirs)
    tier = max((ours.record.tier, theirs.record.tier), key=TIERS.index)
    spans = low is not None and reaches(ratio, low, high, part.ratio) is None
    return Pair(
        part=part.name, label=_label(facts), subject=ours.record.run_id, baseline=theirs.record.run_id,
        ratio=ratio, low=low, high=high, holds=reaches(ratio, low, high, part.ratio), subject_value=ours.number,
        baseline_value=theirs.number, unit=f"{ours.unit} ({ours.name})", tier=tier,
        price_ids=tuple(value.rate.price_id for value in (ours, theirs) if value.rate and value.rate.price_id),
        stale=any(value.rate.stale for value in (ours, theirs) if value.rate), notes=_notes(ours, theirs), facts=facts,
        warnings=tuple(f"{value.record.run_id}: {warning}" for value in (ours, theirs)
                       for warning in value.record.warnings),
        reason="the interval spans the claimed ratio" if spans else NO_INTERVAL if low is None else None)


def _facts(ours: Value, theirs: Value) -> dict[str, str]:
    """What a pair is, by dimension; where the sides differ, both."""
    one, other = likeness(ours.record), likeness(theirs.record)
    name = one.workload if one.size == "published" else f"{one.workload}:{one.size}"
    chips_used = [value.record.device.get("chips") for value in (ours, theirs)]
    return {
        "workload": name, "task": one.task,
        "scenario": _both(one.scenario, other.scenario), "sequence": _both(one.sequence, other.sequence),
        "precision": _both(one.precision_class or NOT_STATED, other.precision_class or NOT_STATED),
        "requests at a time": str(one.batch_size) if one.scenario == "server" and one.batch_size else "",
        "subject": chip_name(ours.record), "baseline": chip_name(theirs.record),
        "instance": (ours.rate and ours.rate.instance_type) or "",
        "chips": f"{chips_used[0] or '?'} against {chips_used[1] or '?'} chips",
        "tiers": _both(ours.record.tier, theirs.record.tier)}


def _both(one: str | None, other: str | None) -> str:
    return (one or "") if one == other else f"{one or 'none'} against {other or 'none'}"


def chip_name(record: Record) -> str:
    """Return a result's chip as people call it."""
    found = known_chip(record.device.get("chip"))
    return found.name if found else str(record.device.get("name") or "an unknown device")


def _label(facts: dict[str, str]) -> str:
    users = facts["requests at a time"] and f"{facts['requests at a time']} at a time"
    work = " ".join(filter(None, (facts["workload"], facts["scenario"], facts["sequence"], facts["precision"], users)))
    return f"{work}: {facts['subject']} against {facts['baseline']}, {facts['chips']}"


def _notes(ours: Value, theirs: Value) -> tuple[str, ...]:
    """All that weakens a pair without making it unlike, each note with the result it is of."""
    notes = [f"{value.record.run_id}: {note}" for value in (ours, theirs)
             for note in (*value.notes, *value.record.warnings)]
    if ours.rate and theirs.rate:
        for name in ("region", "provider"):
            places = getattr(ours.rate, name), getattr(theirs.rate, name)
            if None not in places and places[0] != places[1]:
                notes.append(f"{name}s differ: {places[0]} against {places[1]}")
    return tuple(notes)
