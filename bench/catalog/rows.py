"""Rows of facts kept as CSV: read whole, each cell checked, a bad one named by file, line, row and column."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path

from bench.errors import BenchError, nearest


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file of facts. `id` is what the file calls it; `line` is where it ends, from 1."""

    file: str
    line: int
    id: str
    cells: dict[str, str]

    def error(self, column: str, what: str, fix: str | None = None) -> BenchError:
        """What is wrong with a cell, as an error to raise."""
        return BenchError(_sentence(f"{self.file} line {self.line} ({self.id}), {column}: {what}"),
                          fix=fix or f"mend that cell of {self.file}.")

    def text(self, column: str) -> str:
        """A cell that must say something; BenchError where it is empty."""
        if not self.cells[column]:
            raise self.error(column, "it is empty")
        return self.cells[column]

    def texts(self, column: str) -> tuple[str, ...]:
        """The parts of a cell that are separated by `;`."""
        return tuple(part.strip() for part in self.cells[column].split(";") if part.strip())

    def number(self, column: str) -> float:
        """A finite number above 0; BenchError for anything else."""
        try:
            found = float(self.cells[column])
        except ValueError:
            found = math.nan
        if not (math.isfinite(found) and found > 0):
            raise self.error(column, f"it must be a number above 0, got {self.cells[column]!r}")
        return found

    def maybe_number(self, column: str) -> float | None:
        """A number above 0, or None where the cell is empty: not known."""
        return self.number(column) if self.cells[column] else None

    def count(self, column: str, least: int = 1) -> int:
        """A whole number of at least `least`; BenchError for anything else."""
        if not re.fullmatch(r"[0-9]+", self.cells[column]) or int(self.cells[column]) < least:
            raise self.error(column, f"it must be a whole number of at least {least}, got {self.cells[column]!r}")
        return int(self.cells[column])

    def maybe_count(self, column: str) -> int | None:
        """A whole number of at least 1, or None where the cell is empty: not known."""
        return self.count(column) if self.cells[column] else None

    def one_of(self, column: str, known: Sequence[str], fix: str | None = None) -> str:
        """One of the names in `known`; BenchError with the nearest one for any other."""
        found = self.cells[column]
        if found not in known:
            raise self.error(column, f"{found!r} is not known.{nearest(found, known)}", fix)
        return found

    def day(self, column: str) -> date:
        """A day of the calendar; of a source that tells no more than the month or year, its first day.

        BenchError for what is not YYYY-MM-DD, YYYY-MM or YYYY.
        """
        found = self.cells[column]
        try:
            if not re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", found):
                raise ValueError(found)
            return date.fromisoformat(found + "-01-01"[len(found) - 4:])
        except ValueError:
            raise self.error(column, f"it must be a day such as 2026-07-20, got {found!r}") from None

    def exact_day(self, column: str) -> bool:
        """Whether the source tells the day, not the month or year alone."""
        return len(self.cells[column]) == len("2026-07-20")


def shipped(name: str) -> str:
    """Return the text of a file of facts that comes with the catalog."""
    return resources.files("bench.catalog").joinpath(name).read_text("utf-8")


def own_folder() -> Path:
    """Return the folder of the user's own facts: that of TRNBENCH_PRICES, or the one of a user's settings."""
    import click

    named = os.environ.get("TRNBENCH_PRICES")
    return Path(named).expanduser().parent if named else Path(click.get_app_dir("trnbench"))


def read_file(path: Path) -> str:
    """Return the text of a user's file of facts; BenchError where it cannot be read."""
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BenchError(f"{path} could not be read: {why}.", fix="name a CSV file that you may read.") from None


def read_rows(text: str, file: str, columns: Sequence[str], key: Sequence[str]) -> list[Row]:
    """Return the rows of a CSV text in order, cells stripped; a row's id is its `key` columns joined by "/".

    `columns` are those that there must be, in any order and no others; BenchError otherwise, and for
    a row with more or fewer cells than the heading. Empty lines are passed over.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    head = [name.strip() for name in next(reader, [])]
    _check_head(head, file, columns)
    rows = []
    try:
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(head):
                raise BenchError(f"{file} line {reader.line_num} has {len(cells)} cells, the heading {len(head)}.",
                                 fix=f"write {', '.join(head)}; put a cell that holds a comma in \"quotes\".")
            named = dict(zip(head, map(str.strip, cells), strict=True))
            rows.append(Row(file, reader.line_num, "/".join(named[name] for name in key), named))
    except csv.Error as error:
        raise BenchError(f"{file} line {reader.line_num} is not CSV: {error}.", fix=f"mend {file}.") from None
    return rows


def _check_head(head: Sequence[str], file: str, columns: Sequence[str]) -> None:
    for name in head:
        if name not in columns or head.count(name) > 1:
            told = "stands twice" if name in columns else f"is not known.{nearest(name, columns)}"
            raise BenchError(_sentence(f"{file} line 1: column {name!r} {told}"),
                             fix=f"its columns are {', '.join(columns)}.")
    missing = [name for name in columns if name not in head]
    if missing:
        raise BenchError(f"{file} line 1: no column {', '.join(missing)}.",
                         fix=f"its columns are {', '.join(columns)}.")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


def refuse_twice(rows: Iterable[Row]) -> None:
    """BenchError for two rows of one id."""
    seen: dict[str, Row] = {}
    for row in rows:
        if row.id in seen:
            raise BenchError(f"{row.file} lines {seen[row.id].line} and {row.line} are both {row.id}.",
                             fix=f"keep one of the two lines of {row.file}.")
        seen[row.id] = row
