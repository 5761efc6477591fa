"""Published results as records: a row of published.csv is one result with its source.

Kept apart, as they are no evidence and are refused with their reason: claims (`claimed_...`) and
prices per item without a throughput. What the file says of a result, beside its number:

* `workload` and `size` are ours where the architecture is the same (llama:8b stands for Llama 3 and 3.1,
  llama:70b for 3.3 too, which differ in weights and rotary scaling alone); `model` is what was published.
* `instance` or, in `no_instance`, why none is named; `chips` are those that were used.
* `sequence`: tokens, prompt/new tokens, or image size and denoising steps, and for benchmarks with a data
  set of their own its name. Empty: the work has none. "unstated": its publisher does not say.
* `streams`: queries in flight of a single-stream row, by Little's law (throughput x latency / batch).
* `batch_size`: requests at a time where a server was driven; the global batch in training.
* `items_each`: items that one timed generation makes, where no part of the chips is idle meanwhile.
* `latency_of`: what the latencies are of. `warnings` stand beside every use of the record.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from bench.case import UNSTATED, Case, Scalar
from bench.catalog.chips import chip_id_of
from bench.catalog.rows import Row, read_rows, refuse_twice, shipped
from bench.record import Metric, Record

FILE = "published.csv"
COLUMNS = (
    "id", "date", "publisher", "url", "platform", "instance", "instances", "no_instance", "chip", "chips",
    "software", "speculation", "batching", "model", "workload", "size", "task", "scenario", "streams", "precision",
    "batch_size", "sequence", "quality", "tensor_parallel", "metric", "value", "unit", "item", "items_each",
    "latency_of", "latency_ms_mean", "latency_ms_p50", "latency_ms_p95", "latency_ms_p99", "ttft_ms_mean",
    "ttft_ms_p50", "ttft_ms_p99", "itl_ms_mean", "published_usd_per_hour", "published_cost", "warnings", "notes")

SELLERS = ("AWS Neuron docs", "AWS Neuron release notes", "AWS Neuron NxDI contrib", "NVIDIA TensorRT demoBERT",
           "NVIDIA DeepLearningExamples", "NVIDIA TensorRT-LLM docs", "Google MaxText")
"""Publishers that sell a chip: tier "vendor", for their own chips and for a rival's beside them."""

OTHERS = ("MLCommons", "Hugging Face optimum-neuron", "Hugging Face (P. Schmid)", "ML.ENERGY leaderboard",
          "MosaicML/Databricks llm-foundry", "whn09 NxDI fork", "srishtig15 aws-neuron-samples fork")
"""Publishers that sell none: tier "published". MLCommons reviews what chip makers submit."""

PRECISIONS: dict[str, tuple[str, str | None]] = {
    "": (UNSTATED, None),
    "FP32": ("fp32", "fp32"),
    "TF32": ("tf32", "tf32"),
    "BF16": ("bf16", "16-bit"),
    "BF16 (MXFP4 checkpoint dequantised)": ("bf16", "16-bit"),
    "FP16": ("fp16", "16-bit"),
    "FP16 model": ("fp16", "16-bit"),
    "FP16 mixed": ("amp-fp16", "16-bit"),
    "FP16/TF32 mixed": ("amp-fp16", "16-bit"),
    "FP16 model, matmult-BF16 autocast, bf16 weights": ("bf16", "16-bit"),
    "FP16 model, matmult-BF16 autocast, int8 weights": ("int8", "int8"),
    "FP32 model, matmult-BF16 autocast": ("amp-bf16", "16-bit"),
    "FP32, BF16 model, matmult-BF16 autocast": ("amp-bf16", "16-bit"),
    "FP32 model, matmult autocast": (UNSTATED, "16-bit"),
    "Autocast:BF16+SR": ("amp-bf16", "16-bit"),
    "Autocast:BF16/AMP": ("amp-bf16", "16-bit"),
    "Autocast:BF16+FP32Optimizer": ("amp-bf16", "16-bit"),
    "BF16 with rescaled FP8 weights": ("fp8", "fp8"),
    "FP8": ("fp8", "fp8"),
    "FP8 static": ("fp8", "fp8"),
    "dynamic FP8": ("fp8", "fp8"),
    "FP8 UNet, mixed": ("fp8", "fp8"),
    "INT8": ("int8", "int8"),
    "INT4": ("int4", "4-bit"),
    "FP4": ("fp4", "4-bit"),
    "FP4 (per the 2x4 config file)": ("fp4", "4-bit"),
    "MXFP4": ("mxfp4", "4-bit"),
}
"""A published precision -> the case's dtype and the class that results are matched by. Weights of
fewer bits than the products count as the weights' class: less is read from memory."""

