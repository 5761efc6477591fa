"""MLPerf Inference: LoadGen's `mlperf_log_summary.txt`, and tables of published results.

Sources, read 2026-11: loadgen/results.cc and tools/submission of
https://github.com/mlcommons/inference, and summaries and tables in its inference_results_*
repositories. LoadGen states latencies in ns and counts samples; a language model's results have
tokens beside them. Its TPOT is (latency - time to first token) / (tokens - 1), as ours.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from bench.exchange.foreign import (
    WRONG_SHAPE,
    Result,
    Unusable,
    documents,
    number,
    number_of,
    stated_percentile,
    unknown,
    why,
)
from bench.record import Metric

HEADLINE = "MLPerf Results Summary"
SCENARIOS = {"singlestream": "single-stream", "multistream": "multi-stream", "server": "server",
             "offline": "offline", "interactive": "interactive"}
MODELS = {
    "resnet": ("resnet50", "full", "image", None), "resnet50": ("resnet50", "full", "image", None),
    "retinanet": ("retinanet", "published", "image", None), "bert": ("bert", "large", "sample", "384 max"),
    "gptj": ("gpt-j-6b", "published", "sample", "1919 max/128"),
    "llama2-70b": ("llama-2-70b", "published", "sample", "1024 max/1024 max"),
    "mixtral-8x7b": ("mixtral", "8x7b", "sample", "2048 max/1024 max"),
    "stable-diffusion-xl": ("stable-diffusion-xl", "published", "image", "1024x1024 steps=20"),
    "llama3.1-8b": ("llama", "8b", "sample", "MLPerf llama3.1-8b"),
    "llama3.1-405b": ("llama-3.1-405b", "published", "sample", "MLPerf llama3.1-405b"),
    "whisper": ("whisper", "published", "sample", "MLPerf whisper"),
    "gpt-oss-120b": ("gpt-oss-120b", "published", "sample", "MLPerf gpt-oss-120b")}
"""Benchmark -> workload, size, what a sample is, sequence; named as the shipped published results name
them, so that both are compared. The lengths are those of the benchmark's own data set."""
QUALITY = {"resnet": "99 %", "resnet50": "99 %"}
"""Targets that a benchmark's name does not carry: of float32's accuracy. Source: MLPerf Inference rules."""
BATCHING = "MLPerf's rules"
ROUND_DATES = {"v0.5": "2019-11", "v0.7": "2020-10", "v1.0": "2021-04", "v1.1": "2021-09", "v2.0": "2022-04",
               "v2.1": "2022-09", "v3.0": "2023-04", "v3.1": "2023-09", "v4.0": "2024-03", "v4.1": "2024-08",
               "v5.0": "2025-04", "v5.1": "2025-09", "v6.0": "2026-04"}
"""Months in which MLCommons published each round: the only date that a table of results has."""
BEFORE_EARLY_STOPPING = ("v0.5", "v0.7", "v1.0", "v1.1")
COLUMNS = {
    "submitter": ("Organization", "Submitter"), "division": ("Division", "Category"),
    "system": ("SystemName", "System"), "model": ("MlperfModel", "Model"), "scenario": ("Scenario",),
    "result": ("Result", "Performance_Result"), "units": ("Units", "Performance_Units"),
    "nodes": ("number_of_nodes", "Nodes"), "accelerator": ("accelerator_model_name", "Accelerator"),
    "per_node": ("accelerators_per_node", "a#"), "software": ("framework", "Software"), "round": ("version",),
    "precision": ("weight_data_types",), "location": ("Location",), "errors": ("errors",),
    "notes": ("notes", "Notes"), "availability": ("Availability",)}
"""What a row says, by the headings that it has stood under."""

_PATH = re.compile(r"([^/\\]+)[/\\](SingleStream|MultiStream|Server|Offline|Interactive)[/\\]performance[/\\]run_\d+")


def summary_results(text: str, name: str) -> Iterator[Result]:
    """Return the one result of a summary. A run that LoadGen calls INVALID is an invalid result.

    The model is in no summary: it is read from a path as submissions have it
    (`<model>/<scenario>/performance/run_1`), else the record is named after the system under test.
    Unusable for a summary that is cut short, or of a run that was not timed.
    """
    said = _lines(text)
    verdict = said.get("result is")
    if verdict not in ("VALID", "INVALID"):
        raise Unusable("the summary is cut short: it has no line 'Result is'")
    if said.get("mode") != "PerformanceOnly":
        raise Unusable(f"it is a run of mode {said.get('mode')}: only PerformanceOnly is timed")
    scenario = _scenario(said.get("scenario", ""))
    path = _PATH.search(name)
    model = path.group(1) if path else f"mlperf:{said.get('sut name') or 'unnamed'}"
    metrics = _summary_metrics(said, scenario, text)
    tokens = any(metric.name == "tokens_per_second" for metric in metrics)
    samples = said.get("samples_per_query") if scenario == "multi-stream" else None
    reasons = _why_invalid(said, text)
    result = _of_model(Result(
        tool="mlperf", publisher="MLPerf Inference result file", entry=text, model=model, scenario=scenario,
        metrics=metrics, batch_size=int(number_of(samples, "samples_per_query")) if samples else None,
        status="invalid" if reasons else "valid", reasons=reasons,
        warnings=_logged(text), notes=f"SUT name: {said.get('sut name')}",
        options={"target_qps": said.get("target_qps")}), model)
    yield _counting_tokens(result) if tokens else result


