"""NeuronPerf's CSV of reports, a row a configuration of models, workers and batch size.

Source: AWS Neuron documentation, NeuronPerf API and Benchmark Guide (archived 2025-12). Which
columns there are is the user's choice, so they are read by name. `throughput_avg` is inferences per
second of all models together; latencies are of one call with a whole batch, in ms. `n_models`
copies each take `pipeline_size` NeuronCores.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from bench.exchange.foreign import WRONG_SHAPE, Result, Unusable, number_of, stated_percentile, why
from bench.record import Metric

NEEDED = ("throughput_avg", "n_models", "batch_size")
LATENCIES = {"latency_ms_p50": 50, "latency_ms_p90": 90, "latency_ms_p95": 95, "latency_ms_p99": 99}
MOST = 1.5
"""Workers that each wait for their own call cannot do more than n / median latency; 1.5 leaves room for
a skewed latency, beyond it one of the numbers is of something else."""


def results(text: str, name: str) -> Iterator[Result | str]:
    """Yield a result, or why there is none, for each row. Unusable for a CSV without NeuronPerf's columns."""
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in NEEDED if column not in (reader.fieldnames or ())]
    if missing:
        raise Unusable(f"it is no NeuronPerf CSV: no column {', '.join(missing)}")
    for line, row in enumerate(reader, start=2):
        try:
            yield _result({key: value for key, value in row.items() if key and value})
        except WRONG_SHAPE as error:
            yield f"line {line}: {why(error)}"


def _result(row: Mapping[str, str]) -> Result:
    rate, batch = number_of(row.get("throughput_avg", ""), "throughput_avg"), _count(row, "batch_size")
    models, pipeline = _count(row, "n_models"), _count(row, "pipeline_size", 1)
    workers, calls = _count(row, "workers_per_model", 1), _calls(row, batch)
    state = row.get("status", "finished")
    reasons = [] if state == "finished" else [f"NeuronPerf's status is {state!r}"]
    reasons += _impossible(row, rate, models * workers, batch)
    method = f"of calls of {batch} samples"
    latencies = [stated_percentile("latency_ms", percent, number_of(row[name], name), calls, method)
                 for name, percent in LATENCIES.items() if name in row]
    return Result(
        tool="neuronperf", publisher="NeuronPerf report", entry=dict(row), scenario="offline",
        model=row.get("model_name") or row.get("model_filename") or "unnamed model", batch_size=batch,
        metrics=(Metric(name="samples_per_second", value=rate, unit="samples/s",
                        method=f"the file's average of {models} models together"), *latencies),
        cores=models * pipeline, status="invalid" if reasons else "valid", reasons=tuple(reasons),
        precision=row.get("dtype"), notes=row.get("model_filename"),
        options={"n_models": models, "workers_per_model": workers, "pipeline_size": pipeline})


def _impossible(row: Mapping[str, str], rate: float, workers: int, batch: int) -> list[str]:
    """Little's law: throughput = calls under way x batch / latency."""
    if "latency_ms_p50" not in row:
        return []
    median_ms = number_of(row["latency_ms_p50"], "latency_ms_p50")
    most = workers * batch * 1e3 / median_ms if median_ms else 0.0
    if rate <= MOST * most:
        return []
    return [f"throughput_avg {rate:g} is more than {workers} workers with batches of {batch} can do in "
            f"{median_ms:g} ms each: {most:g}"]


def _calls(row: Mapping[str, str], batch: int) -> int | None:
    """How many calls the percentiles are of, where the file says how many inferences there were."""
    return int(number_of(row["total_infs"], "total_infs")) // batch if "total_infs" in row else None


def _count(row: Mapping[str, str], name: str, default: int | None = None) -> int:
    if name not in row and default is not None:
        return default
    found = number_of(row.get(name, ""), name)
    if found != int(found) or found < 1:
        raise Unusable(f"{name} is {row[name]!r}, not a whole number of at least 1")
    return int(found)
