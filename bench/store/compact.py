"""Gather a store's JSON records in compacted files; nothing is lost at whatever point this ends.

A compacted file appears whole or not at all, and is read back and compared before it counts. A JSON
file is removed only if its very bytes were read back from a compacted file. Until then both are there,
and readers count such a record once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from bench.errors import BenchError
from bench.record import RecordError
from bench.store.compacted import Part, Row, content_of, digest, name_of, parquet, row_of
from bench.store.load import UNREADABLE
from bench.store.loaded import Problem, started, why
from bench.store.places import RUN_ID, Place, is_compacted, place_for
from bench.store.reading import Reader

ROWS_PER_FILE = 100_000
BYTES_PER_FILE = 512 * 2**20
"""Most text in one compacted file, in bytes before compression."""

Named = tuple[str, bytes]
"""A JSON file's name and its text's digest."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What was done: `written` are compacted files' paths, `records` how many records they hold together,
    `already` how many JSON files held what a compacted file or another JSON file holds, `removed` how many
    JSON files went; `problems` are files that were left as they are."""

    written: tuple[str, ...]
    records: int
    already: int
    removed: int
    json_bytes: int
    parquet_bytes: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, order=True)
class _Entry:
    """A JSON file that holds a record; ordered by when that was started."""

    started: tuple[str, str]
    name: str
    digest: bytes = field(compare=False)
    size_bytes: int = field(compare=False)


def compact(location: str, *, into: str | None = None, remove_json: bool = False,
            tell: Callable[[str], None] = lambda _: None) -> Compaction:
    """Gather the records of a store's JSON files in compacted files, there or `into` another place.

    A file that is no record, or a second one of a run_id with other content, is left and named. `tell`
    is called with a line at each stage. BenchError where nothing is there, pyarrow is missing, or a
    compacted file can't be written and read back.
    """
    parquet()
    source = place_for(location)
    if not source.exists() or "" in source.names():
        raise BenchError(f"{location!r} is no folder of records.",
                         fix="pass the folder (or URL) that `trnbench run` stored them in.")
    job = _Job(source, place_for(into or location), tell)
    parts = dict(job.parts())
    entries, already = job.read_json(parts.values())
    written = [file for chunk in _in_files(sorted(entries)) for file in job.write(chunk)]
    removed = 0
    if remove_json:
        for name in parts:
            job.prove(name)
        removed = job.remove([*((entry.name, entry.digest) for entry in entries), *already])
    return Compaction(tuple(path for path, _ in written), job.rows, len(already), removed,
                      sum(entry.size_bytes for entry in entries), sum(size for _, size in written),
                      tuple(job.problems))


class _Job:
    """One compaction: where from, where to, and the digests of all texts that were read back."""

    def __init__(self, source: Place, target: Place, tell: Callable[[str], None]) -> None:
        self.source, self.target, self.tell = source, target, tell
        self.proven: set[bytes] = set()
        self.problems: list[Problem] = []
        self.rows = 0
        self._reader = Reader(samples=False)

    def parts(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Compacted files that are there: name, and digests by run_id. A damaged one holds nothing."""
        for name in self.target.names():
            if is_compacted(name):
                try:
                    part = Part(self.target, name)
                    yield name, dict(zip(part.column("run_id"), part.column("sha256"), strict=True))
                except UNREADABLE as error:
                    self._left(self.target.shown(name), error)

    def read_json(self, parts: Iterable[dict[str, bytes]]) -> tuple[list[_Entry], list[Named]]:
        """Return the JSON files to compact, and those whose text is in a part or in one of the others."""
        taken = {run_id: sha256 for part in parts for run_id, sha256 in part.items()}
        held = set(taken.values())
        entries: list[_Entry] = []
        already: list[Named] = []
        for name in self.source.names():
            if is_compacted(name):
                continue
            try:
                text = self.source.read(name)
                sha256 = digest(text)
                if sha256 in held:
                    already.append((name, sha256))
                else:
                    entries.append(self._entry(name, text, sha256, taken))
                    held.add(sha256)
            except UNREADABLE as error:
                self._left(self.source.shown(name), error)
            if (len(entries) + len(already)) % 10_000 == 9_999:
                self.tell(f"{len(entries) + len(already) + 1:,} JSON files read")
        return entries, already

    def _entry(self, name: str, text: bytes, sha256: bytes, taken: dict[str, bytes]) -> _Entry:
        record = self._reader.read(text)
        if not RUN_ID.fullmatch(record.run_id):
            raise RecordError(f"run_id {record.run_id!r} cannot name a file")
        if record.run_id in taken:
            raise RecordError(f"run_id {record.run_id} was read from another file already, with other content")
        taken[record.run_id] = sha256
        return _Entry(started(record), name, sha256, len(text))

    def write(self, entries: list[_Entry]) -> Iterator[tuple[str, int]]:
        """Write entries as one compacted file and read it back; yield its path and size in bytes."""
        digests: list[bytes] = []
        content = content_of(self._rows(entries, digests))
        if not digests:
            return
        name = name_of(digests)
        try:
            self.target.write_new(name, content)
            same = self.target.read(name) == content
        except FileExistsError:
            same = True  # of the same records: an earlier run was ended before it could remove their JSON
        except OSError as error:
            raise BenchError(f"{self.target.shown(name)} could not be written: {error.strerror or error}.",
                             fix="free space or mend the permissions there, or pass -o with another place. "
                                 "No JSON file of these records was removed.") from error
        self.prove(name)
        if not same or not self.proven.issuperset(digests):
            raise BenchError(f"{self.target.shown(name)} does not read back as it was written.",
                             fix="remove it, see to that disk, and compact again. No JSON file was removed.")
        self.rows += len(digests)
        self.tell(f"{self.rows:,} records written and read back")
        yield self.target.shown(name), len(content)

    def _rows(self, entries: list[_Entry], digests: list[bytes]) -> Iterator[Row]:
        for entry in entries:
            try:
                text = self.source.read(entry.name)
                if digest(text) != entry.digest:
                    raise RecordError("changed while it was compacted")
                row = row_of(self._reader.read(text), entry.name, text)
            except UNREADABLE as error:
                self._left(self.source.shown(entry.name), error)
                continue
            digests.append(entry.digest)
            yield row

    def prove(self, name: str) -> None:
        """Read a compacted file back: what comes back with the digest it should have is proven."""
        try:
            self.proven.update(Part(self.target, name).proven())
        except UNREADABLE as error:
            self._left(self.target.shown(name), error)

    def remove(self, files: Iterable[Named]) -> int:
        """Remove the JSON files whose bytes, as they are now, were read back from a compacted file."""
        removed = 0
        for name, sha256 in files:
            try:
                if sha256 in self.proven and digest(self.source.read(name)) == sha256:
                    self.source.remove(name)
                    removed += 1
            except OSError as error:
                self._left(self.source.shown(name), error)
        return removed

    def _left(self, path: str, error: Exception) -> None:
        self.problems.append(Problem(path, why(error)))


def _in_files(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """Entries as many at a time as go in one file."""
    some: list[_Entry] = []
    size_bytes = 0
    for entry in entries:
        if some and (len(some) == ROWS_PER_FILE or size_bytes + entry.size_bytes > BYTES_PER_FILE):
            yield some
            some, size_bytes = [], 0
        some.append(entry)
        size_bytes += entry.size_bytes
    if some:
        yield some
