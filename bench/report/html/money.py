"""Records in money under one price basis: what the page shows when its switch stands there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.catalog.prices import BASES, PriceBook
from bench.cost.normalise import Amount, amounts, items_name
from bench.cost.rate import Rate, rate
from bench.cost.terms import Terms
from bench.record import Record
from bench.report.html.choose import cost_name
from bench.report.html.texts import Texts, short, shorts
from bench.stats.ratio import at_extremes

ALWAYS = ("on-demand", "spot", "reserved-1yr", "capacity-block")
"""Bases that the switch offers though nothing may have such a price; others only where something has."""


@dataclass(frozen=True, slots=True)
class Priced:
    """A record's rate and what follows from it. `cost`: what options are ranked by."""

    rate: Rate
    cost: Amount
    per_usd: Amount
    all_in: Amount


def price_all(records: Sequence[Record], terms: Terms, book: PriceBook) -> dict[str, list[Priced]]:
    """Return each record's money by basis, in the records' order."""
    found = {basis: [price(record, under(terms, basis), book) for record in records] for basis in BASES}
    return {basis: rows for basis, rows in found.items()
            if basis in ALWAYS or basis == terms.basis or any(p.cost.value is not None for p in rows)}


def under(terms: Terms, basis: str) -> Terms:
    """The same terms under another basis; the user's own rate stays with the basis "user"."""
    return replace(terms, basis=basis, usd_per_hour=terms.usd_per_hour if basis == "user" else None)


def price(record: Record, terms: Terms, book: PriceBook) -> Priced:
    its_rate = rate(record, terms, book)
    found, items = amounts(record, its_rate), items_name(record)
    return Priced(its_rate, found[cost_name(record)], found[f"{items}_per_usd"],
                  found[f"usd_per_1m_{items}_all_in_1h"])


def ratio(better: Amount, other: Amount) -> tuple[float | None, float | None, float | None]:
    """How many times `better`'s cost `other`'s is, with both intervals' extremes as its own."""
    if not better.value or other.value is None:
        return None, None, None
    return at_extremes((other.value, other.low, other.high), (better.value, better.low, better.high))


def money_rows(rows: Sequence[Priced], baseline: Sequence[int | None], texts: Texts) -> dict[str, Any]:
    """Return {"rates": [distinct rates], "rows": [a list a record, by MONEY, unknown last ones left away]}.

    `baseline`: the row whose cost each is held against, or None.
    """
    rates: dict[Rate, int] = {}
    found = []
    for own, base in zip(rows, baseline, strict=True):
        times = ratio(own.cost, rows[base].cost) if base is not None else (None, None, None)
        number = rates.setdefault(own.rate, len(rates))
        why = texts.number(own.cost.reason if own.cost.value is None else None)
        found.append([number, why, *shorts(own.cost.value, own.cost.low, own.cost.high, own.per_usd.value,
                                           own.per_usd.low, own.per_usd.high, own.all_in.value, *times)])
    return {"rates": [rate_json(one, texts) for one in rates], "rows": found}


MONEY = ("rate", "why", "cost", "cost_low", "cost_high", "per_usd", "per_usd_low", "per_usd_high", "all_in",
         "times", "times_low", "times_high")


def rate_json(of: Rate, texts: Texts) -> dict[str, Any]:
    """A rate as the page tells it: what an hour costs, by which price, and what was taken for granted."""
    told = {
        "usd_per_hour": short(of.usd_per_hour), "whole": short(of.whole_usd_per_hour), "share": short(of.share),
        "price": of.price_id, "as_of": of.price_as_of, "region": of.region, "stale": of.stale or None,
        "instance": of.instance_type, "count": of.instances, "attribution": of.attribution,
        "assumption": texts.number(of.assumption), "notes": texts.numbers(of.notes), "why": texts.number(of.reason)}
    return {name: value for name, value in told.items() if value not in (None, [])}
