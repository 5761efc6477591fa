"""The store: records go in whole or not at all, and whatever is found beside them harms none."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cost.normalise import amounts
from bench.cost.rate import Rate
from bench.errors import BenchError
from bench.record import PHASES, STATUSES, TIERS, Record, schema
from bench.report import frame
from bench.store import Store, open_results
from bench.store.reading import Reader, read_plainly, without_bulk
from tests.records import failed_record, make_record


def saved(store: Store, *ids: str) -> list[str]:
    return [store.save(make_record(run_id, rounds=3)) for run_id in ids]


# -- the published schema


@pytest.mark.parametrize("record", [make_record(), failed_record(), make_record(tier="emulated")])
def test_records_fit_the_published_schema(record: Record) -> None:
    jsonschema.Draft202012Validator(schema()).validate(json.loads(record.dumps()))


@pytest.mark.parametrize(("change", "where"), [
    ({"status": "fine"}, "status"),
    ({"surprise": 1}, ""),
    ({"started_at": "2026-01-01 10:00"}, "started_at"),
    ({"phases_s": {"load": "1 s"}}, "phases_s"),
    ({"metrics": [{"name": "mfu", "value": None, "unit": "1", "reason": None}]}, "metrics"),
    ({"samples": {"children": [[1]]}}, "samples"),
])
def test_the_schema_refuses_what_is_no_record(change: dict[str, Any], where: str) -> None:
    data = json.loads(make_record().dumps()) | change
    errors = list(jsonschema.Draft202012Validator(schema()).iter_errors(data))
    assert errors
    assert all(not where or error.path[0] == where for error in errors)


def test_the_schema_names_the_same_statuses_tiers_phases_and_fields_as_the_code() -> None:
    published = schema()
    assert tuple(published["properties"]["status"]["enum"]) == STATUSES
    assert tuple(published["properties"]["tier"]["enum"]) == TIERS
    assert tuple(published["$defs"]["phases"]["properties"]) == PHASES
    assert set(published["properties"]) == set(make_record().to_json())
    assert set(published["$defs"]["case"]["properties"]) == set(make_record().case.to_json())


# -- writing


def test_a_saved_record_is_read_back_equal_from_machine_and_workload_folders(tmp_path: Path) -> None:
    record = make_record("run-1", labels={"branch": "main"})
    path = Store(str(tmp_path)).save(record)
    assert path == str(tmp_path / "emr-2c" / "bert" / "run-1.json")
    assert Store(str(tmp_path)).load_all().records == (record,)


def test_names_that_are_no_folder_names_are_made_harmless(tmp_path: Path) -> None:
    record = make_record("run-1", machine={"name": "../../evil box"}, case={"workload": "pytest:a/b::c"})
    path = Store(str(tmp_path)).save(record)
    assert Path(path) == tmp_path / "evil-box" / "pytest-a-b-c" / "run-1.json"


def test_a_run_id_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot name a file"):
        Store(str(tmp_path)).save(make_record("../run-1"))


def test_a_record_is_never_overwritten(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (path,) = saved(store, "run-1")
    before = Path(path).read_bytes()
    with pytest.raises(BenchError, match=r"run-1 is in .* already"):
        store.save(make_record("run-1", step_ms=99))
    assert Path(path).read_bytes() == before
    assert os.listdir(Path(path).parent) == ["run-1.json"]


def test_a_file_system_without_hard_links_is_written_to_by_rename(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    store = Store(str(tmp_path))
    saved(store, "run-1")
    with pytest.raises(BenchError, match="already"):
        saved(store, "run-1")
    assert [record.run_id for record in store.load_all().records] == ["run-1"]


WRITER = """
import sys
from bench.cost.normalise import amounts
from bench.cost.rate import Rate
from bench.errors import BenchError
from bench.store import Store
from tests.records import make_record
store, name = Store(sys.argv[1]), sys.argv[2]
sys.stdin.readline()
for i in range(60):
    store.save(make_record(f"{name}-{i}", rounds=3))
    try:
        store.save(make_record(f"both-{i}", rounds=3, labels={"writer": name}))
        print("won")
    except BenchError:
        print("lost")