CAST_PRECISIONS = PRECISIONS | {"FP32 model": (UNSTATED, "16-bit"), "FP32": (UNSTATED, "16-bit")}
"""Those of Inferentia1, whose NeuronCore-v1 has no 32-bit products: a float32 model is cast."""

RATES = {"samples/s": ("sample", "samples"), "images/s": ("image", "images"),
         "tokens/s": ("token", "training tokens"), "output_tokens/s": ("token", "output tokens"),
         "total_tokens/s": ("token", "prompt and output tokens")}
"""A unit of throughput -> the item and what is counted. `tokens/s` alone is of training."""

UNITS = {"throughput": tuple(RATES), "throughput_derived": tuple(RATES), "mean_latency": ("ms",),
         "generation_time": ("s",), "time_to_train": ("minutes",), "energy_per_token": ("J/output_token",)}
"""A published metric -> the units it may have."""

LATENCIES = {"": "", "request": "latency_ms", "output token": "tpot_ms", "gap": "itl_ms",
             "request per token": "ntpot_ms", "total token": "total_token_ms"}
"""What a row's latency is of -> the metric. A request of a static batch is the batch; `ntpot_ms` is
end to end over output tokens, `tpot_ms` without the first token, `itl_ms` gaps between tokens."""

CPUS = ("epyc", "graviton", "xeon")
"""How the catalog's ids of CPUs begin: the rest are accelerators."""

