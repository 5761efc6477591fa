"""The phases ledger in money, and the part of it that every job pays before its first item."""

from __future__ import annotations

import statistics
from datetime import datetime
from typing import Any

from bench.cost.rate import Rate
from bench.record import BEFORE_WORK, PHASES, Record
from bench.units import HOUR_S


def seconds(record: Record) -> tuple[dict[str, float], str | None]:
    """Return seconds by phase, with `other` (in no phase) and `idle` (no process ran), or {} and why not.

    The phases and `other` add up to the wall time of the record's processes. `idle` is the time
    between them, from when the record was begun to when it ended, told to the second.
    """
    if record.wall_s is None or not record.phases_s:
        return {}, "no phases were kept: it is no run of trnbench"
    phases = {phase: record.phases_s.get(phase) or 0.0 for phase in PHASES}
    phases["other"] = record.wall_s - sum(phases.values())
    elapsed = _elapsed_s(record)
    if elapsed is not None:
        phases["idle"] = max(0.0, elapsed - record.wall_s)
    return phases, None


def priced(record: Record, rate: Rate) -> tuple[dict[str, float], str | None]:
    """Return USD by phase (as `seconds`), or {} and the reason."""
    phases, why = seconds(record)
    if why or rate.usd_per_hour is None:
        return {}, why or rate.reason
    return {phase: spent_s / HOUR_S * rate.usd_per_hour for phase, spent_s in phases.items()}, None


def fixed_seconds(record: Record, cache: str | None = None) -> tuple[float | None, str | None]:
    """Return the seconds before the first useful item: the median child's start, load, compile, warm-up.

    `cache` "cold" or "warm": of the children whose compiler's cache was so; None: of all of them.
    """
    children = [child for child in record.children if child.get("role", "measure") == "measure"
                and child.get("status") == "valid" and (child.get("phases_s") or "before_work_s" in child)]
    if not children:
        return None, "no phases of single processes were kept"
    if cache is not None:
        children = [child for child in children if _cache(child) in (cache, None)]
        if not children:
            return None, f"no process ran with a {cache} compile cache"
    return statistics.median(map(_before_work_s, children)), None


def _before_work_s(child: dict[str, Any]) -> float:
    """The seconds of a child before its first useful item; records read without their bulk hold the sum alone."""
    if "before_work_s" in child:
        return float(child["before_work_s"])
    return sum(child["phases_s"].get(phase) or 0.0 for phase in BEFORE_WORK)


def _cache(child: dict[str, Any]) -> str | None:
    """cold, warm, or None where nothing is compiled and so no cache matters."""
    return (child.get("compile") or {}).get("cache")


def _elapsed_s(record: Record) -> float | None:
    try:
        return (datetime.fromisoformat(record.ended_at) - datetime.fromisoformat(record.started_at)).total_seconds()
    except ValueError:
        return None
