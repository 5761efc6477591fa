"""Records as tables on a terminal: as wide as it is, plain on a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.record import Record
from bench.report import money as priced
from bench.report.cells import NUMERIC, TIER_TITLES, Cells, by_tier, cells, notes, why_not_valid
from bench.report.money import Money
from bench.report.text import plain
from bench.store import Problem

if TYPE_CHECKING:
    from rich.console import Console

LEFT_OUT_FIRST = ("run", "machine", "compile s", "memory GiB", "task", "MFU %", "USD ±", "batch", "±", "dtype")
"""Headings that go, in this order, where a terminal is too narrow for all."""


def render_terminal(records: Sequence[Record], console: Console, problems: Sequence[Problem] = (),
                    money: Money | None = None) -> None:
    """Print a table for each tier, then why records are not valid, notes, and files passed over.

    Every record has a row, whatever became of it. Texts of records are printed as they are: rich's
    markup means nothing in them.
    """
    if not records:
        console.print("No records.", markup=False)
    parts = by_tier(records, money)
    for tier, part in parts:
        print_table(console, [cells(record, money) for record in part], LEFT_OUT_FIRST,
                    title="" if tier == "measured" and len(parts) == 1 else TIER_TITLES[tier])
    print_list(console, "Not valid", [why_not_valid(r) for r in records if r.status != "valid"])
    print_list(console, "Prices", priced.notes(money, records) if money and records else [])
    print_list(console, "Notes", notes(records))
    print_list(console, "Files passed over", [plain(f"{p.path}: {p.reason}") for p in problems])


def print_table(console: Console, rows: Sequence[Cells], left_out_first: Sequence[str], *,
                title: str = "", numeric: frozenset[str] = NUMERIC) -> None:
    """Print rows as one table; headings of `left_out_first` go until it fits, and that is said."""
    from rich.text import Text

    headings = [h for h in rows[0] if h != "machine" or len({r[h] for r in rows}) > 1]
    gone = []
    for heading in left_out_first:
        if not console.is_terminal or sum(_widths(rows, headings).values()) + 2 * len(headings) - 2 <= console.width:
            break
        if heading in headings:
            headings.remove(heading)
            gone.append(heading)
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)
    widths = _widths(rows, headings)
    console.print(Text(_line({h: h for h in headings}, widths, numeric), style="bold"), soft_wrap=True)
    for row in rows:
        style = "" if row.get("status", "valid").startswith("valid") else "red"
        console.print(Text(_line(row, widths, numeric), style=style), soft_wrap=True)
    if gone:
        console.print(Text(f"Too narrow for: {', '.join(gone)} (a pipe or a file gets them).", style="dim"))


def print_list(console: Console, title: str, lines: Sequence[str]) -> None:
    """Print lines under a title; nothing where there are none."""
    from rich.text import Text

    if lines:
        console.print(Text(f"{title}:", style="bold"))
    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)


def _widths(rows: Sequence[Cells], headings: Sequence[str]) -> dict[str, int]:
    """Each column's width on a screen: that of its widest cell."""
    from rich.cells import cell_len

    return {heading: max(cell_len(heading), *(cell_len(row[heading]) for row in rows)) for heading in headings}


def _line(row: Cells, widths: Mapping[str, int], numeric: frozenset[str]) -> str:
    """Cells side by side, two blanks apart, numbers to the right."""
    from rich.cells import cell_len

    parts = []
    for heading, width in widths.items():
        blanks = " " * (width - cell_len(row[heading]))
        parts.append(blanks + row[heading] if heading in numeric else row[heading] + blanks)
    return "  ".join(parts).rstrip()