"""


def test_processes_writing_at_once_lose_nothing_and_share_no_name(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
               for name in ("a", "b", "c")]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    outcomes = [writer.communicate()[0].split() for writer in writers]
    loaded = Store(str(tmp_path)).load_all()
    assert not loaded.problems
    assert {r.run_id for r in loaded.records} == {
        f"{name}-{i}" for name in ("a", "b", "c", "both") for i in range(60)}
    assert [sum(outcome[i] == "won" for outcome in outcomes) for i in range(60)] == [1] * 60


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


def test_a_full_disk_is_told_with_the_records_name_and_leaves_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BenchError, match=r"run-1 \(bert:base .*No space left on device") as caught:
        saved(Store(str(tmp_path)), "run-1")
    assert "free space" in caught.value.fix
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


CUT_SHORT = """
import resource, signal, sys
from bench.cost.normalise import amounts
from bench.cost.rate import Rate
from bench.errors import BenchError
from bench.store import Store
from tests.records import make_record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    Store(sys.argv[1]).save(make_record("run-1"))
except BenchError as error:
    print(error)
"""


def test_a_write_that_the_system_cuts_short_leaves_no_half_file(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CUT_SHORT, str(tmp_path)], text=True, check=True,
                          stdout=subprocess.PIPE, env=environment())
    assert "run-1" in done.stdout
    assert "File too large" in done.stdout
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_writability_is_told_before_a_run_and_leaves_nothing(tmp_path: Path) -> None:
    Store(str(tmp_path / "new" / "results")).check_writable()
    assert os.listdir(tmp_path / "new" / "results") == []
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/below"):
        with pytest.raises(BenchError, match="cannot be stored") as caught:
            Store(str(tmp_path / place)).check_writable()
        assert "--results" in caught.value.fix
    with pytest.raises(BenchError, match=r"run-1 .*could not be stored .*: Not a directory"):
        saved(Store(str(tmp_path / "file")), "run-1")


def test_a_folder_without_write_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")  # by hand: root is denied nothing

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(BenchError, match="Permission denied"):
        Store(str(tmp_path)).check_writable()
    with pytest.raises(BenchError, match=r"run-1 .*Permission denied"):
        saved(Store(str(tmp_path)), "run-1")


# -- reading what is damaged


RECORD = json.loads(make_record("run-2", rounds=2).dumps())


@pytest.mark.parametrize(("text", "reason"), [
    (make_record("run-2").dumps()[:500], "not whole JSON"),
    ("", "empty file"),
    ("\n", "empty file"),
    ("[1, 2]", "no schema_version"),
    ('{"benchmarks": []}', "no schema_version"),
    (json.dumps(RECORD | {"schema_version": "trnbench.record/2"}), "a newer trnbench may read it"),
    (json.dumps(RECORD | {"case": {"workload": "bert"}}), "malformed record"),
    (json.dumps(RECORD | {"case": RECORD["case"] | {"dtype": "int3"}}), "Unknown dtype 'int3'"),
    (json.dumps(RECORD | {"status": "fine"}), "status 'fine'"),
    (json.dumps(RECORD | {"machine": "mine"}), "machine is str, not dict"),
    (json.dumps(RECORD | {"children": [1]}), "children are not all dict"),
    (json.dumps(RECORD | {"metrics": [{"name": "mfu", "value": "high", "unit": "1"}]}), "not all numbers"),
    (json.dumps(RECORD | {"samples": {"children": [["1"]], "steps_per_round": [1]}}), "not all numbers"),
    (json.dumps(RECORD | {"samples": {"children": [[1]], "steps_per_round": []}}), "one steps_per_round"),
    (json.dumps(RECORD | {"wall_s": float("nan")}), "NaN in a record"),
    (json.dumps(RECORD | {"wall_s": 1}).replace('"wall_s": 1', '"wall_s": 1e999'), "not all numbers"),
    (b'{"run_id": "\xe9"}', "codec can't decode"),
    (b"\x00" * 4096, "not whole JSON"),
    ("[" * 100_000, "recursion"),
])
def test_a_damaged_file_is_named_and_skipped_and_left(tmp_path: Path, text: str | bytes, reason: str) -> None:
    store = Store(str(tmp_path))
    saved(store, "run-1")
    bad = tmp_path / "emr-2c" / "bad.json"
    bad.write_bytes(text if isinstance(text, bytes) else text.encode())
    loaded = store.load_all()
    assert [record.run_id for record in loaded.records] == ["run-1"]
    assert [problem.path for problem in loaded.problems] == [str(bad)]
    assert reason in loaded.problems[0].reason
    assert "\n" not in loaded.problems[0].reason
    assert bad.exists()


def test_what_cannot_be_opened_is_named_and_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    saved(store, "run-1")
    os.mkfifo(tmp_path / "pipe.json")
    os.symlink(tmp_path / "gone", tmp_path / "link.json")
    (tmp_path / "closed").mkdir()
    scandir, listdir = os.scandir, os.listdir

    def denied(real: Any) -> Any:
        def call(path: Any) -> Any:
            if str(path).endswith("closed"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))  # root is denied nothing
            return real(path)
        return call

    monkeypatch.setattr(os, "scandir", denied(scandir))
    monkeypatch.setattr(os, "listdir", denied(listdir))
    loaded = store.load_all()
    assert len(loaded.records) == 1
    assert {Path(p.path).name: p.reason for p in loaded.problems} == {
        "closed": "unreadable: Permission denied", "pipe.json": "unreadable: not a regular file",
        "link.json": "unreadable: No such file or directory"}


def test_temporary_hidden_and_other_files_are_no_records(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    saved(store, "run-1")
    folder = tmp_path / "emr-2c" / "bert"
    (folder / ".writing-00.tmp").write_text("{")
    (folder / ".hidden.json").write_text("{")
    (tmp_path / "README.md").write_text("where this was measured")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.json").write_text("{")
    loaded = store.load_all()
    assert len(loaded.records) == 1
    assert loaded.problems == ()


def test_the_same_run_id_in_two_files_counts_once_and_is_told(tmp_path: Path) -> None:
    (path,) = saved(Store(str(tmp_path)), "run-1")
    Path(path).with_name("copy.json").write_bytes(Path(path).read_bytes())
    loaded = Store(str(tmp_path)).load_all()
    assert len(loaded.records) == 1
    assert "read from another file already" in loaded.problems[0].reason


def test_a_missing_or_empty_folder_holds_no_records(tmp_path: Path) -> None:
    assert Store(str(tmp_path / "none")).load_all() == Store(str(tmp_path)).load_all()
    assert Store(str(tmp_path)).load_all().records == ()


def test_records_come_in_the_order_they_were_started(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for run_id, day in (("a", 3), ("b", 1), ("c", 2)):
        store.save(make_record(run_id, started_at=f"2026-01-0{day}T00:00:00Z"))
    assert [record.run_id for record in store.load_all().records] == ["b", "c", "a"]


def test_samples_can_be_left_out_of_what_is_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    saved(store, "run-1")
    (record,) = store.load_all(samples=False).records
    assert record.samples == {}
    assert record.metric("samples_per_second") == make_record(rounds=3).metric("samples_per_second")


# -- the fast reader and the plain one


ODD: dict[str, Any] = {"children": ({"role": "measure", "status": "valid", "disturbance": {"disturbed": 1}},)}
WIDE = [make_record("run-1", rounds=3), failed_record(), make_record(case={"scenario": "generation"}, rounds=2),
        make_record(tier="published", machine={"name": None}, samples={}, labels={"\u03c0": "\ud800"},
                    source={"id": "x-1", "url": "https://example.org"}),
        dataclasses.replace(make_record(), **ODD), dataclasses.replace(make_record(), children=()),
        make_record(wall_s=3, samples={"children": [[2**70, 0.1]], "steps_per_round": [1]})]


def answer(read: Any, text: bytes) -> Record | str:
    try:
        found = read(text)
        assert isinstance(found, Record)
    except (ValueError, RecursionError):
        return "refused"
    return found


@pytest.mark.parametrize("record", WIDE)
def test_a_record_is_read_whole_and_without_its_bulk(record: Record) -> None:
    text = record.dumps().encode()
    assert Reader().read(text) == record
    assert Reader().read(text).dumps().encode() == text  # 3 stays 3, not 3.0
    assert Reader(samples=False).read(text) == without_bulk(record)


def test_without_bulk_says_what_each_child_was_and_whether_it_was_disturbed() -> None:
    light = without_bulk(make_record(rounds=2, children=1))
    calm = {"disturbed": False, "why": []}
    assert light.children == (
        {"role": "scout", "status": "valid", "reason": None, "disturbance": {"disturbed": None, "why": []}},
        {"role": "measure", "status": "valid", "reason": None, "disturbance": calm,
         "before_work_s": 2.0, "compile": {"cache": light.children[1]["compile"]["cache"]}})  # 4 phases of 0.5 s
    assert (light.samples, light.tuning) == ({}, {})
    assert frame.row(light) == frame.row(make_record(rounds=2, children=1))


def test_without_bulk_a_record_costs_what_it_costs_with_it(tmp_path: Path) -> None:
    full = make_record(rounds=2, machine={"name": "m", "instance": {"type": "inf2.xlarge"}})
    Store(str(tmp_path)).save(full)
    (light,) = Store(str(tmp_path)).load_all(samples=False).records
    hour = Rate(basis="user", usd_per_hour=1.0, whole_usd_per_hour=1.0, instance_type="inf2.xlarge", instances=1)
    assert amounts(light, hour) == amounts(full, hour)
    assert amounts(light, hour)["usd_per_1m_inferences_all_in_1h"].value is not None


def test_of_what_is_outdated_no_more_is_read_than_says_so(tmp_path: Path) -> None:
    for day in (1, 2):
        Store(str(tmp_path)).save(make_record(f"r-{day}", started_at=f"2026-01-0{day}T00:00:00Z"))
    newest = open_results([str(tmp_path)], samples=False, outdated=False)
    assert [record.run_id for record in newest.records] == ["r-2"]
    (path,) = tmp_path.rglob("r-2.json")  # where the newest is none, the one before it stands for the case
    path.write_text(path.read_text().replace('"metrics":[', '"metrics":[7,'))
    mended = open_results([str(tmp_path)], samples=False, outdated=False)
    assert [record.run_id for record in mended.records] == ["r-1"]
    assert len(mended.problems) == 1


@pytest.mark.parametrize(("changes", "said"), [
    ({"device": {"chips": 0}}, "device.chips is 0"), ({"device": {"chips": "1"}}, "device.chips is '1'"),
    ({"machine": {"instance": {"count": 1.5}}}, "machine.instance.count is 1.5"),
    ({"machine": {"instance": "inf2"}}, "machine.instance is no object"),
    ({"device": {"chip": 7}}, "device.chip is 7")])
@pytest.mark.parametrize("samples", [True, False])
def test_a_record_whose_chips_or_instances_are_no_numbers_is_passed_over(
        tmp_path: Path, samples: bool, changes: dict[str, Any], said: str) -> None:
    Store(str(tmp_path)).save(make_record(**changes))
    loaded = Store(str(tmp_path)).load_all(samples=samples)
    assert loaded.records == ()
    assert said in loaded.problems[0].reason


def test_parts_that_are_alike_are_held_once() -> None:
    reader = Reader(samples=False)
    one, two = (reader.read(make_record(run_id).dumps().encode()) for run_id in ("run-1", "run-2"))
    assert one.case is two.case
    assert one.machine["software"] is two.machine["software"]
    assert one.children[1]["disturbance"] is two.children[1]["disturbance"]


TEXT = WIDE[0].dumps().encode()
PIECES = [b"", b"\x00", b"\xff", b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"0", b"01", b"1.", b"1e999", b"1e5",
          b"NaN", b"-Infinity", b"null", b"true", b'"\\ud800"', b'"\xc3\xa9"', b"2e400", b"\n", b'"x"', b"1" * 30,
          b"\\", b"[]", b"{}"]


@settings(max_examples=2_000, deadline=None)
@given(at=st.integers(0, len(TEXT) - 1), length=st.integers(0, 12), piece=st.sampled_from(PIECES))
def test_whatever_was_done_to_a_text_both_readers_give_one_answer(at: int, length: int, piece: bytes) -> None:
    text = TEXT[:at] + piece + TEXT[at + length:]
    plain = answer(read_plainly, text)
    assert answer(Reader().read, text) == plain
    light = plain if isinstance(plain, str) else without_bulk(plain)
    assert answer(Reader(samples=False).read, text) == light


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_whatever_value_was_put_in_both_readers_give_one_answer(data: st.DataObject) -> None:
    value = json.loads(TEXT)
    parent, key = data.draw(st.sampled_from(list(places_in(value))))
    parent[key] = data.draw(st.sampled_from(
        [None, True, 0, -1, 2**70, 0.5, "", "x", [], [1], [None], [[1]], {}, {"a": 1}, {"a": None}, [{}], [[["1"]]]]))
    text = json.dumps(value).encode()
    plain = answer(read_plainly, text)
    assert answer(Reader().read, text) == plain
    light = plain if isinstance(plain, str) else without_bulk(plain)
    assert answer(Reader(samples=False).read, text) == light


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value, as what it is in and its key there."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places_in(value[key])


# -- finding and merging


def test_a_record_is_found_by_the_beginning_of_its_run_id(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    saved(store, "20260101-abc", "20260101-abd", "20260102-abc", "2026")
    assert store.find("20260102").run_id == "20260102-abc"
    assert store.find("2026").run_id == "2026"  # a whole id wins over those it begins


def test_finding_none_names_the_nearest_and_finding_several_lists_them(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    saved(store, "20260101-abc", "20260101-abd")
    with pytest.raises(BenchError, match=r"No record '20260101-abx' .*Did you mean '20260101-ab"):
        store.find("20260101-abx")
    with pytest.raises(BenchError, match="begins 2 run ids: 20260101-abc, 20260101-abd"):
        store.find("20260101-ab")


def test_finding_a_damaged_record_says_so(tmp_path: Path) -> None:
    (path,) = saved(Store(str(tmp_path)), "run-1")
    Path(path).write_text("{")
    with pytest.raises(BenchError, match="cannot be read: not whole JSON"):
        Store(str(tmp_path)).find("run-1")


def test_folders_files_and_urls_are_merged_and_a_record_counts_once(tmp_path: Path) -> None:
    first, second = Store(str(tmp_path / "one")), Store(f"file://{tmp_path}/two")
    saved(first, "run-1", "run-2")
    (path,) = saved(second, "run-2")
    url = f"memory://{uuid.uuid4().hex}"
    saved(Store(url), "run-3")
    loaded = open_results([str(tmp_path / "one"), f"file://{tmp_path}/two", path, url])
    assert [record.run_id for record in loaded.records] == ["run-1", "run-2", "run-3"]
    assert loaded.problems == ()


def test_two_records_of_one_run_id_are_told(tmp_path: Path) -> None:
    Store(str(tmp_path / "one")).save(make_record("run-1"))
    Store(str(tmp_path / "two")).save(make_record("run-1", step_ms=5))
    loaded = open_results([str(tmp_path / "one"), str(tmp_path / "two")])
    assert len(loaded.records) == 1
    assert "twice with other content" in loaded.problems[0].reason


def test_opening_what_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="No results at") as caught:
        open_results([str(tmp_path / "none")])
    assert "trnbench run" in caught.value.fix


# -- object stores


def test_a_url_holds_records_as_a_folder_does() -> None:
    url = f"memory://{uuid.uuid4().hex}/results"
    store = Store(url)
    store.check_writable()
    assert store.load_all().records == ()
    (path,) = saved(store, "run-1")
    assert path == f"{url}/emr-2c/bert/run-1.json"
    with pytest.raises(BenchError, match="already"):
        saved(store, "run-1")
    import fsspec

    fsspec.filesystem("memory").pipe_file(f"{url}/emr-2c/bad.json".removeprefix("memory:/"), b"{")
    loaded = store.load_all()
    assert loaded.records == (make_record("run-1", rounds=3),)
    assert [(p.path, p.reason.split(":")[0]) for p in loaded.problems] == [
        (f"{url}/emr-2c/bad.json", "not whole JSON")]
    assert store.find("run").run_id == "run-1"
    assert open_results([path]).records == loaded.records


def test_a_url_that_nobody_can_open_says_what_to_install() -> None:
    with pytest.raises(BenchError, match="cannot be opened") as caught:
        Store("nosuch://bucket/results")
    assert "fsspec" in caught.value.fix


def test_a_failing_object_store_is_told_with_the_records_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def no_credentials(*_: object, **__: object) -> None:
        raise RuntimeError("Unable to locate credentials")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", no_credentials)
    store = Store("memory://closed")
    with pytest.raises(BenchError, match=r"run-1 .*Unable to locate credentials"):
        saved(store, "run-1")
    with pytest.raises(BenchError, match="RuntimeError: Unable to locate credentials"):
        store.check_writable()
