"""Compaction: whatever happens on the way no record is lost, none counts twice, and all come back equal."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.catalog.prices import load_book
from bench.cost.terms import Terms
from bench.errors import BenchError
from bench.record import Record
from bench.report.frame import latest
from bench.report.money import Money
from bench.report.plain import csv_lines, to_csv
from bench.store import Store, compacted, open_results, places, record_path, stream_results
from bench.store import compact as compacting
from bench.store.compact import Compaction, compact
from tests.benchmarks.many_records import texts, write_compacted, write_json
from tests.commandline import one_document, trnbench
from tests.records import failed_record, make_record

RECORDS = [make_record(f"run-{i}", rounds=3, started_at=f"2026-01-0{9 - i}T00:00:00Z", labels={"nr": str(i)},
                       case={"dtype": ("bf16", "fp32")[i % 2]}) for i in range(4)] + [failed_record("run-failed")]
IN_ORDER = tuple(sorted(RECORDS, key=lambda record: (record.started_at, record.run_id)))


@pytest.fixture(params=["folder", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of five records, in a folder or an object store."""
    where = str(tmp_path / "results") if request.param == "folder" else f"memory://{uuid.uuid4().hex}/results"
    for record in RECORDS:
        Store(where).save(record)
    return where


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same store in a folder, for what needs files to be damaged."""
    for record in RECORDS:
        Store(str(tmp_path)).save(record)
    return tmp_path


def json_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.json"))}


def all_of(where: str) -> tuple[Record, ...]:
    """The records of a place; reading it must meet no problem, in whatever way it is read."""
    loaded = Store(where).load_all()
    assert loaded.problems == ()
    problems: list[Any] = []
    light = Store(where).load_all(samples=False)
    assert tuple(stream_results([where], problems)) == light.records
    assert (problems, light.problems) == ([], ())
    assert [r.run_id for r in light.records] == [r.run_id for r in loaded.records]
    return loaded.records


# -- nothing is lost


@pytest.mark.parametrize("remove_json", [False, True])
def test_records_come_back_equal_and_in_order_with_their_json_and_without(place: str, remove_json: bool) -> None:
    before = Store(place).load_all()
    done = compact(place, remove_json=remove_json)
    assert Store(place).load_all() == before
    assert all_of(place) == IN_ORDER
    assert (done.records, done.removed, done.already, done.problems) == (5, 5 * remove_json, 0, ())
    assert len(done.written) == 1
    assert done.written[0].startswith(f"{place}/compact-")


def test_each_text_is_kept_byte_for_byte_with_the_file_it_came_from(folder: Path) -> None:
    odd = folder / "copied" / "by hand.json"
    odd.parent.mkdir()
    odd.write_bytes(json.dumps(make_record("run-odd").to_json(), indent=1).encode("utf-16"))
    texts_before = json_files(folder)
    (path,) = compact(str(folder), remove_json=True).written
    assert json_files(folder) == {}
    rows = pq.read_table(path).to_pylist()
    assert {row["path"]: row["json"] for row in rows} == texts_before
    assert make_record("run-odd") in all_of(str(folder))


def test_columns_say_again_what_the_text_says(folder: Path) -> None:
    (path,) = compact(str(folder)).written
    for row, record in zip(pq.read_table(path).to_pylist(), IN_ORDER, strict=True):
        case = record.case
        assert row == {
            "run_id": record.run_id, "case_id": case.id, "workload": case.workload, "size": case.size,
            "task": case.task, "scenario": case.scenario, "backend": case.backend, "dtype": case.dtype,
            "machine": "emr-2c", "started_at": record.started_at, "ended_at": record.ended_at,
            "status": record.status, "tier": record.tier, "path": record_path(record),
            "sha256": row["sha256"], "json": record.dumps().encode()}


def test_what_is_no_record_is_named_and_left(folder: Path) -> None:
    bad, newer, same_id = (folder / f"{name}.json" for name in ("bad", "newer", "same-id"))
    bad.write_text("{")
    newer.write_text(json.dumps(make_record("run-x").to_json() | {"schema_version": "trnbench.record/2"}))
    same_id.write_text(make_record("run-0", step_ms=99).dumps())
    nameless = folder / "nameless.json"
    nameless.write_text(make_record("../run").dumps())
    before = Store(str(folder)).load_all()
    done = compact(str(folder), remove_json=True)
    reasons = {Path(problem.path).name: problem.reason for problem in done.problems}
    assert "not whole JSON" in reasons["bad.json"]
    assert "a newer trnbench may read it" in reasons["newer.json"]
    assert "cannot name a file" in reasons["nameless.json"]
    # Of two files of one run_id the first is the record: same-id.json, as a folder's own files come first.
    assert "with other content" in reasons["run-0.json"]
    assert set(json_files(folder)) == {"bad.json", "newer.json", "nameless.json", "emr-2c/bert/run-0.json"}
    after = Store(str(folder)).load_all()
    assert after.records == before.records
    assert len(after.problems) == len(before.problems) == 3


def test_compacting_into_another_place_leaves_the_store_and_copies_all_of_it(place: str, tmp_path: Path) -> None:
    archive = str(tmp_path / "archive")
    done = compact(place, into=archive)
    assert all_of(archive) == all_of(place) == IN_ORDER
    assert os.listdir(archive) == [Path(path).name for path in done.written]
    assert compact(place, into=archive, remove_json=True).removed == 5
    assert Store(place).load_all().records == ()
    assert all_of(archive) == IN_ORDER


def test_many_records_make_several_files_of_several_groups_each_in_order(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "ROWS_PER_FILE", 120)
    monkeypatch.setattr(compacted, "ROWS_PER_GROUP", 50)
    write_json(tmp_path, 250, cases=50)
    before = Store(str(tmp_path)).load_all()
    done = compact(str(tmp_path), remove_json=True)
    assert [pq.read_metadata(path).num_rows for path in done.written] == [120, 120, 10]
    assert [pq.read_metadata(path).num_row_groups for path in done.written] == [3, 3, 1]
    assert Store(str(tmp_path)).load_all() == before
    assert len(all_of(str(tmp_path))) == 250
    assert done.parquet_bytes < done.json_bytes / 4


def test_files_are_filled_up_to_a_size_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "BYTES_PER_FILE", 3 * len(next(texts(1))[1]))
    write_json(tmp_path, 10)
    assert {pq.read_metadata(path).num_rows for path in compact(str(tmp_path)).written} <= {1, 2, 3}
    assert len(all_of(str(tmp_path))) == 10


# -- again, interrupted, at once


def test_compacting_again_changes_nothing_and_new_records_go_to_a_file_of_their_own(place: str) -> None:
    first = compact(place)
    again = compact(place)
    assert (again.records, again.already, again.written) == (0, 5, ())
    Store(place).save(make_record("run-new", started_at="2026-02-01T00:00:00Z"))
    second = compact(place, remove_json=True)
    assert (second.records, second.already, second.removed) == (1, 5, 6)
    assert first.written != second.written
    assert [record.run_id for record in all_of(place)] == [r.run_id for r in IN_ORDER] + ["run-new"]


KILLED = """
import os, signal, sys
from bench.store import compact, places
from tests.benchmarks.many_records import write_json
left = int(sys.argv[2])
def dying(real):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
for name in ("fsync", "link", "unlink", "scandir"):
    setattr(os, name, dying(getattr(os, name)))
