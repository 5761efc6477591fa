"""The user's own price file: rows are added whole or not at all, and what stands in it stays.

A rate of one's own may be one that was negotiated, or what an hour of one's own machine costs.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.catalog.instances import COLUMNS as INSTANCE_COLUMNS
from bench.catalog.instances import Instance, forget_instances, load_instances, own_instances_path
from bench.catalog.prices import COLUMNS, Price, PriceBook, load_prices, own_prices_path, shipped_prices
from bench.catalog.rows import read_file
from bench.errors import BenchError

HOURS_A_YEAR = 365 * 24
LOCK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of rows that were to be added.

    `written`: they are in the file now. `there`: they stood in it already. `clashing`: the file has
    another price of that day, which stays: (the one that stands, the one that was not written).
    """

    path: Path
    written: tuple[Price, ...]
    there: tuple[Price, ...]
    clashing: tuple[tuple[Price, Price], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnPremises:
    """What a machine of one's own costs. ValueError for a number that is not above 0 (opex may be 0).

    `power_kw`: what it draws at the socket while it works. `pue`: power of the whole building over
    that of its machines, 1 or more. `utilisation` (0-1]: the share of all hours in which it works.
    """

    capex_usd: float
    amortise_years: float
    power_kw: float
    usd_per_kwh: float
    pue: float
    utilisation: float
    opex_usd_per_year: float = 0.0

    def __post_init__(self) -> None:
        for name in ("capex_usd", "amortise_years", "power_kw", "usd_per_kwh"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 1 <= self.pue < float("inf"):
            raise ValueError(f"pue is 1 or more, got {self.pue}")
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation is above 0 and at most 1, got {self.utilisation}")
        if not 0 <= self.opex_usd_per_year < float("inf"):
            raise ValueError(f"opex_usd_per_year must be 0 or more, got {self.opex_usd_per_year}")

    @property
    def usd_per_hour(self) -> float:
        """USD per hour in which the machine works: what a year of it costs over its working hours.

        Purchase and opex (space, staff, maintenance) are paid in all 8,760 hours of a year, so both
        are spread over the working ones. Power is that of a working hour and is not: each working hour
        is billed its own. What the machine draws while idle is left out, so the rate is a lower bound
        where utilisation is below 1.
        Formula: (capex / years + opex) / (8760 x utilisation) + power x pue x price of a kWh.
        """
        fixed = self.capex_usd / self.amortise_years + self.opex_usd_per_year
        return fixed / (HOURS_A_YEAR * self.utilisation) + self.power_kw * self.pue * self.usd_per_kwh

    @property
    def note(self) -> str:
        """The assumptions, for the row."""
        idle = "" if self.utilisation == 1 else ", power of idle hours left out"
        return (f"on-premises: {self.capex_usd:,.0f} USD over {self.amortise_years:g} years, opex "
                f"{self.opex_usd_per_year:,.0f} USD a year, in use {self.utilisation:.4g} of all hours; "
                f"{self.power_kw:g} kW x PUE {self.pue:g} x {self.usd_per_kwh:g} USD per kWh{idle}")


def append_prices(prices: Sequence[Price]) -> Kept:
    """Add rows to the user's own price file, which is made where there is none.

    A row whose day has a price already is not written, whether it is the same or another. The file is
    replaced by a longer one in one go, under a lock, so that two at once lose nothing and a crash
    leaves it as it was. BenchError where it is damaged, locked for 10 s, or cannot be written.
    """
    path = own_prices_path()
    written, there, clashing = [], [], []
    with _appending(path) as file:
        standing = {price.id: price for price in load_prices(file.text, str(path), own=True)} if file.text else {}
        for price in prices:
            before = standing.setdefault(price.id, price)
            if before is price:
                written.append(price)
            elif before.usd_per_hour == price.usd_per_hour:
                there.append(price)
            else:
                clashing.append((before, price))
        if written:
            file.add(COLUMNS, [_price_cells(price) for price in written])
            load_prices(file.text, str(path), own=True)  # nothing is kept that could not be read again
    return Kept(path, tuple(written), tuple(there), tuple(clashing))


def append_instance(one: Instance) -> Path:
    """Add a machine of one's own to the instances beside the price file; return that file.

    BenchError where a type of that name is there with other facts, and as `append_prices` has it.
    """
    path = own_instances_path()
    with _appending(path) as file:
        standing = {known.type: known for known in load_instances(file.text, str(path))} if file.text else {}
        before = standing.get(one.type)
        if before and (before.chip, before.chips) != (one.chip, one.chips):
            raise BenchError(f"{one.type} stands in {path} with {before.chips} x {before.chip}.",
                             fix="choose another name, or mend that line of the file.")
        if before is None:
            file.add(INSTANCE_COLUMNS, [_instance_cells(one)])
            load_instances(file.text, str(path))
    forget_instances()
    return path


def book_so_far() -> PriceBook:
    """The shipped prices with the user's own; a file of one's own that is not there yet is none."""
    path = own_prices_path()
    own = load_prices(read_file(path), str(path), own=True) if path.exists() else ()
    return PriceBook((*shipped_prices(), *own))


class _File:
    """A CSV text to be made longer; columns keep the order that its heading has."""

    def __init__(self, text: str) -> None:
        self.text = text

    def add(self, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
        out = io.StringIO(newline="")
        if self.text:
            head = [name.strip() for name in next(csv.reader(io.StringIO(self.text, newline="")))]
            out.write("" if self.text.endswith("\n") else "\n")
        else:
            head = list(columns)
            csv.writer(out, lineterminator="\n").writerow(head)
        csv.DictWriter(out, head, lineterminator="\n").writerows(rows)
        self.text += out.getvalue()


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[_File]:
    """The file's text under a lock, written back whole where it grew and nothing was raised."""
    from filelock import FileLock, Timeout

    real = Path(os.path.realpath(path))  # or the replacing would cut a link off
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{real}.lock", timeout=LOCK_SECONDS):
            before = read_file(real) if real.exists() else ""
            file = _File(before)
            yield file
            if file.text != before:
                _replace(real, file.text)
    except Timeout as error:
        raise BenchError(f"{path} is being written by another process for more than {LOCK_SECONDS:g} s.",
                         fix="try again when it is done.") from error
    except OSError as error:
        raise BenchError(f"{path} could not be written: {error.strerror or error}.",
                         fix="make its folder writable, or set TRNBENCH_PRICES to a file that is.") from error


def _replace(path: Path, text: str) -> None:
    """Write a file anew, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            part.chmod(path.stat().st_mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _price_cells(price: Price) -> dict[str, str]:
    """A row's cells; `repr` of a number reads back as the very same one."""
    cells: dict[str, Any] = {name: getattr(price, name) for name in COLUMNS}
    return {name: _cell(value) for name, value in cells.items()}


def _instance_cells(one: Instance) -> dict[str, str]:
    return {name: _cell(getattr(one, name)) for name in INSTANCE_COLUMNS}


def _cell(value: Any) -> str:
    """A value as a cell on one line; unknown is empty."""
    return "" if value is None else " ".join(str(value).split())
