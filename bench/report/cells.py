"""A record as the cells of a summary table: the same for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.case import UNSTATED
from bench.record import TIERS, Metric, Record
from bench.report import money as priced
from bench.report import text
from bench.report.frame import disturbed, parity_ok, setting, throughput, value
from bench.report.money import Money

Cells = dict[str, str]

NUMERIC = frozenset(("batch", "per second", "±", "latency ms", "MFU %", "memory GiB", "compile s", "USD/h",
                     "USD per 1M", "USD ±", "USD × baseline", "speed × baseline"))

TIER_TITLES = {
    "measured": "Measured",
    "published": "Published or imported: not checked by us",
    "vendor": "Stated by a vendor",
    "modelled": "Modelled, not measured",
    "emulated": "Emulated: no such device exists, made to test the harness; compare with nothing else",
}


def by_tier(records: Iterable[Record], money: Money | None = None) -> list[tuple[str, list[Record]]]:
    """Return records parted by tier, strongest first, each part in the order of its cases.

    With money, records of one kind of work stand cheapest first. Tiers never share a table: nobody
    should rank a measured number against an emulated one.
    """
    ordered = sorted(records, key=_order if money is None else lambda r: (_work_order(r), money.rank(r)))
    parts = [(tier, [r for r in ordered if r.tier == tier]) for tier in TIERS]
    return [(tier, part) for tier, part in parts if part]


def cells(record: Record, money: Money | None = None) -> Cells:
    """Return a record's cells by heading. Numbers of a record that is not valid are not shown."""
    case, valid = record.case, record.status == "valid"
    rate = throughput(record) if valid else None
    seq = record.work.get("sequence") or case.seq_len
    named = {
        "workload": f"{case.workload}:{case.size}{f' s{seq}' if seq else ''}",
        "task": f"{case.task}/{case.scenario}",
        "machine": str(record.machine.get("name") or text.UNKNOWN),
        "setup": setup(record),
        "dtype": _precision(record),
        "batch": str(record.work.get("batch_size", case.batch_size) or text.UNKNOWN),
        "per second": _rate(rate),
        "±": _half_width(rate),
        **(priced.cells(money, record) if money else {}),
        "latency ms": _latency(record) if valid else text.UNKNOWN,
        "MFU %": text.percent(value(record, "mfu")) if valid else text.UNKNOWN,
        "memory GiB": text.gib(record.memory.get("peak_bytes")) if valid else text.UNKNOWN,
        "compile s": text.seconds(value(record, "compile_s")) if valid else text.UNKNOWN,
        "status": _status(record),
        "run": record.run_id,
    }
    return {heading: text.plain(cell) for heading, cell in named.items()}


def setup(record: Record) -> str:
    """Return the backend and what it ran with, in short: `cpu 1t inductor channels_last`."""
    threads, compiled = setting(record, "threads"), setting(record, "compile")
    compiled = "eager" if compiled == "off" else compiled
    others = [str(v) for k, v in sorted(record.settings.items())
              if k not in ("threads", "compile") and isinstance(v, str)]
    backend = "" if record.source else record.case.backend
    many = "" if record.source or record.case.parallelism == "dp=1" else record.case.parallelism
    parts = [backend, many, f"{threads}t" if isinstance(threads, int) else "", str(compiled), *others]
    return " ".join(part for part in parts if part and part != "auto")


def why_not_valid(record: Record) -> str:
    """Return one line that says what became of a record and why."""
    case, reasons = record.case, "; ".join(record.reasons) or "no reason kept"
    return text.plain(f"{case.label} on {case.backend}: {record.status}: {reasons} ({record.run_id})")


def notes(records: Sequence[Record]) -> list[str]:
    """Return what a reader should know about valid records, a line each: warnings, missing checks."""
    found = []
    for record in records:
        if record.status != "valid":
            continue
        own = list(record.warnings)
        if parity_ok(record) is None and record.tier == "measured":
            own.append(f"parity not checked: {record.parity.get('reason') or 'no reason kept'}")
        found += [text.plain(f"{record.case.label} ({record.run_id}): {'; '.join(own)}")] if own else []
    return found


def _precision(record: Record) -> str:
    """The number format; of a published result that states none of ours, the class it is compared in."""
    if record.case.dtype != UNSTATED:
        return record.case.dtype
    return str(record.work.get("precision_class") or UNSTATED)


def _order(record: Record) -> tuple[object, ...]:
    case = record.case
    return (case.workload, case.size, case.task, case.scenario, case.dtype, case.batch_size,
            case.seq_len or 0, case.backend, str(record.machine.get("name")), record.started_at,
            record.run_id)


def _work_order(record: Record) -> tuple[object, ...]:
    case = record.case
    return (case.workload, case.size, case.task, case.scenario, str(record.work.get("sequence") or case.seq_len or ""))


def _status(record: Record) -> str:
    return f"{record.status}, disturbed" if record.status == "valid" and disturbed(record) else record.status


def _rate(metric: Metric | None) -> str:
    if metric is None or metric.value is None:
        return text.UNKNOWN
    return f"{text.number(metric.value)} {metric.unit.partition('/')[0]}"


def _half_width(metric: Metric | None) -> str:
    return (metric and text.half_width(metric.value, metric.low, metric.high)) or text.UNKNOWN


def _latency(record: Record) -> str:
    """Median latency; for generation the first token's and each further one's; else a step's time."""
    if record.case.scenario == "generation":
        first, further = value(record, "ttft_ms_p50"), value(record, "tpot_ms_p50")
        return f"{text.number(first)} ttft, {text.number(further)} tpot"
    if record.case.scenario == "single-stream" and value(record, "latency_ms_p50") is not None:
        return f"{text.number(value(record, 'latency_ms_p50'))} p50"
    return f"{text.number(value(record, 'step_time_ms'))} step"
