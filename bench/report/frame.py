"""Records -> rows -> DataFrame: a row a record, units in column names, unknown is None."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bench.record import PHASES, Metric, Record

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]

METRICS = ("step_time_ms", "latency_ms_p50", "latency_ms_p90", "latency_ms_p95", "latency_ms_p99",
           "latency_ms_p99_9", "ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p50", "itl_ms_p50", "itl_ms_p99",
           "flops_per_second", "gb_per_second", "bus_gb_per_second", "scaling_efficiency", "mfu", "mbu", "compile_s")
"""Metrics that have a column of their own name; throughput and energy are named by the record's item."""


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row a record, in the order given. Unknown numbers are NaN."""
    import pandas as pd

    rows = pd.DataFrame([row(record) for record in records], columns=columns())
    return rows.astype(dict.fromkeys(_NUMBERS, "float64"))


def columns() -> list[str]:
    """Return the columns of `frame`, of a row and of the csv file, in order."""
    return [*_IDENTITY, *_MAIN, *_NUMBERS[6:], "parity_ok", "canary_ok",
            "children", "disturbed_children", "reasons", "warnings", "labels", "source", "source_url", "source_date"]


def row(record: Record) -> Row:
    """Return a record's numbers and names by `columns()`; texts of several parts are joined by "; "."""
    case, main, rate = record.case, main_metric(record), throughput(record)
    instance, work = record.machine.get("instance") or {}, record.work
    values = (
        record.run_id, record.case_id, case.work_id, record.started_at, record.status, record.tier,
        record.machine.get("name"), instance.get("provider"), instance.get("type"), instance.get("region"),
        record.device.get("name"), record.device.get("chip"), record.device.get("chips"), case.backend, case.workload,
        case.size,
        case.task, case.scenario, case.dtype, work.get("batch_size", case.batch_size), case.seq_len,
        setting(record, "threads"), setting(record, "compile"), settings_text(record),
        work.get("precision_class"), work.get("sequence"), work.get("item"),
        rate and rate.value, rate and rate.low, rate and rate.high,
        main and main.name, main and main.value, main and main.low, main and main.high, main and main.unit,
        *(value(record, name) for name in METRICS), record.memory.get("peak_bytes"),
        value(record, f"joules_per_{record.work.get('item')}"),
        *(record.phases_s.get(phase) for phase in PHASES), record.wall_s, parity_ok(record),
        record.canary.get("passed"), len(measured(record)), len(disturbed(record)),
        "; ".join(record.reasons), "; ".join(record.warnings),
        "; ".join(f"{key}={text}" for key, text in record.labels.items()),
        record.source.get("publisher"), record.source.get("url"), record.source.get("date"))
    return dict(zip(columns(), values, strict=True))


def value(record: Record, name: str) -> float | None:
    """Return a metric's value, or None where it is not known or not there."""
    metric = record.metric(name)
    return metric.value if metric else None


def throughput(record: Record) -> Metric | None:
    """Return the metric `<item>s_per_second`."""
    return record.metric(f"{record.work.get('item')}s_per_second")


def main_metric(record: Record) -> Metric | None:
    """Return the number a record is judged by: latency where one query waits at a time, else throughput.

    Single-stream: the median latency, or the step's time where too few samples were taken for it.
    """
    if record.case.scenario != "single-stream":
        return throughput(record)
    latency = record.metric("latency_ms_p50")
    return latency if latency and latency.value is not None else record.metric("step_time_ms")


def parity_ok(record: Record) -> bool | None:
    """Return whether the output was right; None: not checked."""
    return {"passed": True, "failed": False}.get(record.parity.get("status", ""))


def measured(record: Record) -> list[dict[str, Any]]:
    """Return the children that gave the record's samples, in their order."""
    return [child for child in record.children
            if child.get("role", "measure") == "measure" and child.get("status") == "valid"]


def disturbed(record: Record) -> list[str]:
    """Return why each disturbed child was disturbed, a text a child."""
    seen = [child.get("disturbance") or {} for child in measured(record)]
    return [", ".join(one.get("why") or ["no reason kept"]) for one in seen if one.get("disturbed")]


def noise_floor(*records: Record) -> float | None:
    """Return the largest relative spread between runs that the records' machines have; None: unknown."""
    floors = [(record.machine.get("noise_floor") or {}).get("relative") for record in records]
    return max((floor for floor in floors if floor is not None), default=None)


def setting(record: Record, name: str) -> Any:
    """Return what a record ran with, or what its case asked for where nothing was settled."""
    return record.settings.get(name, getattr(record.case, name))


def settings_text(record: Record) -> str:
    return " ".join(f"{name}={record.settings[name]}" for name in sorted(record.settings))


def latest(records: Sequence[Record]) -> list[Record]:
    """Return the newest record of each case on each machine, in the order given."""
    newest: dict[tuple[object, ...], Record] = {}
    for record in sorted(records, key=lambda r: (r.started_at, r.run_id)):
        newest[record.case_id, record.machine.get("name"), record.tier] = record
    kept = {record.run_id for record in newest.values()}
    return [record for record in records if record.run_id in kept]


_IDENTITY = ("run_id", "case_id", "work_id", "started_at", "status", "tier", "machine", "provider",
             "instance_type", "region", "device", "chip", "chips", "backend", "workload", "size", "task", "scenario",
             "dtype", "batch_size", "seq_len", "threads", "compile", "settings")
_MAIN = ("precision_class", "sequence", "item", "throughput_per_second", "throughput_low_per_second",
         "throughput_high_per_second", "main_metric", "main_value", "main_low", "main_high", "main_unit")
_NUMBERS = ("throughput_per_second", "throughput_low_per_second", "throughput_high_per_second", "main_value",
            "main_low", "main_high", *METRICS, "peak_memory_bytes", "joules_per_item",
            *(f"phase_{phase}_s" for phase in PHASES), "wall_s")