compact.ROWS_PER_FILE = 4
compact.compact(sys.argv[1], remove_json=True)
"""


def test_a_kill_at_any_point_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    killed, steps = True, 0
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    while killed:
        root = tmp_path / str(steps)
        write_json(root, 10, cases=5)
        before = Store(str(root)).load_all()
        done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(steps)], env=environment)
        killed = done.returncode == -signal.SIGKILL
        assert killed or done.returncode == 0
        assert Store(str(root)).load_all() == before
        compact(str(root), remove_json=True)
        assert Store(str(root)).load_all() == before
        assert json_files(root) == {}
        steps += 4  # every fourth call is enough: links, syncs and removals all have their turn
    assert steps > 20


def test_two_compactions_of_one_store_count_each_record_once(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one ran, over one more record, while ours was reading."""
    real = compacted.content_of

    def meanwhile(rows: Any) -> bytes:
        monkeypatch.setattr(compacting, "content_of", real)
        Store(str(folder)).save(make_record("run-new", started_at="2026-02-01T00:00:00Z"))
        compact(str(folder))
        return real(rows)

    monkeypatch.setattr(compacting, "content_of", meanwhile)
    compact(str(folder), remove_json=True)
    assert len(list(folder.glob("compact-*.parquet"))) == 2
    assert [r.run_id for r in all_of(str(folder))] == [r.run_id for r in IN_ORDER] + ["run-new"]


