"""What all importers share: what a user adds to a file, and one result of another tool as a record.

An importer turns a file into `Result`s in our names and units; `record_of` makes the record. What
neither the file nor the user says is None or "unstated", and the record's warnings say so. Where
both say something and differ, the result is refused: `Unusable` with the reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

from bench.case import UNSTATED, Case, Scalar
from bench.catalog.alike import PRECISION_CLASSES
from bench.catalog.chips import chip, chip_id_of
from bench.catalog.instances import Instance, instance
from bench.errors import BenchError
from bench.record import Metric, Record
from bench.stats.percentiles import floor_samples, percentile

PERCENTILES = {50: "p50", 90: "p90", 95: "p95", 97: "p97", 99: "p99", 99.9: "p99_9"}
SIXTEEN_BIT_ONLY = ("inferentia1",)
"""Chips that multiply float32 models in 16 bit. Source: AWS Neuron documentation, NeuronCore-v1."""
DTYPE_NAMES = {"float32": "fp32", "float": "fp32", "bfloat16": "bf16", "float16": "fp16", "half": "fp16",
               "float8": "fp8", "nvfp4": "fp4"}
CHIP_NAMES = {"NVIDIA T4": "t4", "NVIDIA A100-SXM-40GB": "a100-40gb", "NVIDIA A100-SXM-80GB": "a100-80gb",
              "NVIDIA A100-PCIe-80GB": "a100-pcie-80gb", "NVIDIA H100-SXM-80GB": "h100-sxm",
              "NVIDIA H200-SXM-141GB": "h200-sxm", "NVIDIA B200-SXM-180GB": "b200-sxm"}
"""MLPerf's names of chips, where the catalog knows them by their driver's alone. Only exact ones: an H200
with another cooler ("-CTS") is another chip."""
_LENGTH = re.compile(r"[1-9]\d*(/[1-9]\d*)?")
IMAGE_WORKLOADS = ("resnet50", "vit")
"""Workloads whose samples are images, as their own records count them."""


class Unusable(ValueError):
    """A result, or a whole file, that gives no record; the message says why."""


WRONG_SHAPE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading a document raises that is not of the shape its tool writes; Unusable among them."""


