"""The price book: dated rows of USD per hour, each with its basis, region and source, never a guess."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from bench.catalog.instances import Instance, forget_instances, instances
from bench.catalog.rows import Row, own_folder, read_file, read_rows, shipped
from bench.errors import BenchError, nearest

FILE = "prices.csv"
COLUMNS = ("provider", "instance_type", "region", "basis", "term", "usd_per_hour", "as_of", "source", "note")
BASES = ("on-demand", "spot", "reserved-1yr", "reserved-3yr", "capacity-block", "user")
HOME_REGION = "us-east-1"
STALE_AFTER_DAYS = dict.fromkeys(BASES, 90) | {"spot": 30, "capacity-block": 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour of one instance cost on one day. `own`: a row of the user's, not a shipped one.

    `term`: what a reservation binds to. `exact_day` False: the source tells the month or year alone,
    `as_of` is its first day, and how old the price is nobody knows.
    """

    provider: str
    instance_type: str
    region: str
    basis: str
    usd_per_hour: float
    as_of: date
    source: str
    term: str = ""
    note: str = ""
    own: bool = False
    exact_day: bool = True

    @property
    def id(self) -> str:
        """What reports cite, e.g. `aws/inf2.xlarge/us-east-1/on-demand/2026-07-20`."""
        return "/".join((self.provider, self.instance_type, self.region, self.basis, self.as_of.isoformat()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The answer of the book: a price with its age at the day asked about, or None and the `reason`."""

    price: Price | None = None
    reason: str | None = None
    age_days: int | None = None
    stale: bool = False
    notes: tuple[str, ...] = ()


def is_stale(price: Price, day: date) -> bool:
    """Whether a price is too old at a day to be relied on, or of no certain day.

    Too old: more than 90 days, or 30 for spot and capacity blocks, whose prices move weekly.
    """
    return not price.exact_day or (day - price.as_of).days > STALE_AFTER_DAYS[price.basis]


class PriceBook:
    """Prices by instance type. Of two rows of one `id` the user's own one counts."""

    def __init__(self, prices: Iterable[Price]) -> None:
        by_id: dict[str, Price] = {}
        for price in prices:
            if price.id not in by_id or price.own:
                by_id[price.id] = price
        self.prices = tuple(by_id.values())
        self._by_type: dict[str, list[Price]] = defaultdict(list)
        for price in self.prices:
            self._by_type[price.instance_type].append(price)
        self._quoted: dict[tuple[str, str, str | None, date], Quote] = {}

    def quote(self, instance_type: str, basis: str, *, region: str | None = None, as_of: date | None = None) -> Quote:
        """Return the newest price that is not of a later day than `as_of` (default: today).

        Without a region: us-east-1 where the type is priced there, else the region in which it costs
        least, which the notes say. BenchError for an unknown basis.
        """
        if basis not in BASES:
            raise BenchError(f"Unknown price basis {basis!r}.{nearest(basis, BASES)}",
                             fix=f"choose one of {', '.join(BASES)}.")
        asked = (instance_type, basis, region, as_of or date.today())
        if asked not in self._quoted:
            self._quoted[asked] = self._quote(*asked)
        return self._quoted[asked]

    def _quote(self, instance_type: str, basis: str, region: str | None, day: date) -> Quote:
        newest: dict[str, Price] = {}
        for price in sorted(self._by_type.get(instance_type, ()), key=lambda price: price.as_of):
            if price.basis == basis and price.as_of <= day:
                newest[price.region] = price
        if not newest or (region is not None and region not in newest):
            return Quote(reason=self._why_none(instance_type, basis, region, day, sorted(newest)))
        notes = []
        if region is None:
            region = _region_for(newest)
            if region != HOME_REGION:
                notes.append(f"not priced in {HOME_REGION}: {region} has the lowest price of {len(newest)} "
                             f"region{'s' if len(newest) > 1 else ''}")
        price = newest[region]
        age_days, stale = (day - price.as_of).days, is_stale(price, day)
        if not price.exact_day:
            notes.append("the day of this price is not recorded")
        elif stale:
            notes.append(f"the price is {age_days} days old")
        return Quote(price=price, age_days=age_days, stale=stale,
                     notes=(*notes, *([price.note] if price.note else [])))

    def _why_none(self, instance_type: str, basis: str, region: str | None, day: date, regions: list[str]) -> str:
        rows = self._by_type.get(instance_type, [])
        own_rate = "--usd-per-hour, or `trnbench price set`"
        if regions:
            return f"no {basis} price of {instance_type} in {region}; it has one in {', '.join(regions)}: " \
                   f"pass another --region, {own_rate}"
        if not rows:
            known = sorted({one.type for one in instances()} | set(self._by_type))
            guess = "" if instance_type in known else nearest(instance_type, known).replace(" Did", " (did")
            return f"no price of {instance_type} in the book{guess and guess + ')'}; pass {own_rate}"
        later = sorted(price.as_of for price in rows if price.basis == basis)
        if later:
            return f"no {basis} price of {instance_type} by {day}: the first is of {later[0]}; pass {own_rate}"
        others = ", ".join(f"{name} ({', '.join(sorted({p.region for p in rows if p.basis == name}))})"
                           for name in BASES if any(p.basis == name for p in rows))
        return f"no {basis} price of {instance_type} in the book; it has: {others}: pass another --basis, {own_rate}"


def _region_for(newest: dict[str, Price]) -> str:
    """us-east-1, or where it costs least."""
    if HOME_REGION in newest:
        return HOME_REGION
    return min(newest, key=lambda region: (newest[region].usd_per_hour, region))


def own_prices_path() -> Path:
    """Return where the user's own prices are kept: TRNBENCH_PRICES, or a file in the folder of a user's settings."""
    named = os.environ.get("TRNBENCH_PRICES")
    return Path(named).expanduser() if named else own_folder() / FILE


def load_book(path: str | Path | None = None) -> PriceBook:
    """Return the shipped prices with the user's own, of `path` or of `own_prices_path()`.

    BenchError for a bad row, and for a file that was named, here or by TRNBENCH_PRICES, and is not there.
    """
    forget_instances()  # machines may have been added since the last book of this process
    own = Path(path).expanduser() if path is not None else own_prices_path()
    if path is None and not os.environ.get("TRNBENCH_PRICES") and not own.exists():
        return PriceBook(shipped_prices())
    if not own.exists():
        raise BenchError(f"No price file {own}.", fix="name one that is there; `trnbench price set` makes one.")
    return PriceBook((*shipped_prices(), *load_prices(read_file(own), str(own), own=True)))


@functools.cache
def shipped_prices() -> tuple[Price, ...]:
    """Return the prices that come with trnbench; BenchError names a bad row."""
    return load_prices(shipped(FILE), FILE)


def load_prices(text: str, file: str, *, own: bool = False) -> tuple[Price, ...]:
    """Return the prices of a CSV text; BenchError names file, line, row and column of what does not fit.

    Types must be in the catalog, the user's own machines included. Two rows of one id with different
    prices are refused.
    """
    known = {one.type: one for one in instances()}
    seen: dict[str, tuple[Row, Price]] = {}
    for row in read_rows(text, file, COLUMNS, ["provider", "instance_type", "region", "basis", "as_of"]):
        price = _price(row, known, own)
        before = seen.setdefault(price.id, (row, price))
        if before[1].usd_per_hour != price.usd_per_hour:
            raise row.error("usd_per_hour", f"{price.usd_per_hour:g}, but line {before[0].line} of the same day says "
                            f"{before[1].usd_per_hour:g}", fix=f"keep one of the two lines of {file}.")
    return tuple(price for _, price in seen.values())


def _price(row: Row, known: Mapping[str, Instance], own: bool) -> Price:
    name = row.one_of("instance_type", list(known), fix="`trnbench list instances` has the names; `trnbench price set` "
                                                        "adds a machine of your own.")
    if row.cells["provider"] != known[name].provider:
        raise row.error("provider", f"{name} is of {known[name].provider}, not of {row.cells['provider']!r}")
    return Price(
        provider=known[name].provider, instance_type=name, region=row.text("region"),
        basis=row.one_of("basis", BASES), term=row.cells["term"], usd_per_hour=row.number("usd_per_hour"),
        as_of=row.day("as_of"), source=row.text("source"), note=row.cells["note"], own=own,
        exact_day=row.exact_day("as_of"))