def test_a_record_that_changes_or_goes_while_it_is_compacted_is_left(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = compacted.content_of

    def meanwhile(rows: Any) -> bytes:
        (folder / record_path(RECORDS[0])).write_text(make_record("run-0", step_ms=99).dumps())
        (folder / record_path(RECORDS[1])).unlink()
        return real(rows)

    monkeypatch.setattr(compacting, "content_of", meanwhile)
    done = compact(str(folder), remove_json=True)
    assert {Path(p.path).name: p.reason for p in done.problems} == {
        "run-0.json": "changed while it was compacted", "run-1.json": "unreadable: No such file or directory"}
    assert list(json_files(folder)) == ["emr-2c/bert/run-0.json"]
    assert len(all_of(str(folder))) == 4


@pytest.mark.parametrize("where", [0.01, 0.3, 0.6, 0.95])
def test_no_json_is_removed_where_parquet_does_not_read_back_as_written(
        folder: Path, monkeypatch: pytest.MonkeyPatch, where: float) -> None:
    before, real = json_files(folder), places._write_synced

    def spoiled(path: str, content: bytes) -> None:
        bad = bytearray(content)
        bad[int(len(bad) * where)] ^= 0xFF
        real(path, bytes(bad))

    monkeypatch.setattr(places, "_write_synced", spoiled)
    with pytest.raises(BenchError, match="does not read back as it was written"):
        compact(str(folder), remove_json=True)
    assert json_files(folder) == before
    assert Store(str(folder)).load_all().records == IN_ORDER


def test_a_full_disk_is_told_and_leaves_all_json_and_no_half_file(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(folder.rglob("*"))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BenchError, match=r"compact-\w+.parquet could not be written: No space left") as caught:
        compact(str(folder), remove_json=True)
    assert "-o" in caught.value.fix
    assert sorted(folder.rglob("*")) == before


def test_json_that_cannot_be_removed_is_named_and_counts_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    real = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path: denied(path) if path.endswith(".json") else real(path))
    done = compact(str(folder), remove_json=True)
    assert done.removed == 0
    assert [problem.reason for problem in done.problems] == ["unreadable: Permission denied"] * 5
    assert all_of(str(folder)) == IN_ORDER


# -- reading beside JSON


def test_a_compacted_record_is_found_held_and_not_overwritten(place: str) -> None:
    store = Store(place)
    compact(place, remove_json=True)
    assert store.find("run-2") == RECORDS[2]
    assert all(map(store.holds, RECORDS))
    assert not store.holds(make_record("run-0", step_ms=99))
    assert not store.holds(make_record("run-9"))
    with pytest.raises(BenchError, match="already"):
        store.save(RECORDS[0])
    with pytest.raises(BenchError, match=r"begins 5 run ids: run-0, run-1, run-2, run-3, run-failed"):
        store.find("run-")
    with pytest.raises(BenchError, match=r"Did you mean 'run-3'"):
        store.find("rum-3")
    store.save(make_record("run-new"))
    assert store.find("run-new") == make_record("run-new")


def test_a_compacted_file_is_read_alone_and_merged_with_others(folder: Path, tmp_path_factory: Any) -> None:
    (path,) = compact(str(folder)).written
    other = tmp_path_factory.mktemp("other")
    Store(str(other)).save(make_record("run-0", step_ms=99, started_at=RECORDS[0].started_at))
    Store(str(other)).save(make_record("run-new", started_at="2027-01-01T00:00:00Z"))
    paths = [path, str(folder), str(other)]
    loaded = open_results(paths, samples=False)
    assert [record.run_id for record in loaded.records] == [r.run_id for r in IN_ORDER] + ["run-new"]
    assert [problem.reason for problem in loaded.problems] == [
        "run_id run-0 is there twice with other content: the first one read is kept"]
    problems: list[Any] = []
    assert tuple(stream_results(paths, problems)) == loaded.records
    assert tuple(problems) == loaded.problems


