"""Compacted files: many records in one Parquet file, each record's text kept byte for byte.

A row is a record: `json` is its text, `sha256` that text's digest, `path` the file it came from. The
other columns say again what the text says, for readers that choose by them (DuckDB, pandas, ...).
Rows are in the order the records were started; a group of rows is read at a time. `compact-<hash>.parquet`
is named by its rows' digests, written once and never edited. Needs pyarrow.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.record import Record, RecordError
from bench.store.places import Place

if TYPE_CHECKING:
    import pyarrow as pa

FORM_KEY, FORM = b"trnbench.compacted", b"1"
ROWS_PER_GROUP = 1_000

FILTERS = ("run_id", "case_id", "workload", "size", "task", "scenario", "backend", "dtype", "machine",
           "started_at", "ended_at", "status", "tier")
COLUMNS = (*FILTERS, "path", "sha256", "json")

Row = tuple[str | bytes | None, ...]


def row_of(record: Record, path: str, text: bytes) -> Row:
    """Return a record's row, by `COLUMNS`."""
    case = record.case
    filters = (record.run_id, record.case_id, case.workload, case.size, case.task, case.scenario, case.backend,
               case.dtype, record.machine.get("name"), record.started_at, record.ended_at, record.status,
               record.tier)
    return (*map(_text, filters), _text(path), digest(text), text)


def _text(value: object) -> str | None:
    """A text that Parquet takes: JSON may hold halves of characters, and files' names may too."""
    return None if value is None else str(value).encode(errors="replace").decode()


def digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def name_of(digests: Iterable[bytes]) -> str:
    """Return the name of the file that holds texts of these digests in this order."""
    return f"compact-{hashlib.sha256(b''.join(digests)).hexdigest()[:24]}.parquet"


def content_of(rows: Iterable[Row]) -> bytes:
    """Return the Parquet file of rows, which come in the order of their records."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [pa.field(name, pa.string()) for name in (*FILTERS, "path")]
    fields += [pa.field("sha256", pa.binary(32)), pa.field("json", pa.binary())]
    schema = pa.schema(fields, metadata={FORM_KEY: FORM})
    out = io.BytesIO()
    with pq.ParquetWriter(out, schema, compression="zstd", use_dictionary=list(FILTERS),
                          write_page_checksum=True) as writer:
        for group in _in_groups(rows):
            columns = [pa.array(values, field.type) for values, field in zip(zip(*group, strict=True), schema,
                                                                             strict=True)]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=ROWS_PER_GROUP)
    return out.getvalue()


def _in_groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if len(group) == ROWS_PER_GROUP:
            yield group
            group = []
    if group:
        yield group


class Part:
    """One compacted file, open for reading. Every failure is an OSError or a RecordError."""

    def __init__(self, place: Place, name: str) -> None:
        pq = parquet()
        self.path = place.shown(name)
        with _damage_named():
            self._file = pq.ParquetFile(place.open(name), page_checksum_verification=True)
            form = (self._file.schema_arrow.metadata or {}).get(FORM_KEY)
        if form is None:
            raise RecordError("a Parquet file, but none of compacted records")
        if form != FORM:
            raise RecordError(f"compacted form {form.decode(errors='replace')!r} is not read by this version, "
                              f"which reads {FORM.decode()!r}: a newer trnbench may read it")

    @property
    def groups(self) -> int:
        return int(self._file.num_row_groups)

    def rows_in(self, group: int) -> int:
        return int(self._file.metadata.row_group(group).num_rows)

    def group(self, index: int, columns: Sequence[str] = ("run_id", "sha256", "json")) -> Iterator[tuple[Any, ...]]:
        """Return one group's rows."""
        with _damage_named():
            table = self._file.read_row_group(index, columns=list(columns))
            return zip(*(table[name].to_pylist() for name in columns), strict=True)

    def proven(self) -> Iterator[bytes]:
        """Read all of it and yield the digests of the texts that are what they were."""
        at = COLUMNS.index("sha256")
        for index in range(self.groups):
            yield from (row[at] for row in self.group(index, COLUMNS) if digest(row[-1]) == row[at])

    def column(self, name: str) -> list[Any]:
        """Return one column of all rows."""
        with _damage_named():
            found: list[Any] = self._file.read(columns=[name])[name].to_pylist()
        return found

    def cases(self) -> pa.Table:
        """Return what `newest_rows` needs of all rows."""
        with _damage_named():
            return self._file.read(columns=["case_id", "machine", "tier", "started_at", "run_id"])

    def texts_of(self, run_id: str) -> Iterator[bytes]:
        """Yield the texts of the records of one run_id; only groups that may hold it are read."""
        column = self._file.schema_arrow.names.index("run_id")
        for index in range(self.groups):
            seen = self._file.metadata.row_group(index).column(column).statistics
            if seen is not None and seen.has_min_max and not seen.min <= run_id <= seen.max:
                continue
            if any(found == run_id for (found,) in self.group(index, ["run_id"])):
                yield from (text for found, _, text in self.group(index) if found == run_id)

    def close(self) -> None:
        self._file.close(force=True)


def newest_rows(tables: Sequence[pa.Table]) -> list[set[int]]:
    """Return, for each table of `Part.cases`, the rows that no later row of any of them outdates."""
    import pyarrow as pa

    newest: list[set[int]] = [set() for _ in tables]
    if not tables:
        return newest
    whole = pa.concat_tables(
        table.append_column("part", pa.array([number] * len(table), pa.int32()))
             .append_column("row", pa.array(range(len(table)), pa.int64())) for number, table in enumerate(tables))
    ordered = whole.sort_by([("started_at", "ascending"), ("run_id", "ascending")])
    last = ordered.group_by(["case_id", "machine", "tier"], use_threads=False).aggregate(
        [("part", "last"), ("row", "last")])
    for number, row in zip(last["part_last"].to_pylist(), last["row_last"].to_pylist(), strict=True):
        newest[number].add(row)
    return newest


def parquet() -> Any:
    """Return pyarrow.parquet; BenchError where it is not installed."""
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise BenchError("Compacted records are in Parquet, and pyarrow is not installed.",
                         fix="pip install 'trnbench[report]'.") from error
    return pq


@contextmanager
def _damage_named() -> Iterator[None]:
    """What pyarrow makes of a damaged file, as a RecordError that says so."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the place's own: not there, no permission
        raise RecordError(f"damaged Parquet file: {' '.join(str(error).split())}") from error
