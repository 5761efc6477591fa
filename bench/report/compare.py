"""Two sets of records held against one another: ratios with intervals, or "can't tell"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.record import Metric, Record
from bench.report.children import children_values
from bench.report.frame import main_metric, measured, noise_floor
from bench.report.match import LeftOut, Pair, match
from bench.stats.ratio import Ratio, at_extremes, compare_values

LOWER_IS_BETTER = frozenset(("ms", "s", "J", "bytes"))
"""Units of which less is better; of rates and of shares of a peak, more is."""

VERDICTS = {"better": "better", "worse": "worse", "same": "same within 5 %", "cant_tell": "can't tell"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One metric of two records. `ratio` above 1: NEW is better, whichever way the metric points.

    `low` and `high` bound its 95 % interval. `relative` is new / base - 1 of the metric itself, with
    its own bounds: a latency that rose by 10 % has relative 0.1 and ratio 0.91.
    `verdict`: "better" or "worse" where the interval excludes 1, "same" where it lies within 5 %,
    else "cant_tell". `smallest_visible`: the least relative difference that would most likely (80 %)
    be told. None: unknown, and `reason` says why.
    """

    metric: str
    unit: str
    base: float | None
    new: float | None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    relative: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None
    verdict: str = "cant_tell"
    smallest_visible: float | None = None
    method: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A pair with the change of its main metric."""

    pair: Pair
    change: Change


@dataclass(frozen=True, slots=True)
class Comparison:
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]


def compare(base: Sequence[Record], new: Sequence[Record]) -> Comparison:
    """Return the alike pairs of two sets with their changes, and every record left out with its reason."""
    pairs, left_out = match(base, new)
    return Comparison(tuple(Row(pair, change(pair.base, pair.new, main_name(pair))) for pair in pairs),
                      tuple(left_out))


def main_name(pair: Pair) -> str:
    """Return the name of the metric a pair is judged by: one that both sides know."""
    names = [metric.name for record in (pair.base, pair.new) if (metric := main_metric(record))]
    return names[0] if len(set(names)) == 1 else "step_time_ms"


def change(base: Record, new: Record, name: str) -> Change:
    """Return how one metric changed from `base` to `new`.

    The ratio rests on one number a child (see `bench.stats.ratio.compare_values`) and on the larger
    noise floor of the two machines; memory does not vary with a machine's noise. A metric that is
    kept for the whole record alone is judged by the overlap of its two intervals, which is stricter.
    """
    before, after = _metric(base, name), _metric(new, name)
    bare = Change(metric=name, unit=before.unit or after.unit, base=before.value, new=after.value)
    if before.value is None or after.value is None:
        unknown = [f"{metric.reason} ({side})" for side, metric in (("BASE", before), ("NEW", after))
                   if metric.value is None]
        return replace(bare, reason=f"{name} is not known: {'; '.join(unknown)}")
    if before.value <= 0 or after.value <= 0:
        return replace(bare, reason=f"{name} has no ratio: {before.value:g} and {after.value:g}")
    if name == "compile_s" and _caches(base) != _caches(new):
        return replace(bare, reason=f"compile caches differ: {_caches(base)} against {_caches(new)}")
    found = _ratio(base, new, before, after)
    verdict: str = found.verdict
    if verdict == "differs":
        verdict = "better" if found.low is not None and found.low > 1 else "worse"
    bounds = [None if bound is None else bound - 1 for bound in _as_measured(found, before.unit)]
    return replace(bare, ratio=found.value, low=found.low, high=found.high, verdict=verdict,
                   relative=bounds[0], relative_low=bounds[1], relative_high=bounds[2],
                   method=found.method, smallest_visible=found.smallest_visible, reason=found.reason)


def _as_measured(found: Ratio, unit: str) -> tuple[float | None, float | None, float | None]:
    """new / base of the metric itself with its bounds, from the ratio that is above 1 where NEW is better."""
    if unit not in LOWER_IS_BETTER:
        return found.value, found.low, found.high
    return 1 / found.value, found.high and 1 / found.high, found.low and 1 / found.low


def _ratio(base: Record, new: Record, before: Metric, after: Metric) -> Ratio:
    """The ratio that is above 1 where NEW is better."""
    values, why = children_values(base, before.name)
    others, why_too = children_values(new, before.name)
    if before.unit in LOWER_IS_BETTER:
        before, after, values, others = after, before, others, values
    if values and others:
        floor = None if before.unit == "bytes" else noise_floor(base, new)
        return compare_values(values, others, floor)
    return _by_overlap(before, after, why or why_too)


def _by_overlap(base: Metric, new: Metric, why: str | None) -> Ratio:
    """new / base between the extremes of both intervals: it covers the truth at least as often as they do."""
    assert base.value is not None
    assert new.value is not None
    value, low, high = at_extremes((new.value, new.low, new.high), (base.value, base.low, base.high))
    if low is None or high is None or min(low, high) <= 0:
        return Ratio(value, None, None, "cant_tell", None, "no intervals", why)
    return Ratio(value, low, high, "differs" if low > 1 or high < 1 else "cant_tell", None,
                 "the extremes of both intervals")


def _metric(record: Record, name: str) -> Metric:
    """A metric by name; peak memory, which is no metric of its own, as one."""
    if name == "peak_memory_bytes":
        return Metric(name=name, value=record.memory.get("peak_bytes"), unit="bytes",
                      reason=record.memory.get("method") or "not measured")
    return record.metric(name) or Metric(name=name, value=None, unit="", reason="not measured")


def _caches(record: Record) -> str:
    return "/".join(sorted(str((child.get("compile") or {}).get("cache")) for child in measured(record)))
