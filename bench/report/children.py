"""One number a child of any metric: what a comparison of two records rests on."""

from __future__ import annotations

from bench.record import Record, partly_used
from bench.report.frame import measured
from bench.stats.intervals import typical_round
from bench.stats.percentiles import percentile

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}


def children_values(record: Record, name: str) -> tuple[list[float], str | None]:
    """Return a metric's value in each child of a record, in the metric's unit, or [] and why not.

    Computed as the metric itself is (`bench.measure.summarise`), so that their median is its value.
    """
    every = _values(record, name)
    values = [v for v in every if v is not None and v > 0]
    wanted = len(every) if name == "compile_s" else len(record.samples.get("children", ()))
    if wanted and len(values) == wanted:
        return values, None
    return [], f"{name} is not kept for each child, or has too few samples in one"


def _values(record: Record, name: str) -> list[float | None]:
    item, items = record.work.get("item"), float(record.work.get("items_per_step") or 0)
    if name == f"{item}s_per_second":
        return [_over(items * 1e3, ms) for ms in _step_ms(record)]
    if name == f"{item}s_per_second_per_chip":
        chips = None if partly_used(record.device) else record.device.get("chips")
        return [_over(_over(items * 1e3, ms), chips) for ms in _step_ms(record)]
    if name == f"{item}s_per_second_sustained":
        return [_over(items * steps * len(rounds) * 1e9, sum(rounds))
                for steps, rounds in _rounds(record)]
    if name == "step_time_ms":
        return list(_step_ms(record))
    if name == "tpot_ms_p50":
        return [percentile_of(values, 0.5) for values in _tpot_ms(record)]
    if name == "peak_memory_bytes":
        return [(child.get("memory") or {}).get("peak_bytes") for child in measured(record)]
    if name == "compile_s":
        compiles = [child.get("compile") or {} for child in measured(record)]
        return [c.get("seconds") for c in compiles if c.get("cache") == compiles[0].get("cache")]
    return _percentiles(record, name)


def _percentiles(record: Record, name: str) -> list[float | None]:
    """`latency_ms_p99`, `ttft_ms_p50`, `itl_ms_p99`: of rounds, or of a series that the steps left."""
    kind, _, label = name.partition("_ms_")
    if label not in PERCENTILES:
        return []
    lists = (record.samples.get("children", []) if kind == "latency"
             else record.samples.get("series", {}).get(kind, []))
    return [percentile_of([ns / 1e6 for ns in times], PERCENTILES[label]) for times in lists]


def percentile_of(values: list[float], p: float) -> float | None:
    """A median of any number of values; any other percentile only above its floor."""
    if p == 0.5 and values:
        middle = sorted(values)
        return (middle[(len(middle) - 1) // 2] + middle[len(middle) // 2]) / 2
    return percentile(values, p)


def _rounds(record: Record) -> list[tuple[int, list[float]]]:
    samples = record.samples
    return list(zip(samples.get("steps_per_round", []), samples.get("children", []), strict=True))


def _step_ms(record: Record) -> list[float | None]:
    """The typical step of each child in milliseconds."""
    streams = record.samples.get("streams") or [()] * len(record.samples.get("children", []))
    return [_over(typical_round(rounds, each) if rounds else None, steps * 1e6)
            for (steps, rounds), each in zip(_rounds(record), streams, strict=True)]


def _tpot_ms(record: Record) -> list[list[float]]:
    """(end-to-end - TTFT) / (output tokens - 1) of each generation, a list a child."""
    series = record.samples.get("series", {})
    return [_tpot_of(*child) for child in zip(record.samples.get("children", []), series.get("ttft", []),
                                              series.get("itl", []), strict=False)]


def _tpot_of(rounds: list[float], first: list[float], gaps: list[float]) -> list[float]:
    each = len(gaps) // len(first) if first else 0
    return [(end - start) / each / 1e6 for end, start in zip(rounds, first, strict=False)] if each else []


def _over(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b
