"""Read all that places hold, JSON and compacted files, or go through it a few records at a time."""

from __future__ import annotations

import gc
import heapq
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from bench.record import Record, RecordError
from bench.store.compacted import Part, digest, newest_rows
from bench.store.loaded import Loaded, Problem, in_order, started, why
from bench.store.places import Place, is_compacted
from bench.store.reading import Reader

T = TypeVar("T")

UNREADABLE = (OSError, ValueError, RecursionError)
"""What a file raises that is no record, or none that can be read."""


def load(place: Place, names: Iterable[str], *, samples: bool = True, outdated: bool = True) -> Loaded:
    """Read the files of these names. One that gives no record is a problem, never fatal.

    `outdated=False` leaves out a record if a later one is there of the same case on the same machine
    and of the same tier; no more is held in memory than what is left, and of what is outdated no more
    is read than says so.
    """
    loading = _Loading(place, samples=samples, outdated=outdated)
    with _gc_held(), ExitStack() as opened:
        parts, json_names = loading.open(names, opened)
        loading.parts(parts, with_json=bool(json_names))
        for name in json_names if outdated else reversed(json_names):  # by age: the newest stands first then
            loading.json(name)
    return Loaded(in_order(loading.kept.values()), tuple(loading.problems))


def stream(places: Sequence[Place], problems: list[Problem]) -> Iterator[Record]:
    """Yield the records of all places without their samples, in the order they were started, each once.

    Of each compacted file a group of rows is in memory at a time; the records of JSON files all are.
    Problems are added to `problems` as they are met.
    """
    with ExitStack() as opened:
        ways: list[Iterable[tuple[Record, str]]] = []
        for place in places:
            loading = _Loading(place, samples=False, outdated=True)
            parts, json_names = loading.open(place.names(), opened)
            with _gc_held():
                if json_names:
                    loading.know(parts)
                for name in json_names:
                    loading.json(name)
            problems += loading.problems
            ways += [_rows_of(part, problems) for part in parts]
            ways.append([(record, place.shown("")) for record in in_order(loading.kept.values())])
        yield from _each_once(heapq.merge(*ways, key=lambda way: started(way[0])), problems)


def compacted_ids(place: Place, names: Iterable[str]) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """Return the compacted files' names by the run_ids in them, and those files that cannot be read."""
    loading = _Loading(place, samples=False, outdated=True)
    compacted = [name for name in names if is_compacted(place.shown(name))]
    found: dict[str, str] = {}
    for name in compacted:
        with ExitStack() as opened:
            parts, _ = loading.open([name], opened)
            for _, ids in loading.readable(parts, lambda part: part.column("run_id")):
                found |= dict.fromkeys(ids, name)
    return found, tuple(loading.problems)


def _rows_of(part: Part, problems: list[Problem]) -> Iterator[tuple[Record, str]]:
    reader = Reader(samples=False)
    for _, rows in _groups_of(part, problems):
        for run_id, _, text in rows:
            try:
                record = reader.read(text)
            except UNREADABLE as error:
                problems.append(Problem(f"{part.path} ({run_id})", why(error)))
                continue
            yield record, part.path


def _each_once(records: Iterable[tuple[Record, str]], problems: list[Problem]) -> Iterator[Record]:
    """Equal records are neighbours, as they were started at one time."""
    seen: set[str] = set()
    last: Record | None = None
    for record, path in records:
        if record.run_id not in seen:
            seen.add(record.run_id)
            last = record
            yield record
        elif record != last:
            problems.append(twice(path, record.run_id))


def twice(path: str, run_id: str) -> Problem:
    """Return what to say of a second record of one run_id that is not the first again."""
    return Problem(path, f"run_id {run_id} is there twice with other content: the first one read is kept")