def table_results(text: str, name: str) -> Iterator[Result | str]:
    """Yield a result, or why there is none, for each row of a table of published results (CSV or JSON)."""
    if text.lstrip().startswith("["):
        (rows,) = documents(text)
    else:
        rows = list(csv.DictReader(io.StringIO(text)))
    if not all(isinstance(row, dict) for row in rows):
        raise Unusable("its rows are no objects")
    for line, row in enumerate(rows, start=1):
        try:
            yield _row_result({key: value for key, value in row.items() if key})
        except WRONG_SHAPE as error:
            yield f"row {line} ({_cell(row, 'system') or 'no system'}, {_cell(row, 'model')}, " \
                  f"{_cell(row, 'scenario')}): {why(error)}"


def _lines(text: str) -> dict[str, str]:
    """`key : value` lines, the key in lower case with single spaces; the first of equals stands."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(" ".join(key.strip(" *").lower().split()), value.strip())
    return found


def _scenario(text: str) -> str:
    found = SCENARIOS.get(text.strip().lower().replace(" ", ""))
    if found is None:
        raise Unusable(f"scenario {text!r} is none of MLPerf's")
    return found


def _summary_metrics(said: Mapping[str, str], scenario: str, text: str) -> tuple[Metric, ...]:
    metrics = [_throughput(said, scenario)]
    if "scheduled samples per second" in said and "completed samples per second" in said:
        metrics.append(_rate("scheduled_samples_per_second", said["scheduled samples per second"], "as scheduled"))
    for key in ("tokens per second", "completed tokens per second", "tps w/ loadgen overhead"):
        if key in said:
            metrics.append(Metric(name="tokens_per_second", value=number_of(said[key], key), unit="tokens/s",
                                  method=f"LoadGen's {key!r}: output tokens"))
    if scenario == "offline":
        return tuple(metrics)  # its latencies run from the start of the test: they tell of no query
    queries = _queries(said, scenario, text)
    for key, name in (("latency (ns)", "latency_ms"), ("first token latency (ns)", "ttft_ms"),
                      ("time to output token (ns)", "tpot_ms")):
        metrics += _latencies(said, key, name, queries)
    metrics += [_bound(int(percent), int(ns) / 1e6, queries) for percent, ns in
                re.findall(r"Early stopping (\d+)(?:\.0)?th percentile estimate: (\d+)", text)]
    return tuple(metrics)


def _bound(percent: int, value_ms: float, queries: int | None = None) -> Metric:
    """Another number than the percentile itself, and so of another name: see `mlperf_percentile`."""
    return Metric(name=f"latency_ms_p{percent}_bound", value=value_ms, unit="ms", n=queries,
                  method=f"MLPerf's early-stopping estimate: at least the true p{percent} with 99 % confidence")


def _throughput(said: Mapping[str, str], scenario: str) -> Metric:
    """Samples per second: as completed, as what was only asked for is no work done."""
    for key in ("samples per second", "completed samples per second", "scheduled samples per second",
                "qps w/ loadgen overhead"):
        if key in said:
            return _rate("samples_per_second", said[key], f"LoadGen's {key!r}")
    return unknown("samples_per_second", "samples/s", f"a summary of {scenario} states no throughput")


def _rate(name: str, text: str, method: str) -> Metric:
    return Metric(name=name, value=number_of(text, name), unit="samples/s", method=method)


def _latencies(said: Mapping[str, str], key: str, name: str, queries: int | None) -> list[Metric]:
    method = "LoadGen's percentile" + (" of whole queries" if name == "latency_ms" else "")
    found = [stated_percentile(name, percent, number_of(value, wanted) / 1e6, queries, method)
             for percent, wanted in ((p, f"{p:.2f} percentile {key}") for p in (50, 90, 95, 97, 99, 99.9))
             if (value := said.get(wanted)) is not None]
    mean = said.get(f"mean {key}", said.get("mean time per output token (ns)") if name == "tpot_ms" else None)
    if mean is not None:
        found.append(Metric(name=f"{name}_mean", value=number_of(mean, f"mean {key}") / 1e6, unit="ms", n=queries,
                            method="LoadGen's mean"))
    return found


def _queries(said: Mapping[str, str], scenario: str, text: str) -> int | None:
    """How many queries the percentiles are of: as stated, or at least as many as the test asks for."""
    told = re.search(r"Processed at least \d+ queries \((\d+)\)|Only processed (\d+) queries", text)
    if told:
        return int(told.group(1) or told.group(2))
    if said.get("min queries satisfied") == "Yes" and "min_query_count" in said:
        return int(number_of(said["min_query_count"], "min_query_count"))
    return None


def _why_invalid(said: Mapping[str, str], text: str) -> tuple[str, ...]:
    reasons = []
    if said["result is"] == "INVALID":
        failed = [key for key, value in said.items() if "satisfied" in key and value.upper() == "NO"]
        reasons.append(f"LoadGen calls the run INVALID: not satisfied: {', '.join(failed) or 'not told what'}")
    errors = re.search(r"^(\d+) ERRORS? encountered", text, re.MULTILINE | re.IGNORECASE)
    if errors:
        reasons.append(f"LoadGen logged {errors.group(1)} errors")
    return tuple(reasons)


def _logged(text: str) -> tuple[str, ...]:
    found = re.search(r"^(\d+) warnings? encountered", text, re.MULTILINE | re.IGNORECASE)
    return (f"LoadGen logged {found.group(1)} warnings",) if found else ()


def _row_result(row: Mapping[str, Any]) -> Result:
    model, units, version = _cell(row, "model"), _cell(row, "units"), _cell(row, "round")
    if not model or not _cell(row, "result"):
        raise Unusable("it names no model or states no result")
    scenario = _scenario(_cell(row, "scenario"))
    value = number_of(_cell(row, "result"), "result")
    metrics = _row_metrics(units, value, scenario, version)
    nodes, per_node = _count(row, "nodes"), _count(row, "per_node")
    location = _cell(row, "location")
    errors = _cell(row, "errors") not in ("", "0", "0.0", "None")
    day = ROUND_DATES.get(version)
    result = _of_model(Result(
        tool="mlperf", version=version or None, entry=dict(row), model=model, scenario=scenario, metrics=metrics,
        publisher=f"MLPerf Inference results table, submitted by {_cell(row, 'submitter') or 'somebody unnamed'}",
        at=f"{day}-01T00:00:00+00:00" if day else None, date=day, system=_cell(row, "system") or None,
        url=f"https://github.com/mlcommons/inference_results_{version}/tree/main/{location}"
        if version in ROUND_DATES and location else None,
        software=_cell(row, "software") or None, precision=_cell(row, "precision") or None,
        notes="; ".join(part for part in (_cell(row, "division"), _cell(row, "availability"), _cell(row, "notes"))
                        if part),
        chip_name=re.sub(r"\s*\(x\d+\)$|^(-|N/A|None)$", "", _cell(row, "accelerator")) or None, nodes=nodes,
        chips=nodes * per_node if nodes and per_node else None,
        options={"round": version, "division": _cell(row, "division")},
        status="invalid" if errors else "valid",
        reasons=(f"the table counts {_cell(row, 'errors')} errors",) if errors else ()), model)
    if units.lower() == "tokens/s":
        return _counting_tokens(result)
    return result


def _row_metrics(units: str, value: float, scenario: str, version: str) -> tuple[Metric, ...]:
    """The one number of a row, by its unit. Energy is of another row's run, and so no result of its own."""
    match units.lower():
        case "samples/s" | "queries/s":
            return (Metric(name="samples_per_second", value=value, unit="samples/s", method=f"the table's {units}"),)
        case "tokens/s":
            return (Metric(name="tokens_per_second", value=value, unit="tokens/s", method="the table's output tokens"),)
        case "latency (ms)":
            late = "single-stream" if scenario == "single-stream" else "multi-stream"
            missing = unknown("samples_per_second", "samples/s", f"a {late} result states a latency alone")
            percent = 99 if scenario == "multi-stream" else 90
            if version in BEFORE_EARLY_STOPPING:
                return missing, Metric(name=f"latency_ms_p{percent}", value=value, unit="ms", method="the table's")
            return missing, _bound(percent, value)
        case "watts" | "millijoules" | "millijoules/stream":
            raise Unusable(f"{units} of a run whose throughput stands in another row")
    raise Unusable(f"its unit is {units!r}, which is none of MLPerf's")


def _of_model(result: Result, model: str) -> Result:
    """What a benchmark's name says: our workload where it is the same model, and the quality target."""
    base, _, quality = model.partition("-99")
    workload, size, item, sequence = MODELS.get(base, (None, None, "sample", None))
    target = f"99{quality} %" if base != model else QUALITY.get(base)
    return replace(result, model=base, workload=workload, size=size, item=item, sequence=sequence, quality=target,
                   sequenced=item == "sample", batching=BATCHING if result.scenario == "server" else None,
                   options=dict(result.options) | ({"quality": target} if target else {}))


def _counting_tokens(result: Result) -> Result:
    return replace(result, item="token", item_definition="output tokens", batching=BATCHING, sequenced=True)


def _cell(row: Mapping[str, Any], what: str) -> str:
    """A row's text under the first of the headings that it has; empty where it has none."""
    return next((str(row[name]).strip() for name in COLUMNS[what] if row.get(name) is not None), "")


def _count(row: Mapping[str, Any], what: str) -> int | None:
    found = _cell(row, what)
    return int(number(float(found), what)) or None if re.fullmatch(r"\d+(\.0)?", found) else None
