"""Records priced on one set of terms: the columns, cells and ranking that money adds to a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.catalog.alike import unlike
from bench.catalog.prices import PriceBook
from bench.cost import ledger
from bench.cost.breakeven import cost_ratio
from bench.cost.normalise import Amount, amounts, items_name, throughput
from bench.cost.rate import Rate, rate
from bench.cost.terms import Terms
from bench.errors import BenchError, nearest
from bench.record import PHASES, Record
from bench.report import text
from bench.stats.ratio import at_extremes

COLUMNS = ("price_basis", "price_region", "price_as_of", "price_stale", "price_id", "usd_per_hour", "priced_as",
           "chips_used", "chips_billed", "usd_item", "usd_per_1m_items", "usd_per_1m_items_low",
           "usd_per_1m_items_high", "usd_per_1m_items_all_in_1h", "usd_per_1m_items_other_attribution",
           "items_per_usd", "usd_per_step", "usd_per_run", "usd_per_run_billed", "items_per_second_per_chip",
           "items_per_second_per_instance", "items_per_second_per_core", "mfu_data_sheet", "mbu_data_sheet",
           "peak_source", *(f"usd_phase_{phase}" for phase in (*PHASES, "other", "idle")), "usd_unknown_because")
"""What pricing adds to a record's row; `usd_item` says what the items are."""


@dataclass(frozen=True, slots=True)
class Priced:
    """A record with its rate and its normalised numbers."""

    record: Record
    rate: Rate
    amounts: dict[str, Amount]

    @property
    def cost(self) -> Amount:
        """USD per million items, steady state."""
        return self.amounts[f"usd_per_1m_{items_name(self.record)}"]


@dataclass(frozen=True, slots=True)
class Versus:
    """A record against the baseline of its kind; above 1 it is better. None: `reason` says why."""

    baseline: str
    cost: float | None = None
    cost_low: float | None = None
    cost_high: float | None = None
    speed: float | None = None
    speed_low: float | None = None
    speed_high: float | None = None
    reason: str | None = None


class Money:
    """Prices records on one set of terms, each once; holds them against a baseline if one was named.

    `baseline`: a run id (or its beginning), an instance type, a chip, a machine or a backend; of the
    records that it names the cheapest alike one stands against each other record.
    """

    def __init__(self, terms: Terms, book: PriceBook, baseline: str | None = None) -> None:
        self.terms, self.book, self.baseline = terms, book, baseline
        self._priced: dict[str, Priced] = {}
        self._against: list[Record] = []
        self.any_price = False

    def of(self, record: Record) -> Priced:
        found = self._priced.get(record.run_id)
        if found is None or found.record is not record:
            own = rate(record, self.terms, self.book)
            found = self._priced[record.run_id] = Priced(record, own, amounts(record, own))
        return found

    def forget(self, record: Record) -> None:
        """Hold a record's prices no longer: for reports of more records than memory has room for."""
        self._priced.pop(record.run_id, None)

    def over(self, records: Sequence[Record]) -> None:
        """Price the records that will be shown and find those that the baseline names; BenchError where it names none.

        Where none has a price, tables leave the columns of money away.
        """
        self.any_price = any(rate(record, self.terms, self.book).usd_per_hour is not None for record in records)
        if self.baseline is None:
            return
        self._against = [r for r in records if r.status == "valid"
                         and is_named(r, self.baseline)]
        if not self._against:
            known = sorted({name for r in records for name in _names(r) if name})
            raise BenchError(f"--baseline {self.baseline!r} names no valid record.{nearest(self.baseline, known)}",
                             fix="name a run id, or one of: " + ", ".join(name for name in known[:20]) + ".")

    def versus(self, record: Record) -> Versus | None:
        """Return the record against the baseline; None where no baseline was named."""
        if self.baseline is None:
            return None
        if record.status != "valid":
            return Versus(self.baseline, reason=f"{record.status} record")
        unlikely: list[tuple[list[str], Record]] = []
        alike: list[tuple[list[str], Record]] = []
        for other in self._against:
            why = unlike(record, other)
            if (other.tier == "emulated") != (record.tier == "emulated"):
                why = ["emulated results are compared with emulated ones alone"]
            (unlikely if why else alike).append((why, other))
        if not alike:
            nearest_why = min((why for why, _ in unlikely), key=len)
            return Versus(self.baseline, reason=f"nothing alike: {'; '.join(nearest_why)}")
        return self._held_against(record, min((other for _, other in alike), key=self.rank))

    def _held_against(self, record: Record, other: Record) -> Versus:
        mine, theirs = self.of(record), self.of(other)
        cost, low, high, why = cost_ratio(record, mine.rate, other, theirs.rate)
        a, b = throughput(record), throughput(other)
        versus = Versus(other.run_id, cost, low, high, reason=why)
        if not (a and b and a.value and b.value):
            return versus
        speed, slowest, fastest = at_extremes((a.value, a.low, a.high), (b.value, b.low, b.high))
        return replace(versus, speed=speed, speed_low=slowest, speed_high=fastest)

    def rank(self, record: Record) -> tuple[object, ...]:
        """Sort key: the cheapest item first, what has no price last, by its name."""
        cost = self.of(record).cost.value
        return (cost is None, cost or 0.0, record.run_id)

    def row(self, record: Record) -> dict[str, Any]:
        """Return a record's money by `COLUMNS`; unknown is None and `usd_unknown_because` says why."""
        priced, own, items = self.of(record), self.of(record).rate, items_name(record)
        phases, _ = ledger.priced(record, own)

        def value(name: str) -> float | None:
            found = priced.amounts.get(name)
            return found.value if found else None

        cost, mfu, mbu = priced.cost, priced.amounts["mfu"], priced.amounts["mbu"]
        values = (own.basis, own.region, own.price_as_of, own.stale if own.price_id else None, own.price_id,
                  own.usd_per_hour, own.assumption or own.instance_type, own.chips_used, own.chips_billed, items,
                  cost.value, cost.low, cost.high, value(f"usd_per_1m_{items}_all_in_1h"), _other(priced),
                  value(f"{items}_per_usd"), value("usd_per_step"), value("usd_per_run"), value("usd_per_run_billed"),
                  value(f"{items}_per_second_per_chip"), value(f"{items}_per_second_per_instance"),
                  value(f"{items}_per_second_per_core"), mfu.value, mbu.value, mfu.source or mbu.source,
                  *(phases.get(phase) for phase in (*PHASES, "other", "idle")), cost.reason)
        return dict(zip(COLUMNS, values, strict=True))