def test_json_with_the_run_id_of_a_compacted_record_but_other_content_is_told(folder: Path) -> None:
    compact(str(folder), remove_json=True)
    changed = folder / record_path(RECORDS[0])
    changed.write_text(make_record("run-0", step_ms=99).dumps())
    for outdated in (True, False):
        loaded = open_results([str(folder)], outdated=outdated)
        assert [(p.path, p.reason) for p in loaded.problems] == [
            (str(changed), "run_id run-0 was read from another file already")]
        assert all(record in IN_ORDER for record in loaded.records)


def test_leaving_out_outdated_records_leaves_those_that_a_report_shows(tmp_path: Path) -> None:
    store = str(tmp_path)
    write_json(tmp_path, 60, cases=7)
    compact(store, remove_json=True)
    write_json(tmp_path, 80, cases=7)  # the first 60 again, and 20 later ones
    Store(store).save(make_record("run-x", machine={"name": None}, tier="vendor"))
    (tmp_path / "bad.json").write_text("{")
    every, newest = (open_results([store], samples=False, outdated=outdated) for outdated in (True, False))
    assert len(every.records) == 81
    assert len(newest.records) == 8
    assert list(newest.records) == latest(every.records)
    assert newest.problems == every.problems
    assert open_results([store, store], samples=False, outdated=False).records == newest.records


# -- damage


def damage_footer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damage_texts(path: Path, group: int = 0) -> None:
    """Turn one byte over in the middle of the texts of a group of rows."""
    metadata = pq.read_metadata(path).row_group(group)
    texts = metadata.column(metadata.num_columns - 1)
    content = bytearray(path.read_bytes())
    content[texts.data_page_offset + texts.total_compressed_size // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_kind(path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), path)


def of_a_newer_form(path: Path) -> None:
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata({"trnbench.compacted": "2"}), path)


@pytest.mark.parametrize(("damage", "reason"), [
    (damage_footer, "damaged Parquet file"), (damage_texts, "damaged Parquet file"),
    (empty, "damaged Parquet file"), (of_another_kind, "none of compacted records"),
    (of_a_newer_form, "a newer trnbench may read it")])
def test_a_damaged_compacted_file_is_named_once_and_harms_no_other(
        folder: Path, damage: Callable[[Path], None], reason: str) -> None:
    (path,) = compact(str(folder), remove_json=True).written
    damage(Path(path))
    new = make_record("run-new")
    store = Store(str(folder))
    store.save(new)
    for outdated in (True, False):
        loaded = open_results([str(folder)], outdated=outdated)
        assert loaded.records == (new,)
        assert [problem.path for problem in loaded.problems] == [path]
        assert reason in loaded.problems[0].reason
        assert "\n" not in loaded.problems[0].reason
    problems: list[Any] = []
    assert [record.run_id for record in stream_results([str(folder)], problems)] == ["run-new"]
    assert [problem.path for problem in problems] == [path]
    assert store.find("run-new") == new
    assert not store.holds(RECORDS[0])


def test_looking_for_a_record_of_a_damaged_compacted_file_says_so(folder: Path) -> None:
    (path,) = compact(str(folder), remove_json=True).written
    damage_footer(Path(path))
    with pytest.raises(BenchError, match=r"No record 'run-0' .*compact-\w+.parquet cannot be read: damaged"):
        Store(str(folder)).find("run-0")


def test_a_damaged_group_of_rows_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacted, "ROWS_PER_GROUP", 50)
    write_compacted(tmp_path, 100)
    (path,) = tmp_path.glob("*.parquet")
    damage_texts(path, group=1)
    loaded = Store(str(tmp_path)).load_all(samples=False)
    assert len(loaded.records) == 50
    (problem,) = loaded.problems
    assert problem.reason.endswith("(50 records)")


