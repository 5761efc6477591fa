"""Other tools' result files as records and back: which tool wrote a file, and what it says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.errors import BenchError
from bench.exchange import mlperf, neuronperf, optimum, vllm
from bench.exchange.foreign import WRONG_SHAPE, Given, Result, Unusable, documents, record_of, why
from bench.record import Record

__all__ = ["Given", "Imported", "Unusable", "format_of", "import_file"]

Importer = Callable[[str, str], Iterator[Result | str]]
_IMPORTERS: dict[str, Importer] = {"vllm": vllm.results, "optimum-benchmark": optimum.results,
                                   "neuronperf": neuronperf.results}


@dataclass(frozen=True, slots=True)
class Imported:
    """A file's records, and why each of its other results gave none."""

    records: tuple[Record, ...]
    problems: tuple[str, ...]


def import_file(content: bytes, name: str, given: Given, kind: str | None = None) -> Imported:
    """Return the records of a result file. `name` is its path, which may tell MLPerf's model.

    `kind` None: found from the content. Unusable for a file that no importer reads; BenchError for
    options that do not go with it.
    """
    text = _text(content)
    kind = kind or format_of(text)
    if kind == "pytest-benchmark":
        return _pytest_benchmark(text, given)
    records, problems = [], []
    for found in _results(_importer(kind, text)(text, name)):
        if isinstance(found, str):
            problems.append(found)
            continue
        try:
            records.append(_checked(record_of(found, given)))
        except WRONG_SHAPE as error:
            problems.append(f"{found.model}: {why(error)}")
        except BenchError as error:
            problems.append(f"{found.model}: {error.what}")
    return Imported(tuple(records), tuple(problems))


def _results(found: Iterator[Result | str]) -> list[Result | str]:
    """All results of a file; Unusable for one of another shape than its tool writes."""
    try:
        return list(found)
    except WRONG_SHAPE as error:
        raise Unusable(why(error)) from error


def format_of(text: str) -> str:
    """Return which tool wrote a text; Unusable where that is not plain."""
    if mlperf.HEADLINE in text:
        return "mlperf"
    if text.lstrip()[:1] in ("{", "["):
        return _format_of_json(documents(text)[0])
    heading = set(next(csv.reader(text.splitlines()[:1]), []))
    if heading >= set(neuronperf.NEEDED):
        return "neuronperf"
    if heading & {"MlperfModel", "Performance_Result"} or heading >= {"Scenario", "Result", "Units"}:
        return "mlperf"
    raise Unusable("it is not plain which tool wrote it: pass --format")


def _format_of_json(document: object) -> str:
    if isinstance(document, list):
        if document and isinstance(document[0], dict) and "Scenario" in document[0]:
            return "mlperf"
        raise Unusable("it is not plain which tool wrote it: pass --format")
    keys = set(document) if isinstance(document, dict) else set()
    if keys & {"e2e_model", "context_encoding_model", "token_generation_model"}:
        raise Unusable("it is NxDI's benchmark report, whose throughput counts padded prompt and output tokens "
                       "together: they cannot be parted")
    if "benchmarks" in keys:
        return "pytest-benchmark"
    if {"config", "report"} <= keys or any(_timed(document, target) for target in optimum.TARGETS):
        return "optimum-benchmark"
    if {"duration", "completed"} <= keys or "tput_per_gpu" in keys:
        return "vllm"
    raise Unusable("it is not plain which tool wrote it: pass --format")


def _timed(document: object, target: str) -> bool:
    return isinstance(document, dict) and isinstance(document.get(target), dict) and "latency" in document[target]


def _importer(kind: str, text: str) -> Importer:
    if kind == "mlperf":
        return mlperf.summary_results if mlperf.HEADLINE in text else mlperf.table_results
    return _IMPORTERS[kind]


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unusable("it is no text") from error
    if not text.strip():
        raise Unusable("it is empty")
    if "\0" in text:
        raise Unusable("it is no text")
    return text


def _checked(record: Record) -> Record:
    """The record as it will be read again: whatever a file held, what is stored can be loaded."""
    return Record.from_json(json.loads(record.dumps()))


def _pytest_benchmark(text: str, given: Given) -> Imported:
    from bench.exchange.pytest_benchmark import import_document, parse

    if given != Given():
        raise BenchError("Options that describe a result do not go with pytest-benchmark: its benchmarks are calls of "
                         "any code.", fix="leave all but --format and --results away.")
    try:
        records, problems = import_document(parse(text))
    except BenchError as error:
        raise Unusable(error.what) from error
    return Imported(tuple(records), tuple(problems))
