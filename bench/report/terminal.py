"""Records as tables on a terminal: as wide as it is, plain on a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.record import Record
from bench.report.cells import NUMERIC, TIER_TITLES, Cells, by_tier, cells, notes, why_not_valid
from bench.report.text import plain
from bench.store import Problem

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LEFT_OUT_FIRST = ("run", "machine", "compile s", "memory GiB", "task", "MFU %", "batch", "±", "dtype")
"""Headings that go, in this order, where a terminal is too narrow for all."""


def render_terminal(records: Sequence[Record], console: Console, problems: Sequence[Problem] = ()) -> None:
    """Print a table for each tier, then why records are not valid, notes, and files passed over.

    Every record has a row, whatever became of it. Texts of records are printed as they are: rich's
    markup means nothing in them.
    """
    if not records:
        console.print("No records.", markup=False)
    parts = by_tier(records)
    for tier, part in parts:
        print_table(console, [cells(record) for record in part], LEFT_OUT_FIRST,
                    title="" if tier == "measured" and len(parts) == 1 else TIER_TITLES[tier])
    print_list(console, "Not valid", [why_not_valid(r) for r in records if r.status != "valid"])
    print_list(console, "Notes", notes(records))
    print_list(console, "Files passed over", [plain(f"{p.path}: {p.reason}") for p in problems])


def print_table(console: Console, rows: Sequence[Cells], left_out_first: Sequence[str], *,
                title: str = "", numeric: frozenset[str] = NUMERIC) -> None:
    """Print rows as one table; headings of `left_out_first` go until it fits, and that is said."""
    from rich.text import Text

    headings = [h for h in rows[0] if h != "machine" or len({r[h] for r in rows}) > 1]
    gone = []
    for heading in left_out_first:
        if not console.is_terminal or _width(rows, headings) <= console.width:
            break
        if heading in headings:
            headings.remove(heading)
            gone.append(heading)
    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(_table(rows, headings, console, numeric), soft_wrap=not console.is_terminal)
    if gone:
        console.print(Text(f"Too narrow for: {', '.join(gone)}. --format md or csv has all.", style="dim"))


def print_list(console: Console, title: str, lines: Sequence[str]) -> None:
    """Print lines under a title; nothing where there are none."""
    from rich.text import Text

    if lines:
        console.print(Text(f"{title}:", style="bold"))
    for line in lines:
        console.print(Text(f"  {line}"), soft_wrap=True)


def _width(rows: Sequence[Cells], headings: Sequence[str]) -> int:
    """Columns the table needs: each as wide as its widest cell, two blanks between."""
    from rich.cells import cell_len

    return sum(max(map(cell_len, (heading, *(row[heading] for row in rows)))) + 2 for heading in headings)


def _table(rows: Sequence[Cells], headings: Sequence[str], console: Console,
           numeric: frozenset[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold",
                  width=None if console.is_terminal else max(_width(rows, headings), 1))
    for heading in headings:
        table.add_column(Text(heading), justify="right" if heading in numeric else "left",
                         no_wrap=not console.is_terminal, overflow="fold")
    for row in rows:
        style = "" if row.get("status", "valid").startswith("valid") else "red"
        table.add_row(*(Text(row[heading]) for heading in headings), style=style)
    return table