def _groups_of(part: Part, problems: list[Problem], wanted: set[int] | None = None,
               ) -> Iterator[tuple[int, list[tuple[str, bytes, bytes]]]]:
    """Yield the number of each group's first row, and its rows; groups without a wanted row are passed over."""
    first = 0
    for index in range(part.groups):
        count = part.rows_in(index)
        if wanted is None or not wanted.isdisjoint(range(first, first + count)):
            try:
                rows = list(part.group(index))
            except UNREADABLE as error:
                problems.append(Problem(part.path, f"{why(error)} ({count} records)"))
            else:
                yield first, rows
        first += count


class _Loading:
    """What was read so far: compacted files first, so that a JSON file of a text they hold is none more."""

    def __init__(self, place: Place, *, samples: bool, outdated: bool) -> None:
        self._place, self._outdated = place, outdated
        self._reader = Reader(samples=samples)
        self._ids: set[str] = set()
        self._digests: set[bytes] = set()
        self.kept: dict[Hashable, Record] = {}
        self.problems: list[Problem] = []

    def open(self, names: Iterable[str], opened: ExitStack) -> tuple[list[Part], list[str]]:
        """Part names into compacted files, which are opened, and JSON files."""
        parts, json_names = [], []
        for name in names:
            if not is_compacted(self._place.shown(name)):
                json_names.append(name)
                continue
            try:
                parts.append(Part(self._place, name))
                opened.callback(parts[-1].close)
            except UNREADABLE as error:
                self.problems.append(Problem(self._place.shown(name), why(error)))
        return parts, json_names

    def parts(self, parts: list[Part], *, with_json: bool) -> None:
        if self._outdated:
            for part in parts:
                self._part(part)
            return
        sound = self.readable(parts, lambda part: part.cases())
        for (part, _), wanted in zip(sound, newest_rows([cases for _, cases in sound]), strict=True):
            self._part(part, wanted)
        if with_json:
            self.know(parts)

    def know(self, parts: list[Part]) -> None:
        """Take note of all that compacted files hold."""
        for _, (ids, digests) in self.readable(parts, lambda part: (part.column("run_id"), part.column("sha256"))):
            self._ids.update(ids)
            self._digests.update(digests)

    def readable(self, parts: list[Part], read: Callable[[Part], T]) -> list[tuple[Part, T]]:
        found = []
        for part in parts:
            try:
                found.append((part, read(part)))
            except UNREADABLE as error:
                self.problems.append(Problem(part.path, why(error)))
        return found

    def _part(self, part: Part, wanted: set[int] | None = None) -> None:
        for first, rows in _groups_of(part, self.problems, wanted):
            for row, (run_id, sha256, text) in enumerate(rows, first):
                if (wanted is None or row in wanted) and sha256 not in self._digests:
                    self._digests.add(sha256)
                    self._take(text, f"{part.path} ({run_id})")

    def json(self, name: str) -> None:
        try:
            text = self._place.read(name)
        except UNREADABLE as error:
            self.problems.append(Problem(self._place.shown(name), why(error)))
            return
        if not self._digests or digest(text) not in self._digests:
            self._take(text, self._place.shown(name))

    def _outdates(self, text: bytes) -> bool:
        """Whether a later record of the same kind was read already."""
        seen = None if self._outdated else self._reader.glance(text)
        before = self.kept.get(seen[0]) if seen else None
        return seen is not None and before is not None and started(before) > seen[1] and seen[1][1] not in self._ids

    def _take(self, text: bytes, path: str) -> None:
        if self._outdates(text):
            return
        try:
            record = self._reader.read(text)
            if record.run_id in self._ids:
                raise RecordError(f"run_id {record.run_id} was read from another file already")
        except UNREADABLE as error:
            self.problems.append(Problem(path, why(error)))
            return
        self._ids.add(record.run_id)
        key = record.run_id if self._outdated else _place_of(record)
        before = self.kept.get(key)
        if before is None or started(before) < started(record):
            self.kept[key] = record


def _place_of(record: Record) -> Hashable:
    name = record.machine.get("name")
    return record.case_id, None if name is None else str(name), record.tier


@contextmanager
def _gc_held() -> Iterator[None]:
    """Hold garbage collection off: parsing makes many objects and no garbage cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
