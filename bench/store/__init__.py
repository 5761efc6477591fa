"""Where records live: a folder of JSON files, or an object-store URL. Written once, never edited."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bench.errors import BenchError, nearest
from bench.record import Record, RecordError
from bench.store.places import Place, place_for

__all__ = ["Loaded", "Problem", "Store", "open_results", "record_path"]

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was passed over, and why. It is left as it is."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Records in the order they were started, and the files that gave none."""

    records: tuple[Record, ...] = ()
    problems: tuple[Problem, ...] = ()


class Store:
    """Records under one location: a folder, or any fsspec URL (`s3://bucket/results`)."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._place = place_for(location)

    def save(self, record: Record) -> str:
        """Write a record whole or not at all; return its path.

        BenchError where the run_id is there already, or where it could not be written (no space,
        no permission): then no part of it is left.
        """
        name = record_path(record)
        try:
            return self._place.write_new(name, record.dumps().encode())
        except FileExistsError as error:
            raise BenchError(f"Record {record.run_id} is in {self.location} already.",
                             fix="records are never overwritten: store it in another place.") from error
        except OSError as error:
            raise BenchError(f"Record {record.run_id} ({record.case.label}) could not be stored in "
                             f"{self.location}: {error.strerror or error}.",
                             fix="free space or mend the permissions there, or pass --results with "
                                 "another place. No part of it was left behind.") from error

    def check_writable(self) -> None:
        """BenchError unless records can be stored here. Makes the folder; leaves nothing in it."""
        try:
            self._place.try_writing()
        except OSError as error:
            raise BenchError(f"Records cannot be stored in {self.location}: {error.strerror or error}.",
                             fix="pass --results with a folder (or URL) that you may write to.") from error

    def holds(self, record: Record) -> bool:
        """Whether this very record is stored here already."""
        name = record_path(record)
        return any(stored == record for stored in _load(self._place, [name], samples=True).records)

    def load_all(self, *, samples: bool = True) -> Loaded:
        """Read every record. A file that is none is named in `problems`, never fatal.

        `samples=False` drops the raw times as each record is read: a report of thousands of records
        needs none, and they are nearly all of the memory.
        """
        return _load(self._place, self._place.names(), samples)

    def find(self, prefix: str) -> Record:
        """Return the one record whose run_id begins with `prefix`; BenchError for none or several."""
        by_id = {_stem(name): name for name in self._place.names()}
        hits = [prefix] if prefix in by_id else sorted(i for i in by_id if i.startswith(prefix))
        if not hits:
            raise BenchError(f"No record {prefix!r} in {self.location}.{nearest(prefix, list(by_id))}",
                             fix="`trnbench report` lists run ids; --results names another place.")
        if len(hits) > 1:
            raise BenchError(f"{prefix!r} begins {len(hits)} run ids: {', '.join(hits[:5])}"
                             f"{', …' if len(hits) > 5 else ''}.", fix="give more of the run id.")
        loaded = _load(self._place, [by_id[hits[0]]], samples=True)
        for problem in loaded.problems:
            raise BenchError(f"{problem.path} cannot be read: {problem.reason}.",
                             fix="choose another record; the file was left as it is.")
        return loaded.records[0]


def open_results(paths: Sequence[str], *, samples: bool = True) -> Loaded:
    """Read and merge folders, URLs and single record files; the same record twice counts once.

    BenchError for a path that is not there at all.
    """
    parts = [_open_one(path, samples) for path in paths]
    problems = [problem for part in parts for problem in part.problems]
    merged: dict[str, Record] = {}
    for path, part in zip(paths, parts, strict=True):
        for record in part.records:
            if merged.setdefault(record.run_id, record) != record:
                problems.append(Problem(path, f"run_id {record.run_id} is there twice with other content: "
                                              "the first one read is kept"))
    return Loaded(_in_order(merged.values()), tuple(problems))


def record_path(record: Record) -> str:
    """Return `<machine>/<workload>/<run_id>.json`; BenchError for a run_id unfit for a file's name."""
    if not RUN_ID.fullmatch(record.run_id):
        raise BenchError(f"run_id {record.run_id!r} cannot name a file.",
                         fix="use up to 150 letters, digits, dots, dashes and underscores.")
    machine = str(record.machine.get("name") or "unknown-machine")
    return f"{_slug(machine)}/{_slug(record.case.workload)}/{record.run_id}.json"


def _slug(name: str) -> str:
    """A name as one harmless folder name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "unnamed"


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".json")


def _open_one(path: str, samples: bool) -> Loaded:
    place = place_for(path)
    if not place.exists():
        raise BenchError(f"No results at {path!r}.",
                         fix="measure some with `trnbench run`, or pass the folder that has them.")
    return _load(place, place.names(), samples)


def _load(place: Place, names: Iterable[str], samples: bool) -> Loaded:
    records: dict[str, Record] = {}
    problems = []
    with _gc_held():
        for name in names:
            try:
                record = _parse(place.read(name))
                if record.run_id in records:
                    raise RecordError(f"run_id {record.run_id} was read from another file already")
                records[record.run_id] = record if samples else replace(record, samples={})
            except (OSError, ValueError, RecursionError) as error:
                problems.append(Problem(place.shown(name), _why(error)))
    return Loaded(_in_order(records.values()), tuple(problems))


def _parse(content: bytes) -> Record:
    if not content.strip():
        raise RecordError("empty file")
    return Record.from_json(json.loads(content, parse_constant=_refuse_constant))


def _refuse_constant(name: str) -> None:
    raise RecordError(f"{name} in a record, where unknown is null")


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not whole JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, OSError):
        return f"unreadable: {error.strerror or error}"
    return " ".join(str(error).split())


def _in_order(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=lambda record: (record.started_at, record.run_id)))


@contextmanager
def _gc_held() -> Iterator[None]:
    """Hold garbage collection off: parsing makes many lists and no garbage cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
