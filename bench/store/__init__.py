"""Where records live: a folder of JSON files, or an object-store URL. Written once, never edited.

`compact` gathers many JSON files in a few Parquet files; whoever reads a store sees no difference.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator, Sequence

from bench.errors import BenchError, nearest
from bench.record import Record, RecordError
from bench.store.compacted import Part
from bench.store.load import UNREADABLE, compacted_ids, load, stream, twice
from bench.store.loaded import Loaded, Problem, in_order, why
from bench.store.places import RUN_ID, Place, is_compacted, place_for
from bench.store.reading import Reader

__all__ = ["Loaded", "Problem", "Store", "open_results", "record_path", "stream_results"]


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
            if self._compacted_texts(record.run_id):
                raise FileExistsError(name)
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
        stored = load(self._place, [record_path(record)]).records
        texts = self._compacted_texts(record.run_id)
        return record in stored or any(Reader().read(text) == record for text in texts)

    def load_all(self, *, samples: bool = True) -> Loaded:
        """Read every record. A file that is none is named in `problems`, never fatal.

        `samples=False` drops the raw times as each record is read, and the rest that no table of
        records needs (see `bench.store.reading.Reader`): they are nearly all of the memory.
        """
        return load(self._place, self._place.names(), samples=samples)

    def find(self, prefix: str) -> Record:
        """Return the one record whose run_id begins with `prefix`; BenchError for none or several."""
        by_id, problems = self._ids()
        hits = [prefix] if prefix in by_id else sorted(i for i in by_id if i.startswith(prefix))
        if not hits:
            unread = "".join(f" {p.path} cannot be read: {p.reason}." for p in problems)
            raise BenchError(f"No record {prefix!r} in {self.location}.{nearest(prefix, list(by_id))}{unread}",
                             fix="`trnbench report` lists run ids; --results names another place.")
        if len(hits) > 1:
            raise BenchError(f"{prefix!r} begins {len(hits)} run ids: {', '.join(hits[:5])}"
                             f"{', …' if len(hits) > 5 else ''}.", fix="give more of the run id.")
        return self._read(by_id[hits[0]], hits[0])

    def _ids(self) -> tuple[dict[str, str], tuple[Problem, ...]]:
        """Files' names by the run_ids in them, and the compacted files that cannot be read."""
        names = list(self._place.names())
        compacted, problems = compacted_ids(self._place, names)
        in_json = {_stem(name): name for name in names if not is_compacted(self._place.shown(name))}
        return in_json | compacted, problems

    def _read(self, name: str, run_id: str) -> Record:
        path = self._place.shown(name)
        try:
            in_json = not is_compacted(path)
            for text in [self._place.read(name)] if in_json else Part(self._place, name).texts_of(run_id):
                return Reader().read(text)
            raise RecordError(f"run_id {run_id} is in its index alone")
        except UNREADABLE as error:
            raise BenchError(f"{path} cannot be read: {why(error)}.",
                             fix="choose another record; the file was left as it is.") from error

    def _compacted_texts(self, run_id: str) -> list[bytes]:
        """Texts that compacted files of this place hold of a run_id; none where nothing can look into them."""
        if importlib.util.find_spec("pyarrow") is None:
            return []
        texts: list[bytes] = []
        for name in self._place.top_names():
            if is_compacted(self._place.shown(name)):
                with contextlib.suppress(*UNREADABLE):  # a damaged one is told when it is read; saving goes on
                    texts += Part(self._place, name).texts_of(run_id)
        return texts


def open_results(paths: Sequence[str], *, samples: bool = True, outdated: bool = True) -> Loaded:
    """Read and merge folders, URLs and single files; the same record twice counts once.

    `samples` as in `Store.load_all`. `outdated=False` may leave out a record if a later one of the same
    case on the same machine, of the same tier, is there: for readers that show the newest alone, who then
    choose among what is left. BenchError for a path that is not there at all.
    """
    parts = [load(place, place.names(), samples=samples, outdated=outdated) for place in _places(paths)]
    problems = [problem for part in parts for problem in part.problems]
    merged: dict[str, Record] = {}
    for path, part in zip(paths, parts, strict=True):
        for record in part.records:
            if merged.setdefault(record.run_id, record) != record:
                problems.append(twice(path, record.run_id))
    return Loaded(in_order(merged.values()), tuple(problems))


def stream_results(paths: Sequence[str], problems: list[Problem]) -> Iterator[Record]:
    """Yield what `open_results(paths, samples=False)` holds, in its order, without holding it.

    For more records than memory has room for: of compacted files a few thousand records are held at a
    time (JSON files' records all are). Problems are added to the list as they are met.
    """
    yield from stream(_places(paths), problems)


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


def _places(paths: Sequence[str]) -> list[Place]:
    places = [place_for(path) for path in paths]
    for path, place in zip(paths, places, strict=True):
        if not place.exists():
            raise BenchError(f"No results at {path!r}.",
                             fix="measure some with `trnbench run`, or pass the folder that has them.")
    return places