def why(error: Exception) -> str:
    """Return what was wrong with a document, by the error that reading it raised."""
    if isinstance(error, Unusable):
        return str(error)
    return f"it is not of the form that this tool writes ({type(error).__name__}: {error})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user says of a file's results. None: nothing.

    `seq_len` is "128", or "1024/128" for prompt and output tokens. BenchError for a chip or an
    instance that is not in the catalog, for two that do not belong together, and for numbers that
    cannot be.
    """

    chip: str | None = None
    chips: int | None = None
    instance_type: str | None = None
    workload: str | None = None
    size: str | None = None
    dtype: str | None = None
    seq_len: str | None = None
    day: date | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.chip is not None:
            chip(self.chip)
        if self.chips is not None and self.chips < 1:
            raise BenchError(f"--chips must be at least 1, got {self.chips}.", fix="pass how many chips were used.")
        if self.seq_len is not None and not _LENGTH.fullmatch(self.seq_len):
            raise BenchError(f"--seq-len {self.seq_len!r} is no length.",
                             fix="pass tokens, e.g. 128, or prompt/output, e.g. 1024/128.")
        if self.size is not None and self.workload is None:
            raise BenchError("--size needs --workload.", fix="pass both, e.g. --workload bert --size base.")
        host = self.host
        if host and self.chip and host.chip != self.chip:
            raise BenchError(f"{host.type} has {host.chip or 'no accelerator'}, not {self.chip}.",
                             fix="leave --chip away, or mend one of the two.")

    @property
    def host(self) -> Instance | None:
        """The instance that the user names."""
        return instance(self.instance_type) if self.instance_type else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One result as a tool's file states it, in our units. None: the file does not say.

    `at` is when it was measured, in UTC; `date` the text where a file tells less than a day.
    `entry` is what the file holds of it: its digest is the record's identity. `model` is its name
    there; `workload` and `size` are ours, where it is known to be the same model. `precision` is
    the text as it stands there. `sequence`: tokens, "prompt/output" in generation; `sequenced` False:
    the work has none. `batching`: how requests share the chip (see `bench.catalog.alike`).
    """

    tool: str
    publisher: str
    entry: Any
    model: str
    scenario: str
    metrics: tuple[Metric, ...]
    task: str = "inference"
    version: str | None = None
    workload: str | None = None
    size: str | None = None
    item: str = "sample"
    item_definition: str | None = None
    items_per_step: int | None = None
    at: str | None = None
    date: str | None = None
    url: str | None = None
    software: str | None = None
    notes: str | None = None
    system: str | None = None
    precision: str | None = None
    dtype: str | None = None
    sequence: str | None = None
    sequenced: bool = True
    quality: str | None = None
    batch_size: int | None = None
    batching: str | None = None
    chip_name: str | None = None
    chips: int | None = None
    cores: int | None = None
    nodes: int | None = None
    options: Mapping[str, Scalar] = field(default_factory=dict)
    samples: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    status: str = "valid"
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def record_of(result: Result, given: Given) -> Record:
    """Return a result as a record of tier "published", with what the user adds.

    The run_id comes from the file's own content, so that importing it again gives the same record.
    Unusable where the file and the user disagree, or where neither says when it was measured.
    """
    workload, size = _named(result, given)
    if result.item == "image" or workload in IMAGE_WORKLOADS:
        result = _counting_images(result)
    unknown: list[str] = []
    dtype = _dtype(result, given, unknown)
    sequence = _agreed("sequence", result.sequence, given.seq_len, "--seq-len")
    device, hosts = _device(result, given, unknown), _hosts(result, given)
    at = _when(result, given)
    run_id = f"{result.tool}-{at[:10].replace('-', '')}-{digest(result.entry)}"
    unchecked = f"imported from {result.tool}: parity and canary not checked"
    return Record(
        run_id=run_id, started_at=at, ended_at=at, status=result.status, reasons=result.reasons, tier="published",
        case=Case(workload=workload, size=size, task=result.task, scenario=result.scenario, backend=result.tool,
                  dtype=dtype, batch_size=result.batch_size or 1, options=dict(result.options), parallelism=UNSTATED,
                  seq_len=int(sequence.partition("/")[0]) if sequence and _LENGTH.fullmatch(sequence) else None),
        warnings=(unchecked, *result.warnings, *unknown),
        tool={"name": result.tool, "commit": None} | ({"version": result.version} if result.version else {}),
        machine={"name": _machine(result, given, device), "instance": hosts},
        settings={"software": result.software or UNSTATED}, work=_work(result, sequence, dtype, device["chip"]),
        samples=dict(result.samples), metrics=result.metrics, memory=dict(result.memory),
        parity={"status": "unchecked", "reason": unchecked}, canary={"passed": None, "reasons": []},
        device=device, children=({"role": "measure", "status": "valid"},) if result.samples else (),
        labels=dict(given.labels),
        source={"id": run_id, "publisher": result.publisher, "url": result.url, "date": result.date or at[:10],
                "software": result.software, "notes": result.notes})


