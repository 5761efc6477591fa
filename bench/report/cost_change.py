"""How a cost changed between two records that are priced on the same terms."""

from __future__ import annotations

from dataclasses import replace

from bench.errors import BenchError, nearest
from bench.record import Record
from bench.report.compare import Change, change
from bench.report.money import Money

MARGIN = 1.05
"""Within 5 % counts as the same, as in `bench.stats.ratio`."""


def is_cost(metric: str) -> bool:
    """Whether a gate's metric is money, and so follows from a time or a rate and a price."""
    return metric == "usd_per_step" or metric.startswith("usd_per_1m_")


def cost_change(base: Record, new: Record, name: str, money: Money) -> Change:
    """Return how the cost per item or per step changed, both sides priced on the same terms.

    It is the change of throughput (or of the step's time) times that of the price, which has no
    spread: so its interval is that of the times, and equal machines gain or lose exactly as much.
    BenchError for a cost that neither side has.
    """
    before, after = money.of(base), money.of(new)
    bare = Change(metric=name, unit="USD", base=None, new=None)
    known = {"usd_per_step", before.cost.name, after.cost.name}
    if name not in known:
        raise BenchError(f"No record here has a cost {name!r}.{nearest(name, sorted(known))}",
                         fix=f"name one of: {', '.join(sorted(known))}.")
    if name not in before.amounts or name not in after.amounts:
        return replace(bare, reason=f"items differ: {before.cost.name} against {after.cost.name}")
    a, b = before.amounts[name], after.amounts[name]
    bare = replace(bare, base=a.value, new=b.value)
    if a.value is None or b.value is None:
        return replace(bare, reason=f"{name} is not known: {a.reason or b.reason}")
    underlying = "step_time_ms" if name == "usd_per_step" else f"{new.work.get('item')}s_per_second"
    found = change(base, new, underlying)
    if found.ratio is None:
        return replace(bare, reason=found.reason)
    assert before.rate.usd_per_hour is not None
    assert after.rate.usd_per_hour is not None
    dearer = after.rate.usd_per_hour / before.rate.usd_per_hour
    ratio, low, high = (None if r is None else r / dearer for r in (found.ratio, found.low, found.high))
    assert ratio is not None
    return replace(found, metric=name, unit="USD", base=a.value, new=b.value, ratio=ratio, low=low, high=high,
                   relative=1 / ratio - 1, relative_low=None if high is None else 1 / high - 1,
                   relative_high=None if low is None else 1 / low - 1, verdict=_verdict(low, high))


def _verdict(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "cant_tell"
    if low > 1 or high < 1:
        return "better" if low > 1 else "worse"
    return "same" if low >= 1 / MARGIN and high <= MARGIN else "cant_tell"