def test_a_damaged_compacted_file_is_compacted_again_from_json_that_was_kept(folder: Path) -> None:
    (path,) = compact(str(folder)).written
    damage_footer(Path(path))
    Store(str(folder)).save(make_record("run-new"))
    done = compact(str(folder), remove_json=True)
    assert [problem.path for problem in done.problems] == [path]
    assert (done.records, done.removed) == (6, 6)
    os.unlink(path)
    assert len(all_of(str(folder))) == 6


def test_without_pyarrow_json_is_read_and_saved_and_compacted_files_say_what_to_install(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert Store(str(folder)).load_all().records == IN_ORDER
    with pytest.raises(BenchError, match="pyarrow is not installed") as caught:
        compact(str(folder))
    assert "trnbench[report]" in caught.value.fix
    (folder / "compact-00.parquet").write_bytes(b"")
    Store(str(folder)).save(make_record("run-new"))
    with pytest.raises(BenchError, match="pyarrow is not installed"):
        Store(str(folder)).load_all()


# -- the command


def test_the_command_says_what_it_did_and_what_it_left(folder: Path) -> None:
    (folder / "bad.json").write_text("{")
    done = trnbench("results", "compact", folder, "--remove-json")
    assert done.exit_code == 0
    assert "5 records compacted" in done.stdout
    assert "5 JSON files removed" in done.stdout
    assert f"Left as it is {folder}/bad.json: not whole JSON" in done.stderr
    assert len(open_results([str(folder)]).records) == 5


def test_the_command_keeps_json_unless_told_and_prints_one_document(folder: Path) -> None:
    done = trnbench("results", "compact", "--json", TRNBENCH_RESULTS=str(folder))
    document = one_document(done.stdout)
    assert (document["records"], document["removed"], len(document["written"])) == (5, 0, 1)
    assert len(json_files(folder)) == 5


def test_reports_of_a_compacted_store_are_those_of_its_json(folder: Path) -> None:
    before = [trnbench("report", folder, "--all", "--format", kind).stdout for kind in ("csv", "json", "terminal")]
    compact(str(folder), remove_json=True)
    assert [trnbench("report", folder, "--all", "--format", kind).stdout
            for kind in ("csv", "json", "terminal")] == before
    assert "run-0" in trnbench("show", "run-0", "--results", folder).stdout


def test_csv_of_all_records_is_written_as_they_are_read(tmp_path: Path) -> None:
    write_compacted(tmp_path, 30, cases=3)
    Store(str(tmp_path)).save(make_record("run-new"))
    (tmp_path / "bad.json").write_text("{")
    done = trnbench("report", tmp_path, "--all", "--format", "csv")
    money = Money(Terms(), load_book())
    assert done.stdout == to_csv(Store(str(tmp_path)).load_all(samples=False).records, money)
    assert done.stdout.count("\n") == 32
    assert "Passed over" in done.stderr


def test_a_line_of_csv_takes_one_record_and_leaves_none_behind() -> None:
    taken = []

    def records() -> Iterator[Record]:
        for record in RECORDS:
            taken.append(record.run_id)
            yield record

    lines = csv_lines(records(), Money(Terms(), load_book()))
    assert next(lines).startswith("run_id,")
    assert taken == []
    assert next(lines).startswith("run-0,")
    assert taken == ["run-0"]


@pytest.mark.parametrize(("words", "message"), [
    (("compact", "none"), "no folder of records"), (("compct",), "Did you mean 'compact'"),
    (("compact", "a", "b"), "unexpected extra argument")])
def test_wrong_usage_is_told(words: tuple[str, ...], message: str, tmp_path: Path,
                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = trnbench("results", *words)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_single_record_file_is_no_store_to_compact(folder: Path) -> None:
    with pytest.raises(BenchError, match="no folder of records"):
        compact(str(folder / record_path(RECORDS[0])))


def test_what_was_done_counts_bytes(folder: Path) -> None:
    done = compact(str(folder))
    assert isinstance(done, Compaction)
    assert done.json_bytes == sum(map(len, json_files(folder).values()))
    assert done.parquet_bytes == Path(done.written[0]).stat().st_size
