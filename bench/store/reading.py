"""A record's text -> a Record, whole or without its bulk.

Two readers give one answer. The fast one (msgspec) knows what a sound record looks like and gives up
on any other; the plain one (json and `Record.from_json`) then says what is wrong, or reads it after all.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec

from bench.case import Case
from bench.errors import BenchError
from bench.record import BEFORE_WORK, SCHEMA_VERSION, STATUSES, TIERS, Metric, Record, RecordError, check_facts

T = TypeVar("T")
Number = int | float

ALIKE_AT_MOST = 20_000
"""Parts of records that are held to be shared, of each kind: some tens of megabytes."""


class Reader:
    """Reads records' texts one after another.

    `samples=False` leaves out what no table of records needs and what is nearly all of their size:
    raw times (they are checked, then dropped), tuning trials, and of each child all but its role,
    status, reason, disturbance, compile cache and the seconds before its first item. Records read so share
    those parts that are alike (machine, case, ...), so nobody may change one in place.
    """

    def __init__(self, *, samples: bool = True) -> None:
        self._samples = samples
        self._case = _Once(_case)
        self._part = _Once(_any_dict.decode)
        self._machine_part = _Once(_anything.decode)
        self._texts: dict[Any, Any] = {}
        self._children: dict[tuple[Any, ...], dict[str, Any]] = {}

    def read(self, content: bytes) -> Record:
        """Return the record. RecordError (or another ValueError, or RecursionError) says why it is none."""
        try:
            return Record.from_json(_anything.decode(content)) if self._samples else self._light(content)
        except (msgspec.MsgspecError, BenchError, ValueError, TypeError, RecursionError):
            record = read_plainly(content)
        return record if self._samples else without_bulk(record)

    def glance(self, content: bytes) -> tuple[tuple[str, str | None, str], tuple[str, str]] | None:
        """Return a record's case, machine and tier, and when it was started, for a fifth of what reading it takes.

        None where it is not plain what it is: then reading it says so.
        """
        try:
            wire = _glance.decode(content)
            name = self._machine_part(wire.machine["name"]) if "name" in wire.machine else None
            key = self._case(wire.case).id, None if name is None else str(name), wire.tier
        except (msgspec.MsgspecError, BenchError, ValueError, TypeError, RecursionError):
            return None
        return key, (wire.started_at, wire.run_id)

    def _light(self, content: bytes) -> Record:
        if not content.isascii():
            content.decode()  # msgspec does not look into what it skips
        wire = _light_record.decode(content)
        if wire.samples.children and len(wire.samples.steps_per_round) != len(wire.samples.children):
            raise RecordError("samples have not one steps_per_round a child")
        values: dict[str, Any] = msgspec.structs.asdict(wire)
        for name in _SHARED:
            values[name] = self._part(values[name])
        values["machine"] = {key: self._machine_part(raw) for key, raw in wire.machine.items()}
        values["case"] = self._case(wire.case)
        values["metrics"] = tuple(map(self._metric, wire.metrics))
        values["children"] = tuple(map(self._child, wire.children))
        values |= {"samples": {}, "tuning": {}}
        record = Record(**values)
        check_facts(record)
        return record

    def _metric(self, wire: _Metric) -> Metric:
        if len(self._texts) > ALIKE_AT_MOST:
            self._texts.clear()
        once = self._texts.setdefault
        return Metric(name=once(wire.name, wire.name), value=wire.value, unit=once(wire.unit, wire.unit),
                      low=wire.low, high=wire.high, n=wire.n, method=once(wire.method, wire.method),
                      reason=once(wire.reason, wire.reason))

    def _child(self, wire: _Child) -> dict[str, Any]:
        """What `_light_child` gives; children that differ in their seconds alone share all else."""
        spent_s = [seconds or 0.0 for seconds in msgspec.structs.astuple(wire.phases_s)] if wire.phases_s else []
        key = (wire.role, wire.status, wire.reason, wire.disturbance, wire.compile, any(spent_s))
        alike = self._children.get(key)
        if alike is None:
            if len(self._children) >= ALIKE_AT_MOST:
                self._children.clear()
            alike = self._children[key] = _light_child(msgspec.to_builtins(wire))
        return alike | {"before_work_s": sum(spent_s)} if "before_work_s" in alike else alike


def without_bulk(record: Record) -> Record:
    """Return a record as `Reader(samples=False)` reads it."""
    return dataclasses.replace(record, samples={}, tuning={}, children=tuple(map(_light_child, record.children)))


def _light_child(child: dict[str, Any]) -> dict[str, Any]:
    seen = child.get("disturbance")
    seen = seen if isinstance(seen, dict) else {}
    why = seen.get("why")
    disturbance = {"disturbed": seen.get("disturbed"), "why": list(why) if isinstance(why, list | tuple) else []}
    light = {"role": child.get("role", "measure"), "status": child.get("status"), "reason": child.get("reason"),
             "disturbance": disturbance}
    phases, compiled = child.get("phases_s"), child.get("compile")
    spent_s = [phases.get(phase) or 0.0 for phase in BEFORE_WORK] if isinstance(phases, dict) else []
    if light["role"] == "measure" and any(spent_s) and {*map(type, spent_s)} <= {int, float}:
        light["before_work_s"] = sum(spent_s)
        light["compile"] = {"cache": compiled.get("cache") if isinstance(compiled, dict) else None}
    return light


def read_plainly(content: bytes) -> Record:
    if not content.strip():
        raise RecordError("empty file")
    return Record.from_json(json.loads(content, parse_constant=_refuse_constant))


def _refuse_constant(name: str) -> None:
    raise RecordError(f"{name} in a record, where unknown is null")


class _Once(Generic[T]):
    """Makes one value of equal texts, so that many records hold it together."""

    def __init__(self, make: Callable[[bytes], T]) -> None:
        self._make = make
        self._made: dict[bytes, T] = {}

    def __call__(self, raw: msgspec.Raw) -> T:
        text = bytes(raw)
        made = self._made.get(text)
        if made is None:
            if len(self._made) >= ALIKE_AT_MOST:
                self._made.clear()
            made = self._made[text] = self._make(text)
        return made


def _case(text: bytes) -> Case:
    return Case.from_json(_any_dict.decode(text))


class _Metric(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    value: Number | None
    unit: str
    low: Number | None = None
    high: Number | None = None
    n: int | None = None
    method: str | None = None
    reason: str | None = None


class _Disturbance(msgspec.Struct, frozen=True):
    disturbed: bool | None = None
    why: tuple[str, ...] | None = None


class _Compile(msgspec.Struct, frozen=True):
    cache: str | None = None


_Phases: Any = msgspec.defstruct("_Phases", [(phase, Number | None, None) for phase in BEFORE_WORK], frozen=True)


class _Child(msgspec.Struct, frozen=True):
    role: str = "measure"
    status: str | None = None
    reason: str | None = None
    disturbance: _Disturbance | None = None
    phases_s: _Phases | None = None
    compile: _Compile | None = None


class _Samples(msgspec.Struct):
    children: list[list[Number]] = []
    steps_per_round: list[int] = []
    series: dict[str, list[list[Number]]] = {}


_EMPTY = msgspec.Raw(b"{}")

_WIRE: dict[str, tuple[Any, ...]] = {
    "schema_version": (Literal[SCHEMA_VERSION],), "status": (Literal[STATUSES],), "tier": (Literal[TIERS], "measured"),
    "case": (msgspec.Raw,), "machine": (dict[str, msgspec.Raw], {}), "tuning": (dict[str, msgspec.Raw], {}),
    "metrics": (tuple[_Metric, ...],),
    "children": (tuple[_Child, ...], ()), "samples": (_Samples, msgspec.field(default_factory=_Samples)),
    "reasons": (tuple[str, ...], ()), "warnings": (tuple[str, ...], ()),
    "phases_s": (dict[str, Number | None], {}), "wall_s": (Number | None, None),
    "memory": (dict[str, Any], {}), "parity": (dict[str, Any], {}), "canary": (dict[str, Any], {}),
}
"""Fields that are read otherwise than `_field` says: their type and default. Those of `dict[str, Any]`
differ from record to record, so sharing would gain nothing."""


def _field(field: dataclasses.Field[Any]) -> tuple[Any, ...]:
    """A text, or an object of which many records have the same."""
    if field.type == "str":
        return (field.name, str)
    assert str(field.type).startswith("dict["), f"say in _WIRE how {field.name} is read"
    return (field.name, msgspec.Raw, _EMPTY)


_FIELDS = [(field.name, *_WIRE[field.name]) if field.name in _WIRE else _field(field)
           for field in dataclasses.fields(Record)]
_SHARED = [name for name, kind, *_ in _FIELDS if kind is msgspec.Raw and name != "case"]
_LightRecord: Any = msgspec.defstruct("_LightRecord", sorted(_FIELDS, key=len), kw_only=True)

_Glance: Any = msgspec.defstruct("_Glance", [
    ("run_id", str), ("started_at", str), ("case", msgspec.Raw),
    *((name, *_WIRE[name]) for name in ("schema_version", "status", "tier", "machine"))], kw_only=True)
_glance = msgspec.json.Decoder(_Glance)
_anything = msgspec.json.Decoder()
_any_dict = msgspec.json.Decoder(dict[str, Any])
_light_record = msgspec.json.Decoder(_LightRecord)
