"""A comparison on a terminal, as Markdown, csv or JSON: the same rows in each."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench import __version__
from bench.report import text
from bench.report.cells import TIER_TITLES, Cells, setup
from bench.report.compare import VERDICTS, Change, Comparison, Row
from bench.report.gate import Finding
from bench.report.markdown import bullets, escape, table
from bench.report.match import LeftOut, Pair
from bench.report.terminal import print_list, print_table
from bench.store import Problem

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA_VERSION = "trnbench.compare/1"
NUMERIC = frozenset(("batch", "BASE", "NEW", "ratio"))
LEFT_OUT_FIRST = ("task", "dtype", "batch", "setup", "95 %", "metric")

HOW = ("ratio above 1: NEW is better. The interval is 95 %, from the spread between fresh processes and the "
       "machine's noise floor. \"can't tell\": the interval holds 1; the smallest difference visible here "
       "is one that would be told in 8 of 10 such comparisons.")


def render_terminal(comparison: Comparison, console: Console, findings: Sequence[Finding] = (),
                    problems: Sequence[Problem] = ()) -> None:
    """Print the rows, notes, every record left out with its reason, and what the gates say."""
    parts = _by_kind(comparison.rows)
    for title, rows in parts:
        print_table(console, [_cells(row) for row in rows], LEFT_OUT_FIRST, title=title, numeric=NUMERIC)
    if not comparison.rows:
        console.print("No alike cases.", markup=False)
    print_list(console, "Notes", _notes(comparison))
    print_list(console, "Left out", [left_out(one) for one in comparison.left_out])
    print_list(console, "Files passed over", [text.plain(f"{p.path}: {p.reason}") for p in problems])
    print_list(console, "Gates", [gate_line(one) for one in findings])


def render_markdown(comparison: Comparison, findings: Sequence[Finding] = (),
                    problems: Sequence[Problem] = ()) -> str:
    parts = ["# Comparison", "" if comparison.rows else "No alike cases."]
    for title, rows in _by_kind(comparison.rows):
        parts += [f"## {title}" if title else "", table([_cells(row) for row in rows], NUMERIC)]
    for title, lines in (("Gates", [gate_line(one) for one in findings]), ("Notes", _notes(comparison)),
                         ("Left out", [left_out(one) for one in comparison.left_out]),
                         ("Files passed over", [f"{p.path}: {p.reason}" for p in problems])):
        parts += [f"## {title}", bullets(map(escape, lines))] if lines else []
    return "\n\n".join([part for part in parts if part] + [HOW]) + "\n"


def to_csv(comparison: Comparison) -> str:
    """Return a line a pair; unknown is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _PAIR + [f.name for f in dataclasses.fields(Change)] + ["notes"],
                            lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(row) | {"notes": "; ".join(row.pair.notes)} for row in comparison.rows)
    return out.getvalue()


def to_json(comparison: Comparison, findings: Sequence[Finding] = (),
            problems: Sequence[Problem] = ()) -> str:
    """Return {"schema_version", "tool", "rows", "left_out", "gates", "problems"}."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "trnbench", "version": __version__},
        "rows": [_row(row) | {"notes": list(row.pair.notes)} for row in comparison.rows],
        "left_out": [{"side": one.side, "run_id": one.record.run_id, "case": one.record.case.label,
                      "reason": one.reason} for one in comparison.left_out],
        "gates": [_pair(one.pair) | dataclasses.asdict(one.change)
                  | {"gate": one.gate.text, "outcome": one.outcome, "text": one.text} for one in findings],
        "problems": [{"path": p.path, "reason": p.reason} for p in problems],
    }
    return json.dumps(document, allow_nan=False, indent=1) + "\n"


def gate_line(finding: Finding) -> str:
    said = {"fails": "FAILS", "holds": "holds", "cant_tell": "can't tell"}[finding.outcome]
    return text.plain(f"{said} {finding.gate.text} {_label(finding.pair)}: {finding.text}")


def left_out(one: LeftOut) -> str:
    return text.plain(f"{one.side} {one.record.case.label} on {one.record.case.backend}: {one.reason} "
                      f"({one.record.run_id})")


def verdict(change: Change) -> str:
    """The verdict in words, with what could have been seen where it is open."""
    words = VERDICTS[change.verdict]
    if change.verdict != "cant_tell":
        return words
    if change.smallest_visible is not None:
        return f"{words}: the smallest difference visible here is {text.in_percent(change.smallest_visible)}"
    return f"{words}: {change.reason or change.method}"


_PAIR = ["base_run_id", "new_run_id", "case", "base_setup", "new_setup", "tier"]


def _pair(pair: Pair) -> dict[str, Any]:
    values = (pair.base.run_id, pair.new.run_id, pair.new.case.label, setup(pair.base), setup(pair.new),
              pair.new.tier)
    return dict(zip(_PAIR, values, strict=True))


def _row(row: Row) -> dict[str, Any]:
    return _pair(row.pair) | dataclasses.asdict(row.change)


def _by_kind(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Emulated pairs apart from all others; a title only where there are any."""
    real = [row for row in rows if row.pair.new.tier != "emulated"]
    emulated = [row for row in rows if row.pair.new.tier == "emulated"]
    return [part for part in (("", real), (TIER_TITLES["emulated"], emulated)) if part[1]]


def _cells(row: Row) -> Cells:
    case, change = row.pair.new.case, row.change
    seq = f" s{case.seq_len}" if case.seq_len else ""
    before, after = setup(row.pair.base), setup(row.pair.new)
    interval = (text.UNKNOWN if change.low is None or change.high is None
                else f"{change.low:.3f} to {change.high:.3f}")
    named = {
        "workload": f"{case.workload}:{case.size}{seq}",
        "task": f"{case.task}/{case.scenario}",
        "setup": after if before == after else f"{before} -> {after}",
        "dtype": case.dtype,
        "batch": str(case.batch_size),
        "metric": change.metric,
        "BASE": text.number(change.base),
        "NEW": text.number(change.new),
        "ratio": text.UNKNOWN if change.ratio is None else f"{change.ratio:.3f}",
        "95 %": interval,
        "verdict": verdict(change),
    }
    return {heading: text.plain(cell) for heading, cell in named.items()}


def _notes(comparison: Comparison) -> list[str]:
    """Each note once, with the pair or the number of pairs it holds of."""
    pairs_of: dict[str, list[Pair]] = {}
    for row in comparison.rows:
        for note in row.pair.notes:
            pairs_of.setdefault(note, []).append(row.pair)
    total = len(comparison.rows)
    return [text.plain(f"{_label(pairs[0]) if len(pairs) == 1 else f'{len(pairs)} of {total} pairs'}: {note}")
            for note, pairs in pairs_of.items()]


def _label(pair: Pair) -> str:
    return f"{pair.new.case.label} on {pair.new.case.backend}"
