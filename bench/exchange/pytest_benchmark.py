"""Records as pytest-benchmark's JSON and back.

Its format: https://pytest-benchmark.readthedocs.io (seen with 5.3): one document a file, with
`benchmarks`, each with `stats` in seconds, `data` being each round's time divided by `iterations`.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bench.case import UNSTATED, Case
from bench.errors import BenchError
from bench.record import Metric, Record, RecordError

EMBEDDED = "trnbench_record"
FORMAT_VERSION = "5.1.0"
UNCHECKED = "imported from pytest-benchmark: parity and canary not checked"


def can_export(record: Record) -> bool:
    """Whether a record has a place in that format, which knows nothing of invalid results."""
    return record.status == "valid" and bool(record.samples.get("children"))


def export_document(records: Sequence[Record]) -> dict[str, Any]:
    """Return a document that `pytest-benchmark compare` reads, of records that `can_export`.

    A benchmark's `stats` are of one step in seconds, all children together; its `extra_info` holds
    the whole record, so that `import_document` gives it back as it was. `machine_info` is the
    newest record's.
    """
    newest = max(records, key=lambda record: record.started_at)
    machine, tool = newest.machine, newest.tool
    system, software = machine.get("os") or {}, machine.get("software") or {}
    return {
        "machine_info": {
            "node": machine.get("name"), "machine": system.get("architecture"), "system": system.get("system"),
            "release": system.get("kernel"), "python_version": software.get("python"),
            "python_implementation": "CPython", "cpu": {"brand_raw": (machine.get("cpu") or {}).get("model")}},
        "commit_info": {"id": tool.get("commit"), "time": None, "dirty": tool.get("dirty"), "project": "trnbench",
                        "branch": "(unknown)"},
        "benchmarks": [_benchmark(record) for record in records],
        "datetime": newest.started_at,
        "version": FORMAT_VERSION,
    }


def import_document(document: Any) -> tuple[list[Record], list[str]]:
    """Return the records of a pytest-benchmark document, and why any benchmark gave none.

    A benchmark that `export_document` wrote gives back the very record. Any other is somebody's
    measurement without our checks: tier "published", workload `pytest:<full name>`, its rounds kept.
    BenchError where the document is none of pytest-benchmark's.
    """
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        raise BenchError("This is no JSON of pytest-benchmark: it has no list of benchmarks.",
                         fix="pass a file that `pytest --benchmark-json=FILE` or --benchmark-save wrote.")
    records, problems = [], []
    for number, entry in enumerate(document["benchmarks"], start=1):
        try:
            own = (entry.get("extra_info") or {}).get(EMBEDDED)
            records.append(Record.from_json(own if own is not None else _foreign(entry, document).to_json()))
        except (RecordError, BenchError, AttributeError, KeyError, TypeError, ValueError) as error:
            name = entry.get("fullname") if isinstance(entry, dict) else None
            problems.append(f"benchmark {number} ({name or 'no name'}): {type(error).__name__}: {error}")
    return records, problems


def parse(text: str) -> Any:
    """Return the document in a file's text; BenchError where it is no JSON."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BenchError(f"This is no JSON: {error}.", fix="pass a file of pytest-benchmark's.") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _benchmark(record: Record) -> dict[str, Any]:
    case = record.case
    name = f"{case.label} {case.backend}"
    steps = record.samples["steps_per_round"]
    step_s = [ns / count / 1e9 for count, rounds in zip(steps, record.samples["children"], strict=True)
              for ns in rounds]
    params = {key: value for key, value in case.to_json().items() if value is not None and not isinstance(value, dict)}
    return {
        "group": f"{case.workload}:{case.size} {case.task}/{case.scenario}",
        "name": name,
        "fullname": f"{name} [{record.case_id}]",
        "params": params,
        "param": f"{case.dtype}-b{case.batch_size}",
        "extra_info": {"run_id": record.run_id, "case_id": record.case_id, "status": record.status,
                       "tier": record.tier, EMBEDDED: record.to_json()},
        "options": {"disable_gc": True, "timer": "perf_counter", "min_rounds": 1, "max_time": None,
                    "min_time": None, "warmup": True},
        "stats": step_stats(step_s) | {"data": step_s, "iterations": min(steps)},
    }


