"""One record in full: what was run, its numbers, where the time went, what was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.record import PHASES, Record
from bench.report import text
from bench.report.cells import TIER_TITLES, Cells
from bench.report.frame import main_metric, settings_text
from bench.report.terminal import print_list, print_table

if TYPE_CHECKING:
    from rich.console import Console


def render_record(record: Record, console: Console) -> None:
    """Print a record in full, but for its raw samples, which are counted."""
    print_list(console, record.run_id, _head(record))
    print_list(console, "Reasons", list(map(text.plain, record.reasons)))
    print_list(console, "Warnings", list(map(text.plain, record.warnings)))
    if record.metrics:
        console.print()
        print_table(console, _metrics(record), ("method", "n"),
                    numeric=frozenset(("value", "low", "high", "n")))
    console.print()
    if record.children:
        print_table(console, _ledger(record), ("steal", "peak GiB", "compile s"),
                    title="Where the time went, in seconds",
                    numeric=frozenset((*PHASES, "wall", "rounds", "compile s", "peak GiB")))
        console.print()
    for title, part in _parts(record):
        print_list(console, title, _lines(part))


def _head(record: Record) -> list[str]:
    case, main = record.case, main_metric(record)
    lines = [f"{case.label} on {case.backend}, case {record.case_id}",
             f"status {record.status}; tier {record.tier}: {TIER_TITLES[record.tier]}",
             f"from {record.started_at} to {record.ended_at}",
             f"settings: {settings_text(record) or 'none were settled'}"]
    if main and main.value is not None:
        half = text.half_width(main.value, main.low, main.high)
        lines.append(f"{main.name}: {text.number(main.value)} {half}".rstrip())
    if record.labels:
        lines.append("labels: " + ", ".join(f"{key}={value}" for key, value in record.labels.items()))
    return list(map(text.plain, lines))


def _metrics(record: Record) -> list[Cells]:
    return [{"metric": text.plain(m.name), "value": text.number(m.value), "low": text.number(m.low),
             "high": text.number(m.high), "unit": text.plain(m.unit), "n": str(m.n or text.UNKNOWN),
             "method": text.plain((m.reason if m.value is None else m.method) or "")} for m in record.metrics]


def _ledger(record: Record) -> list[Cells]:
    """A row a process, then their sum."""
    rounds = iter(record.samples.get("children", []))
    rows = []
    for child in record.children:
        role = str(child.get("role", "measure"))
        timed = role == "measure" and child.get("status") == "valid"
        rows.append(_ledger_row(role, child, str(len(next(rounds, []))) if timed else text.UNKNOWN))
    return [*rows, _ledger_row("all", {"phases_s": record.phases_s, "wall_s": record.wall_s,
                                       "compile": {}, "memory": {}}, text.UNKNOWN)]


def _ledger_row(name: str, child: Mapping[str, Any], rounds: str) -> Cells:
    phases, seen = child.get("phases_s") or {}, child.get("disturbance") or {}
    steal = seen.get("steal_of_wanted", seen.get("steal_fraction"))
    return {"process": text.plain(name), **{phase: text.seconds(phases.get(phase)) for phase in PHASES},
            "wall": text.seconds(child.get("wall_s")), "rounds": rounds,
            "compile s": text.seconds((child.get("compile") or {}).get("seconds")),
            "peak GiB": text.gib((child.get("memory") or {}).get("peak_bytes")),
            "steal": text.UNKNOWN if steal is None else text.in_percent(steal)}


def _parts(record: Record) -> list[tuple[str, Mapping[str, Any]]]:
    parts = [("Source", record.source), ("Case", record.case.to_json()), ("Tuning", record.tuning),
             ("Work", record.work), ("Parity", record.parity), ("Canary", record.canary), ("Compile", record.compile),
             ("Memory", record.memory), ("Energy", record.energy), ("Fallbacks", record.fallbacks),
             ("Device", record.device), ("Machine", record.machine), ("Effort", record.effort),
             ("Tool", record.tool)]
    return [(title, part) for title, part in parts if part]


def _lines(part: Mapping[str, Any], indent: str = "") -> list[str]:
    """A nested object as `name: value` lines, inner objects indented, unknown as a dash."""
    lines = []
    for name, value in part.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{indent}{text.plain(name)}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{text.plain(name)}: {_value(value)}")
    return lines


def _value(value: Any) -> str:
    if value is None or value in ({}, []):
        return text.UNKNOWN
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(map(_value, value))
    return text.plain(value)
