"""Records as one Markdown document: tables, why records are not valid, the ledger, notes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.record import PHASES, Record
from bench.report import money as priced
from bench.report import text
from bench.report.cells import NUMERIC, TIER_TITLES, Cells, by_tier, cells, notes, why_not_valid
from bench.report.money import Money
from bench.store import Problem

NUMBERS = NUMERIC | {f"{phase} s" for phase in PHASES} | {"wall s"}

INTERVALS = (
    "± is half the width of a 95 % interval, from the spread between fresh processes (children): "
    "Student's t on the logs of one number a child. A dash: not known; `trnbench show RUN` says why.",
    "Throughput is that of the median round. Percentiles are given only from as many samples as MLPerf's "
    "early-stopping rule asks for.",
    "MFU is the share of the largest matrix-product rate measured beside it. Memory is the peak, "
    "in GiB (2^30 bytes).",
)


def render_markdown(records: Sequence[Record], problems: Sequence[Problem] = (), money: Money | None = None) -> str:
    """Return the document. Texts of records are escaped: no name makes a table, a link or HTML."""
    parts = ["# Benchmark report", "" if records else "No records."]
    for tier, part in by_tier(records, money):
        parts += [f"## {TIER_TITLES[tier]}", table([cells(record, money) for record in part])]
    parts += _section("## Prices", priced.notes(money, records) if money and records else [])
    parts += _section("## Not valid", [why_not_valid(r) for r in records if r.status != "valid"])
    ledgers = [_ledger(r) for _, part in by_tier(records) for r in part if r.phases_s]
    if ledgers:
        parts += ["## Where the time went", table(ledgers)]
    parts += _section("## Notes", [*_machines(records), *notes(records)], INTERVALS if records else ())
    parts += _section("## Files passed over", [f"{p.path}: {p.reason}" for p in problems])
    return "\n\n".join(part for part in parts if part) + "\n"


def table(rows: Sequence[Cells], numeric: frozenset[str] = NUMBERS) -> str:
    """Return rows as a Markdown table, numbers to the right."""
    lines = [list(rows[0]), ["---:" if heading in numeric else "---" for heading in rows[0]],
             *([escape(cell) for cell in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(words: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|~&#])", r"\\\1", text.plain(words))


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _section(title: str, lines: Sequence[str], own: Sequence[str] = ()) -> list[str]:
    """A titled list: `lines` hold texts of records, `own` are ours and keep their Markdown."""
    return [title, bullets([*own, *map(escape, lines)])] if lines or own else []


def _ledger(record: Record) -> Cells:
    """Seconds of all processes of a record by phase; they add up to the wall time."""
    phases = {f"{phase} s": text.seconds(record.phases_s.get(phase)) for phase in PHASES}
    return {"case": record.case.label, "backend": record.case.backend, **phases,
            "wall s": text.seconds(record.wall_s)}


def _machines(records: Sequence[Record]) -> list[str]:
    """One line a machine: what it is, and the versions that ran on it."""
    lines = []
    for record in records:
        if record.source:
            continue
        machine = record.machine
        cpu, software = machine.get("cpu") or {}, machine.get("software") or {}
        versions = ", ".join(f"{name} {version}" for name, version in software.items() if version)
        floor = (machine.get("noise_floor") or {}).get("relative")
        noise = "not measured (`trnbench doctor` does)" if floor is None else text.in_percent(floor)
        tool = f"trnbench {record.tool.get('version') or 'of unknown version'}"
        lines.append(f"{machine.get('name') or 'unknown machine'}: {cpu.get('model') or 'unknown CPU'}; "
                     f"{tool}, {versions or 'versions not kept'}; noise floor {noise}")
    return list(dict.fromkeys(lines))