def step_stats(step_s: Sequence[float]) -> dict[str, Any]:
    """Return pytest-benchmark's statistics of step times in seconds.

    Quartiles by linear interpolation between order statistics (Python's "inclusive" method);
    `stddev` is the sample's; outliers are counted beyond one standard deviation from the mean, and
    beyond 1.5 interquartile ranges from the quartiles, as that tool's legend says.
    """
    mean, median = statistics.fmean(step_s), statistics.median(step_s)
    stddev = statistics.stdev(step_s) if len(step_s) > 1 else 0.0
    q1, _, q3 = (statistics.quantiles(step_s, n=4, method="inclusive") if len(step_s) > 1 else [median] * 3)
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    beyond_stddev = sum(abs(s - mean) > stddev for s in step_s)
    beyond_iqr = sum(not low <= s <= high for s in step_s)
    return {
        "min": min(step_s), "max": max(step_s), "mean": mean, "stddev": stddev, "rounds": len(step_s),
        "median": median, "iqr": q3 - q1, "q1": q1, "q3": q3, "iqr_outliers": beyond_iqr,
        "stddev_outliers": beyond_stddev, "outliers": f"{beyond_stddev};{beyond_iqr}",
        "ld15iqr": min(s for s in step_s if s >= low), "hd15iqr": max(s for s in step_s if s <= high),
        "ops": len(step_s) / sum(step_s), "total": sum(step_s)}


def _foreign(entry: dict[str, Any], document: dict[str, Any]) -> Record:
    """A benchmark of somebody else's. Task and number format are not stated there."""
    stats, machine = entry["stats"], document.get("machine_info") or {}
    at = _utc(document["datetime"])
    digest = hashlib.sha256(json.dumps([at, entry], sort_keys=True).encode()).hexdigest()[:12]
    case = Case(
        workload=f"pytest:{entry.get('fullname') or entry['name']}", size="default", task=UNSTATED,
        scenario="single-stream", backend="pytest-benchmark", dtype=UNSTATED, batch_size=1,
        options={key: value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
                 for key, value in (entry.get("params") or {}).items()})
    processor = (machine.get("cpu") or {}).get("brand_raw")
    run_id = f"pytest-{at[:19].replace('-', '').replace(':', '')}-{digest}"
    return Record(
        run_id=run_id, case=case,
        started_at=at, ended_at=at, status="valid", warnings=(UNCHECKED,), tier="published",
        tool={"name": "pytest-benchmark", "version": document.get("version"),
              "commit": (document.get("commit_info") or {}).get("id")},
        machine={"name": machine.get("node"), "cpu": {"model": processor},
                 "software": {"python": machine.get("python_version")}, "machine_info": machine},
        work={"item": "call", "items_per_step": 1}, samples=_samples(stats), metrics=_metrics(stats),
        parity={"status": "unchecked", "reason": UNCHECKED}, canary={"passed": None, "reasons": []},
        device={"name": processor}, children=({"role": "measure", "status": "valid"},),
        source={"id": run_id, "publisher": "pytest-benchmark result file", "url": None, "date": at[:10],
                "software": f"pytest-benchmark {document.get('version')}", "notes": None},
        labels={"group": str(entry["group"])} if entry.get("group") else {})


def _samples(stats: dict[str, Any]) -> dict[str, Any]:
    """Rounds in ns; none where the file was saved without data."""
    iterations = int(stats.get("iterations") or 1)
    if not stats.get("data"):
        return {}
    return {"unit": "ns", "steps_per_round": [iterations], "series": {},
            "children": [[round(seconds * iterations * 1e9) for seconds in stats["data"]]]}


def _metrics(stats: dict[str, Any]) -> tuple[Metric, ...]:
    rounds, median_ms = stats.get("rounds"), stats["median"] * 1e3
    if not median_ms > 0:
        raise ValueError(f"its median is {median_ms:g} ms")
    method = "the file's median of one process: says nothing of the machine"
    return (Metric(name="calls_per_second", value=1e3 / median_ms, unit="calls/s", n=rounds, method=method),
            Metric(name="step_time_ms", value=median_ms, unit="ms", n=rounds, method=method),
            Metric(name="latency_ms_p50", value=median_ms, unit="ms", n=rounds, method=method))


def _utc(text: str) -> str:
    """A file's time in UTC; where it names no zone, it is UTC (pytest-benchmark before 3.1)."""
    at = datetime.fromisoformat(text)
    return (at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)).isoformat()