def _other(priced: Priced) -> float | None:
    """USD per million items under the other attribution, where the two differ."""
    own = priced.rate
    if priced.cost.value is None or own.share is None or own.share == 1 or own.assumption:
        return None
    return priced.cost.value * (own.share if own.attribution == "instance" else 1 / own.share)


def cells(money: Money, record: Record) -> dict[str, str]:
    """Return the cells that money adds to a table: rate, cost with half its interval, against the baseline."""
    priced = money.of(record)
    own, cost = priced.rate, priced.cost
    mark = "*" if own.stale else ""
    found = {} if not money.any_price else {
        "USD/h": text.UNKNOWN if own.usd_per_hour is None else f"{text.number(own.usd_per_hour)}{mark}",
        "USD per 1M": text.UNKNOWN if cost.value is None else f"{text.number(cost.value)} {items_name(record)}",
        "USD ±": text.half_width(cost.value, cost.low, cost.high) or text.UNKNOWN}
    versus = money.versus(record)
    if versus is not None:
        found |= {"USD × baseline": _ratio(versus.cost, versus.cost_low, versus.cost_high),
                  "speed × baseline": _ratio(versus.speed, versus.speed_low, versus.speed_high)}
    return {heading: text.plain(cell) for heading, cell in found.items()}


def notes(money: Money, records: Iterable[Record]) -> list[str]:
    """Return what a reader should know of the prices, a line each: basis and date, what is stale or unknown."""
    terms = money.terms
    said = [f"Prices: {terms.basis}, as of {terms.day}, attribution {terms.attribution}"
            f"{f', {terms.region}' if terms.region else ''}."]
    reasons: dict[str, list[str]] = {}
    for record in records:
        priced = money.of(record)
        own = priced.rate
        used = [f"price {own.price_id}"] if own.price_id else []
        if own.stale:
            used.append("it is too old to be relied on (marked *): `trnbench price refresh`, or `trnbench price set`")
        if own.price_id and (own.stale or own.notes or own.assumption):
            reasons.setdefault("; ".join([*used, *own.notes, *([own.assumption] if own.assumption else [])]),
                               []).append(record.run_id)
        if priced.cost.reason and record.status == "valid":
            reasons.setdefault(f"no cost per item: {priced.cost.reason}", []).append(record.run_id)
        versus = money.versus(record)
        if versus and versus.reason and record.status == "valid":
            reasons.setdefault(f"not held against {money.baseline}: {versus.reason}", []).append(record.run_id)
    said += [f"{_runs(runs)}: {why}" for why, runs in reasons.items()]
    if money.baseline:
        said.append(f"× baseline ({money.baseline}): above 1 is cheaper, or faster. The interval is that of both "
                    "numbers at their extremes.")
    return [text.plain(line) for line in said]


def _runs(runs: Sequence[str]) -> str:
    return runs[0] if len(runs) == 1 else f"{len(runs)} records ({runs[0]}, …)"


def _ratio(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return text.UNKNOWN
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else "")


def is_named(record: Record, name: str) -> bool:
    """Whether a baseline's name means this record: the beginning of its run id, or one of `_names`."""
    return name in _names(record) or record.run_id.startswith(name)


def _names(record: Record) -> tuple[str, ...]:
    instance = (record.machine.get("instance") or {}).get("type")
    return tuple(str(name) for name in (instance, record.device.get("chip"), record.device.get("name"),
                                        record.machine.get("name"), record.case.backend, record.run_id) if name)