def digest(entry: Any) -> str:
    """Return twelve hex digits over a text or over JSON values."""
    text = entry if isinstance(entry, str) else json.dumps(entry, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def documents(text: str) -> list[Any]:
    """Return the JSON document of a text, or its documents, one a line; Unusable where it is none.

    NaN and infinities are refused, as nobody could say what was meant.
    """
    try:
        return [json.loads(text, parse_constant=_no_constant)]
    except (ValueError, RecursionError) as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2 or not lines[0].rstrip().endswith("}"):
            raise Unusable(f"it is no whole JSON: {error}") from error
    try:
        return [json.loads(line, parse_constant=_no_constant) for line in lines]
    except (ValueError, RecursionError) as error:
        raise Unusable(f"it is no whole JSON: {error}") from error


def number(value: Any, what: str) -> float:
    """Return a JSON value that must be a finite number of 0 or more; Unusable names it where it is not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unusable(f"{what} is {value!r}, not a number")
    if not math.isfinite(value) or value < 0:
        raise Unusable(f"{what} is {value!r}, which cannot be")
    return float(value)


def number_of(text: str, what: str) -> float:
    """Return the number that a text states; Unusable names it where it states none."""
    try:
        return number(float(text.replace(",", "")), what)
    except ValueError as error:
        raise error if isinstance(error, Unusable) else Unusable(f"{what} is {text!r}, not a number") from error


def unknown(name: str, unit: str, reason: str) -> Metric:
    return Metric(name=name, value=None, unit=unit, reason=reason)


def stated_percentile(name: str, percent: float, value_ms: float, n: int | None, method: str) -> Metric:
    """Return a percentile that a file states, in ms; None where it comes from too few samples.

    The floor is MLPerf's early-stopping one (`bench.stats.percentiles`). Where the file does not say
    how many samples there were, the value stands and the method says so.
    """
    label, floor = PERCENTILES[percent], floor_samples(percent / 100)
    if n is not None and n < floor:
        return unknown(f"{name}_{label}", "ms", f"{n} samples; {label} needs {floor}")
    told = method if n is not None else f"{method}; the number of samples is not stated"
    return Metric(name=f"{name}_{label}", value=value_ms, unit="ms", n=n, method=told)


def percentiles_of(name: str, samples_ms: Sequence[float], method: str) -> list[Metric]:
    """Return p50, p90, p95 and p99 of raw samples in ms, each None below its floor."""
    return [unknown(f"{name}_{label}", "ms", f"{len(samples_ms)} samples; {label} needs {floor_samples(percent / 100)}")
            if (value := percentile(samples_ms, percent / 100)) is None
            else Metric(name=f"{name}_{label}", value=value, unit="ms", n=len(samples_ms), method=method)
            for percent, label in PERCENTILES.items() if percent in (50, 90, 95, 99)]


def dtype_named(text: str | None) -> str | None:
    """Return our name of a number format as other tools write it, or None where it is none of ours."""
    plain = (text or "").strip().lower().removeprefix("torch.")
    plain = DTYPE_NAMES.get(plain, plain)
    return plain if plain in PRECISION_CLASSES else None


def utc(text: str) -> str:
    """Return a time as UTC; one that names no zone is taken to be UTC."""
    at = datetime.fromisoformat(text)
    return (at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)).isoformat()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _agreed(what: str, said: str | None, given: str | None, option: str) -> str | None:
    """What the file says, else what the user does; "mean 1021/128" of a file yields to the user's word."""
    if said and given and said != given and not said.startswith("mean "):
        raise Unusable(f"its {what} is {said}, and {option} says {given}")
    return given or said


def _named(result: Result, given: Given) -> tuple[str, str]:
    """Workload and size: the user's word, but where the file names a benchmark that is known."""
    said = (result.workload, result.size or "published")
    told = (given.workload, given.size or "published")
    if result.workload and given.workload and said != told:
        raise Unusable(f"it is a result of {':'.join(map(str, said))}, and --workload says {':'.join(map(str, told))}")
    return given.workload or result.workload or result.model, told[1] if given.workload else said[1]


def _counting_images(result: Result) -> Result:
    """Samples of image models are images, as our own records of these models count; images have no sequence."""
    renamed = [replace(m, name=m.name.replace("samples_", "images_"), unit="images/s") if "samples_" in m.name else m
               for m in result.metrics]
    return replace(result, item="image", metrics=tuple(renamed), sequenced=False)


def _dtype(result: Result, given: Given, unknown: list[str]) -> str:
    """The number format; `unknown` gets a line where it is not stated."""
    said = result.dtype or dtype_named(result.precision)
    if said is None and given.dtype is None:
        unknown.append(f"number format not stated{f' plainly: {result.precision!r}' if result.precision else ''}"
                       " (--dtype says it)")
    return _agreed("number format", said, given.dtype, "--dtype") or UNSTATED


def _work(result: Result, sequence: str | None, dtype: str, chip_id: str | None) -> dict[str, Any]:
    """What was counted and under which conditions, as published results have it."""
    work: dict[str, Any] = {
        "item": result.item, "item_definition": result.item_definition or f"{result.item}s", "model": result.model,
        "items_per_step": result.items_per_step, "precision_class": _class(dtype, chip_id),
        "precision": result.precision or (dtype if dtype != UNSTATED else None), "sequence": sequence,
        "quality": result.quality, "batch_size": result.batch_size, "batching": result.batching, "flops_per_item": None}
    if sequence is None and result.sequenced:
        work["sequence_reason"] = "the file does not state it (--seq-len says it)"
    if result.batch_size is None:
        work["batch_size_reason"] = "the file does not state it"
    return work


def _class(dtype: str, chip_id: str | None) -> str | None:
    found = PRECISION_CLASSES.get(dtype)
    return "16-bit" if found == "fp32" and chip_id in SIXTEEN_BIT_ONLY else found


def _device(result: Result, given: Given, unknown: list[str]) -> dict[str, Any]:
    """The chips used. A host with a single chip has used it; of others nobody knows unless told."""
    host = given.host
    said = (CHIP_NAMES.get(result.chip_name) or chip_id_of(result.chip_name)) if result.chip_name else None
    chip_id = _agreed("chip", said, given.chip or (host.chip if host else None), "the command line")
    chips = given.chips or result.chips or (1 if host and host.chips == 1 else None)
    if result.chips and given.chips and result.chips != given.chips:
        raise Unusable(f"it says {result.chips} chips, and --chips {given.chips}")
    if chips is None and result.cores and chip_id:
        each = next((i.cores_per_chip for i in [host] if i and i.cores_per_chip), None) or chip(chip_id).cores
        chips = math.ceil(result.cores / each) if each else None
    if chip_id is None:
        unknown.append(f"{result.chip_name!r} is not in the catalog of chips (--chip names one)" if result.chip_name
                       else "chip not stated (--chip says it)")
    elif chips is None:
        unknown.append("number of chips not stated (--chips says it)")
    return {"kind": "accelerator" if chip_id or result.chip_name else None, "chip": chip_id, "chips": chips,
            "name": chip(chip_id).name if chip_id else result.chip_name, "cores": result.cores}


def _hosts(result: Result, given: Given) -> dict[str, Any]:
    host = given.host
    count = result.nodes or 1
    if host is None:
        return {"provider": None, "type": None, "region": None, "count": count, "source": None,
                "reason": "the file names no instance (--instance-type says it)"}
    chips = given.chips or result.chips
    if chips and host.chips:
        count = max(count, math.ceil(chips / host.chips))
    return {"provider": host.provider, "type": host.type, "region": None, "count": count,
            "source": "--instance-type", "reason": None}


def _machine(result: Result, given: Given, device: Mapping[str, Any]) -> str:
    """A name for the computer, the same for all results of it: the file's own, else what is in it."""
    chips = f"{device['chips']}x {device['chip']}" if device["chips"] else device["chip"]
    return result.system or given.instance_type or chips or f"unknown machine ({result.tool})"


def _when(result: Result, given: Given) -> str:
    if result.at is not None:
        return result.at
    if given.day is None:
        raise Unusable("the file does not say when it was measured: pass --date YYYY-MM-DD")
    return f"{given.day.isoformat()}T00:00:00+00:00"
