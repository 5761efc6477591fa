"""What would change the answer: the price, the use and the price basis at which a comparison flips."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.catalog.alike import unlike
from bench.catalog.prices import BASES, PriceBook
from bench.cost.normalise import cost_of, items_name
from bench.cost.rate import Rate, rate
from bench.cost.terms import Terms
from bench.record import Record
from bench.stats.ratio import at_extremes


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """Where SUBJECT stops being cheaper than RIVAL, or begins to be.

    `ratio`: rival's cost per item over the subject's; above 1 the subject is cheaper. `usd_per_hour`:
    the subject's rate at which both cost the same, with its interval. `utilisation`: the share of
    its paid hours that the subject must be busy to cost no more, while the rival is always busy;
    above 1 it never does. `by_basis`: the ratio under each basis that prices both, None with the
    reason under the others. Unknown: None, and `reason` says why.
    """

    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    usd_per_hour: float | None = None
    usd_per_hour_low: float | None = None
    usd_per_hour_high: float | None = None
    utilisation: float | None = None
    by_basis: tuple[tuple[str, float | None, str | None], ...] = ()
    reason: str | None = None


def break_even(subject: Record, rival: Record, terms: Terms, book: PriceBook) -> BreakEven:
    """Return where the comparison of two records' costs per item flips.

    Alike work only (`bench.catalog.alike`), and one basis for both sides: a reserved price on one and on-demand on the
    other is no comparison.
    """
    if items_name(subject) != items_name(rival):
        return BreakEven(reason=f"items differ: {items_name(subject)} against {items_name(rival)}")
    if why_unlike := unlike(subject, rival):
        return BreakEven(reason=f"not alike: {'; '.join(why_unlike)}")
    own, others = rate(subject, terms, book), rate(rival, terms, book)
    ratio, low, high, why = cost_ratio(subject, own, rival, others)
    bases = tuple(_under(subject, rival, replace(terms, basis=basis, usd_per_hour=None), book)
                  for basis in BASES if basis != "user")
    if ratio is None or own.usd_per_hour is None:
        return BreakEven(by_basis=bases, reason=why)
    at = own.usd_per_hour
    return BreakEven(ratio=ratio, low=low, high=high, usd_per_hour=at * ratio,
                     usd_per_hour_low=None if low is None else at * low,
                     usd_per_hour_high=None if high is None else at * high,
                     utilisation=1 / ratio, by_basis=bases)


def cost_ratio(subject: Record, own: Rate, rival: Record,
               others: Rate) -> tuple[float | None, float | None, float | None, str | None]:
    """Return rival's USD per item over the subject's with its interval, or None and why.

    The interval is that of both costs at their extremes: it covers the truth at least as often as
    they do. ValueError where the two rates are not of one basis.
    """
    if own.basis != others.basis:
        raise ValueError(f"mixed price bases: {own.basis} against {others.basis}")
    mine, theirs = cost_of(subject, own), cost_of(rival, others)
    if mine.value is None or theirs.value is None:
        return None, None, None, mine.reason or theirs.reason
    return *at_extremes((theirs.value, theirs.low, theirs.high), (mine.value, mine.low, mine.high)), None


def usd_per_used_hour(usd_per_hour: float, utilisation: float) -> float:
    """Return what an hour of use costs where every hour is paid; ValueError outside 0 < utilisation <= 1."""
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation must be above 0 and at most 1, got {utilisation}")
    return usd_per_hour / utilisation


def _under(subject: Record, rival: Record, terms: Terms,
           book: PriceBook) -> tuple[str, float | None, str | None]:
    ratio, _, _, why = cost_ratio(subject, rate(subject, terms, book), rival, rate(rival, terms, book))
    return terms.basis, ratio, why