SCENARIOS = ("offline", "single-stream", "server", "training")
ITEMS = ("sample", "image", "token", "run")


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is no evidence."""

    row_id: str
    reason: str


def published_records() -> tuple[list[Record], list[Refused]]:
    """Return the shipped results as records of tier "published" or "vendor", and the rows that are none.

    Every row is in one of the two. BenchError names the row and column of a bad cell.
    """
    records, refused = _shipped()
    return list(records), list(refused)


@functools.cache
def _shipped() -> tuple[list[Record], list[Refused]]:
    return load_published(shipped(FILE), FILE)


def load_published(text: str, file: str) -> tuple[list[Record], list[Refused]]:
    """Return the records of a CSV text and the refused rows; BenchError names the row and column of a bad cell."""
    rows = read_rows(text, file, COLUMNS, ["id"])
    refuse_twice(rows)
    reasons = {row.id: reason for row in rows if (reason := _refusal(row))}
    return ([_record(row) for row in rows if row.id not in reasons],
            [Refused(row_id, reason) for row_id, reason in reasons.items()])


def tier_of(publisher: str) -> str | None:
    """Return "vendor" for a publisher that sells a chip, "published" for others, None for one that is not known."""
    name = publisher.partition(", submitted by ")[0]
    return "vendor" if name in SELLERS else "published" if name in OTHERS else None


def _refusal(row: Row) -> str | None:
    """Why a row is no evidence, or None."""
    metric = row.text("metric")
    if metric.startswith("claimed_"):
        return "a claim, not a measurement: what is to be judged is no evidence"
    if metric == "cost_per_image":
        return "a price of its own basis, without a throughput to price anew"
    return None


def _record(row: Row) -> Record:
    tier = tier_of(row.text("publisher"))
    if tier is None:
        raise row.error("publisher", f"{row.cells['publisher']!r} is not known: does it sell a chip?",
                        "add it to SELLERS or OTHERS in bench/catalog/published.py.")
    if not re.match(r"https?://\S+$", row.text("url")):
        raise row.error("url", "it must begin with https://")
    began = f"{row.day('date')}T00:00:00Z"
    return Record(
        run_id=row.id, case=_case(row), started_at=began, ended_at=began, status="valid", tier=tier,
        warnings=row.texts("warnings"), machine=_machine(row), settings={"software": row.cells["software"] or UNSTATED},
        work=_work(row), metrics=tuple(_metrics(row)), device=_device(row), source=_source(row),
        parity={"status": "unchecked", "reason": "published by others: its outputs were not checked here"})


def _case(row: Row) -> Case:
    """The case as far as it is known; its options hold the row's id, so that no other case has its `id`.

    A batch size that is not published stands as 1 in the case and as None in the record's work.
    """
    prompt, new = _tokens(row.cells["sequence"])
    options: dict[str, Scalar] = {"published_row": row.id}
    tensor_parallel = row.maybe_count("tensor_parallel")
    return Case(
        workload=row.text("workload"), size=row.text("size"), task=row.one_of("task", ("inference", "training")),
        scenario=row.one_of("scenario", SCENARIOS), backend="published", dtype=_precision(row)[0],
        batch_size=row.maybe_count("batch_size") or 1, seq_len=prompt,
        options=options | ({} if new is None else {"new_tokens": new}),
        parallelism=f"tp={tensor_parallel}" if tensor_parallel else UNSTATED)


def _tokens(sequence: str) -> tuple[int | None, int | None]:
    """Prompt and new tokens of a sequence such as "128" or "2048/128"; None where it is no such number."""
    found = re.fullmatch(r"(\d+)(?:/(\d+))?", sequence)
    return (int(found[1]), int(found[2]) if found[2] else None) if found else (None, None)


def _precision(row: Row) -> tuple[str, str | None]:
    known = CAST_PRECISIONS if _chip_id(row) == "inferentia1" else PRECISIONS
    return known[row.one_of("precision", tuple(known))]


def _work(row: Row) -> dict[str, Any]:
    item, definition = _item(row)
    batch, sequence = row.maybe_count("batch_size"), row.cells["sequence"]
    work: dict[str, Any] = {
        "item": item, "item_definition": definition, "model": row.text("model"),
        "precision": row.cells["precision"] or None, "precision_class": _precision(row)[1],
        "sequence": None if sequence in ("", UNSTATED) else sequence, "quality": row.cells["quality"] or None,
        "batch_size": batch, "streams": row.maybe_count("streams"), "speculation": row.cells["speculation"] or None,
        "batching": row.cells["batching"] or None, "flops_per_item": None}
    if sequence == UNSTATED:
        work["sequence_reason"] = "the sequence length or number of steps is not published"
    if batch is None:
        work["batch_size_reason"] = "the batch size is not published"
    return work


def _item(row: Row) -> tuple[str, str]:
    """What is counted, and how: `item` and its definition, checked against the unit."""
    metric = row.one_of("metric", tuple(UNITS))
    unit, item = row.one_of("unit", UNITS[metric]), row.one_of("item", ITEMS)
    if metric == "energy_per_token":
        unit = "output_tokens/s"
    if unit not in RATES:
        return item, f"{item}s"
    if RATES[unit][0] != item:
        raise row.error("item", f"{unit} counts {RATES[unit][0]}s, not {item}s")
    if (unit == "tokens/s") != (row.cells["task"] == "training" and item == "token"):
        raise row.error("unit", f"{unit} in {row.cells['task']}",
                        "tokens/s is of training; in inference say output_tokens/s or total_tokens/s.")
    return RATES[unit]


def _metrics(row: Row) -> list[Metric]:
    """The published number in our units, and the latencies beside it."""
    value, item, metric = row.number("value"), row.cells["item"], row.cells["metric"]
    rate = f"{item}s_per_second"
    if metric == "mean_latency":
        found = [_stated("latency_ms_mean", value, "ms"),
                 Metric(name=rate, value=None, unit=f"{item}s/s", reason="one query at a time: its latency does not "
                        "say what the idle rest of the machine could do beside it")]
    elif metric == "generation_time":
        found = [_stated("latency_ms", 1e3 * value, "ms", "published in s; mean or median is not said"),
                 _one_at_a_time(row, rate, value)]
    elif metric == "time_to_train":
        found = [_stated("time_to_train_s", 60 * value, "s", "published in minutes")]
    elif metric == "energy_per_token":
        found = [_stated("joules_per_token", value, "J")]
    else:
        derived = "published" if metric == "throughput" else "derived from published numbers: see the warnings"
        found = [_stated(rate, value, f"{item}s/s", derived)]
    return found + _latencies(row)


def _one_at_a_time(row: Row, rate: str, seconds: float) -> Metric:
    """Items per second of chips that work on one generation at a time and have no part idle."""
    each, unit = row.maybe_count("items_each"), f"{row.cells['item']}s/s"
    if each is None:
        return Metric(name=rate, value=None, unit=unit, reason="what part of the chip one generation takes is unknown")
    return _stated(rate, each / seconds, unit, f"derived: {each} a generation, one at a time")


def _latencies(row: Row) -> list[Metric]:
    prefix = LATENCIES[row.one_of("latency_of", tuple(LATENCIES))]
    columns = {f"latency_ms_{of}": f"{prefix}_{of}" for of in ("mean", "p50", "p95", "p99")}
    columns |= {name: name for name in ("ttft_ms_mean", "ttft_ms_p50", "ttft_ms_p99", "itl_ms_mean")}
    if not prefix and any(row.cells[column] for column in columns if column.startswith("latency_")):
        raise row.error("latency_of", "it is empty, although a latency is given")
    return [_stated(name, row.number(column), "ms") for column, name in columns.items() if row.cells[column]]


def _stated(name: str, value: float, unit: str, method: str = "published") -> Metric:
    return Metric(name=name, value=value, unit=unit, method=method)


def _machine(row: Row) -> dict[str, Any]:
    """The platform as published, and the instance it names, or why it names none."""
    platform, kind, why = row.text("platform"), row.cells["instance"], row.cells["no_instance"]
    if bool(kind) == bool(why):
        raise row.error("no_instance", "a row names its instance, or says why there is none: one of the two")
    return {"name": platform if kind else f"{platform} ({row.text('chip')})",
            "instance": {"provider": "aws" if kind else None, "type": kind or None, "region": None,
                         "count": row.count("instances") if kind else None,
                         "source": f"published row {row.id}: {platform}", "reason": why or None}}


def _device(row: Row) -> dict[str, Any]:
    """The chip and how many were used; None where that is not known, say of a share of a CPU."""
    chip_id = _chip_id(row)
    return {"kind": "cpu" if chip_id.startswith(CPUS) else "accelerator", "name": row.text("chip"), "chip": chip_id,
            "chips": row.maybe_count("chips")}


def _chip_id(row: Row) -> str:
    chip_id = chip_id_of(row.text("chip"))
    if chip_id is None:
        raise row.error("chip", f"the catalog has no chip of the name {row.cells['chip']!r}",
                        "write a name of chips.csv's column names, or add it there.")
    return chip_id


def _source(row: Row) -> dict[str, Any]:
    """Who says so, where and when. A cost stays the publisher's own: no number here is made from it."""
    names = {"id": "id", "publisher": "publisher", "url": "url", "date": "date", "software": "software",
             "notes": "notes", "usd_per_hour": "published_usd_per_hour", "cost": "published_cost"}
    return {name: row.cells[column] or None for name, column in names.items()}
