"""A record: one case as it was measured, kept for ever. The wall between making and reading."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from bench.case import Case

SCHEMA_VERSION = "trnbench.record/1"
STATUSES = ("valid", "invalid", "failed", "unsupported", "oom", "timeout", "interrupted")
TIERS = ("measured", "published", "vendor", "modelled", "emulated")
PHASES = ("start", "load", "check", "tune", "compile", "warmup", "measure", "teardown")
"""The ledger. `check` is the harness's own (reference, parity, canary): no user's job pays for it."""


BEFORE_WORK = ("start", "load", "compile", "warmup")
"""The phases that every job pays before its first item, a user's own too; `tune` is the harness's as well."""


class RecordError(ValueError):
    """A text that is no record of a schema read here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number with its 95 % interval. `value` None: not known, and `reason` says why."""

    name: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    n: int | None = None
    method: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One case, measured in `len(children)` fresh processes. JSON Schema: record.schema.json.

    `phases_s` sums the children's ledgers, the scout's included (the child that makes the float32
    reference and the `auto` choices before anything is timed); each child keeps its own beside
    its `wall_s`. `settings` are the choices all measured children ran with, `tuning` how they
    were made. `samples`: {"unit": "ns", "steps_per_round": [...], "children": [[...], ...],
    "series": {"ttft": [[...]], "itl": [[...]]}}, a list a child. `source` says who published a result
    that was not measured here ({"id", "publisher", "url", "date", "software", "notes"}); else it is {}.
    """

    run_id: str
    case: Case
    started_at: str
    ended_at: str
    status: str
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tier: str = "measured"
    tool: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    effort: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)
    phases_s: dict[str, float] = field(default_factory=dict)
    wall_s: float | None = None
    compile: dict[str, Any] = field(default_factory=dict)
    work: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    memory: dict[str, Any] = field(default_factory=dict)
    energy: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    canary: dict[str, Any] = field(default_factory=dict)
    fallbacks: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    children: tuple[dict[str, Any], ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    schema_version: str = SCHEMA_VERSION

    @property
    def case_id(self) -> str:
        return self.case.id

    def metric(self, name: str) -> Metric | None:
        return next((m for m in self.metrics if m.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, in the order a reader wants them."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data |= {"case": self.case.to_json(), "metrics": [dataclasses.asdict(m) for m in self.metrics]}
        for name in ("reasons", "warnings", "children"):
            data[name] = list(data[name])
        first = ("schema_version", "run_id", "case_id")
        return {"schema_version": self.schema_version, "run_id": self.run_id,
                "case_id": self.case_id} | {k: v for k, v in data.items() if k not in first}

    def dumps(self) -> str:
        """Return the record's text. NaN and infinity are refused: unknown is null with a reason."""
        return json.dumps(self.to_json(), allow_nan=False, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, data: Any) -> Record:
        """Read a record; RecordError names what does not fit, a newer schema included."""
        if not isinstance(data, dict) or "schema_version" not in data:
            raise RecordError("not a trnbench record: no schema_version")
        if data["schema_version"] != SCHEMA_VERSION:
            raise RecordError(f"schema {data['schema_version']!r} is not read by this version, "
                              f"which reads {SCHEMA_VERSION!r}: a newer trnbench may read it")
        known = {f.name for f in dataclasses.fields(cls)}
        values = {k: v for k, v in data.items() if k in known}
        try:
            _check_shapes(values)
            values["case"] = Case.from_json(values["case"])
            values["metrics"] = tuple(Metric(**m) for m in values["metrics"])
            for name in ("reasons", "warnings", "children"):
                values[name] = tuple(values.get(name, ()))
            record = cls(**values)
        except Exception as error:
            raise RecordError(f"malformed record: {type(error).__name__}: {error}") from error
        if record.status not in STATUSES or record.tier not in TIERS:
            raise RecordError(f"malformed record: status {record.status!r}, tier {record.tier!r}")
        check_facts(record)
        return record


def _check_shapes(values: dict[str, Any]) -> None:
    """TypeError for a field that no reader could use.

    By hand, as a validator of JSON Schema takes milliseconds a record and a report reads thousands.
    """
    for f in dataclasses.fields(Record):
        wanted = _JSON_TYPES.get(str(f.type).split("[")[0])
        if wanted and f.name in values and not isinstance(values[f.name], wanted):
            raise TypeError(f"{f.name} is {type(values[f.name]).__name__}, not {wanted.__name__}")
    for name, wanted in (("reasons", str), ("warnings", str), ("children", dict)):
        if not set(map(type, values.get(name, ()))) <= {wanted}:
            raise TypeError(f"{name} are not all {wanted.__name__}")
    samples = values.get("samples", {})
    rounds = samples.get("children", [])
    lists = [rounds, *samples.get("series", {}).values()]
    for times in (times for child in lists for times in child):
        if not set(map(type, times)) <= {int, float} or not math.isfinite(sum(times)):
            raise TypeError("samples are not all numbers")
    if rounds and len(samples["steps_per_round"]) != len(rounds):
        raise TypeError("samples have not one steps_per_round a child")
    numbers = [n for m in values["metrics"] for n in (m["value"], m.get("low"), m.get("high"))]
    numbers += [*values.get("phases_s", {}).values(), values.get("wall_s")]
    if any(n is not None and (type(n) not in (int, float) or not math.isfinite(n)) for n in numbers):
        raise TypeError("metrics, phases_s or wall_s are not all numbers")


def partly_used(device: Mapping[str, Any]) -> str | None:
    """Why what a run did is not what its chips can do, from its record's `device`: it used some of their cores alone.

    None where it used them whole. `share_of_chips` is stated by devices that are rented in cores; None there is
    unknown, and a device that lacks it is one that a process takes whole.
    """
    share = device.get("share_of_chips", 1.0)
    if share is None:
        return "what share of its chips it used is not known"
    if share >= 1:
        return None
    every = round(device["cores"] / share)
    return f"{device['cores']} of the {every} cores of {device['chips']} chip(s) were used: the whole was not measured"


def check_facts(record: Record) -> None:
    """RecordError where what money rests on, the chips used and the instances, is no such thing."""
    instance = record.machine.get("instance") or {}
    if not isinstance(instance, dict):
        raise RecordError("malformed record: machine.instance is no object")
    device = record.device
    for name, found in (("device.chips", device.get("chips")), ("device.cores", device.get("cores")),
                        ("machine.instance.count", instance.get("count"))):
        if found is not None and (type(found) is not int or found < 1):
            raise RecordError(f"malformed record: {name} is {found!r}, no number of at least 1")
    share = device.get("share_of_chips")
    if share is not None and (type(share) not in (int, float) or not 0 < share <= 1
                              or not (device.get("cores") and device.get("chips"))):
        raise RecordError(f"malformed record: device.share_of_chips is {share!r}, no share of chips with their cores")
    for name, text in (("device.chip", device.get("chip")), ("machine.instance.type", instance.get("type")),
                       ("machine.instance.region", instance.get("region")), ("work.item", record.work.get("item"))):
        if text is not None and not isinstance(text, str):
            raise RecordError(f"malformed record: {name} is {text!r}, no name")


_JSON_TYPES: dict[str, type] = {"str": str, "dict": dict, "tuple": list}


@functools.cache
def schema() -> dict[str, Any]:
    """Return the published JSON Schema of a record."""
    text = resources.files("bench").joinpath("record.schema.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
