"""To pytest-benchmark and back: its own tool reads our runs, and we read its files, losing nothing."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from pytest_benchmark.stats import Stats

from bench.case import Case
from bench.cli import main
from bench.errors import BenchError
from bench.exchange.pytest_benchmark import export_document, import_document, parse, step_stats
from bench.record import Record, schema
from bench.store import Store
from tests.records import failed_record, make_record

ROOT = str(Path(__file__).parents[1])


def run(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, (done.output, done.exception)
    return done


def foreign(**changes: Any) -> dict[str, Any]:
    """A document as pytest-benchmark 5 writes it: one benchmark, two iterations a round."""
    stats = {"min": 0.001, "max": 0.003, "mean": 0.002, "stddev": 0.001, "rounds": 3, "median": 0.002,
             "iqr": 0.001, "q1": 0.0015, "q3": 0.0025, "iqr_outliers": 0, "stddev_outliers": 0, "outliers": "0;0",
             "ld15iqr": 0.001, "hd15iqr": 0.003, "ops": 500.0, "total": 0.006, "data": [0.001, 0.002, 0.003],
             "iterations": 2}
    entry = {"group": "sorting", "name": "test_sort[10]", "fullname": "tests/test_sort.py::test_sort[10]",
             "params": {"n": 10, "by": ["a"]}, "param": "10", "extra_info": {}, "options": {}, "stats": stats}
    return {"machine_info": {"node": "ci box", "python_version": "3.12.1", "cpu": {"brand_raw": "EPYC"}},
            "commit_info": {"id": "abc", "dirty": False}, "benchmarks": [entry | changes],
            "datetime": "2026-01-02T03:04:05.5+02:00", "version": "5.3.1"}


# -- out


def test_statistics_are_those_that_pytest_benchmark_computes() -> None:
    times = [random.Random(7).lognormvariate(-7, 0.3) for _ in range(501)] + [0.5]
    theirs = Stats()
    for seconds in times:
        theirs.update(seconds)
    ours, own = step_stats(times), theirs.as_dict()
    assert set(ours) == set(own)
    assert ours["outliers"] == own["outliers"]
    for name in own.keys() - {"outliers"}:  # quartiles have several definitions, close together
        assert ours[name] == pytest.approx(own[name], rel=0.01 if name[-1] in "13r" else 1e-9), name


def test_statistics_of_one_time_are_defined() -> None:
    ours = step_stats([0.25])
    assert (ours["stddev"], ours["iqr"], ours["q1"], ours["hd15iqr"], ours["ops"]) == (0.0, 0.0, 0.25, 0.25, 4.0)


def test_times_are_of_one_step_over_all_children() -> None:
    record = make_record(step_ms=5, spread=0, steps_per_round=4, children=2, rounds=3)
    (benchmark,) = export_document([record])["benchmarks"]
    assert benchmark["stats"]["data"] == [pytest.approx(0.005)] * 6
    assert (benchmark["stats"]["rounds"], benchmark["stats"]["iterations"]) == (6, 4)
    assert benchmark["extra_info"]["run_id"] == record.run_id
    assert (benchmark["params"]["dtype"], benchmark["params"]["backend"]) == ("bf16", "cpu")


def test_pytest_benchmark_itself_compares_our_runs(tmp_path: Path) -> None:
    for name, step_ms in (("main", 10), ("branch", 12.5)):
        store = Store(str(tmp_path / name))
        store.save(make_record(f"{name}-1", step_ms=step_ms, spread=0))
        store.save(make_record(f"{name}-2", step_ms=step_ms, spread=0, case={"workload": "a|b[red]"}))
        run("export", store.location, "--format", "pytest-benchmark", "-o", str(tmp_path / f"{name}.json"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", "main.json", "branch.json", "--csv=out.csv",
         "--columns=median,ops,rounds,iterations", "--group-by=fullname"],
        cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Failed to load" not in done.stdout + done.stderr
    with open(tmp_path / "out.csv") as file:
        rows = list(csv.DictReader(file))
    assert sorted(float(row["median"]) for row in rows) == pytest.approx([0.01, 0.01, 0.0125, 0.0125])
    assert {row["rounds"] for row in rows} == {"120"}
    assert "a|b[red]:base" in done.stdout


def test_our_files_fit_its_storage_folder_too(tmp_path: Path) -> None:
    folder = tmp_path / ".benchmarks" / "Linux-CPython-3.11-64bit"
    folder.mkdir(parents=True)
    Store(str(tmp_path / "r")).save(make_record("run-1"))
    run("export", str(tmp_path / "r"), "--format", "pytest-benchmark", "-o", str(folder / "0001_ours.json"))
    done = subprocess.run([sys.executable, "-m", "pytest_benchmark", "compare", "0001"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert "bert:base inference/offline" in done.stdout, done.stderr


def test_records_that_are_not_valid_are_left_out_and_told(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.save(make_record("run-1"))
    store.save(failed_record("run-2", case={"batch_size": 64}))
    done = run("export", store.location, "--format", "pytest-benchmark")
    assert len(json.loads(done.stdout)["benchmarks"]) == 1
    assert "Left out run-2" in done.stderr
    assert "oom: the child was killed for memory" in done.stderr


def test_nothing_to_export_is_exit_3(tmp_path: Path) -> None:
    Store(str(tmp_path)).save(failed_record("run-2"))
    assert "No valid record" in run("export", str(tmp_path), "--format", "pytest-benchmark", code=3).stderr


def test_csv_has_every_record_whatever_became_of_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.save(make_record("run-1", started_at="2026-01-01T00:00:00Z"))
    store.save(make_record("run-2", started_at="2026-01-02T00:00:00Z"))
    store.save(failed_record("run-3", case={"batch_size": 64}))
    newest = list(csv.DictReader(run("export", store.location, "--format", "csv").stdout.splitlines()))
    assert sorted(row["run_id"] for row in newest) == ["run-2", "run-3"]
    assert len(run("export", store.location, "--format", "csv", "--all").stdout.splitlines()) == 4


# -- and back


def test_what_was_exported_comes_back_as_it_was(tmp_path: Path) -> None:
    records = [make_record("run-1", labels={"branch": "main"}),
               make_record("run-2", item="token", case={"workload": "gpt2", "scenario": "generation"})]
    back, problems = import_document(json.loads(json.dumps(export_document(records))))
    assert (back, problems) == (records, [])


def test_a_foreign_benchmark_becomes_a_published_record_with_its_rounds() -> None:
    ((record,), problems) = import_document(foreign())
    assert problems == []
    assert record.case.workload == "pytest:tests/test_sort.py::test_sort[10]"
    assert (record.status, record.tier) == ("valid", "published")
    assert (record.case.dtype, record.case.task) == ("unstated", "unstated")
    assert record.warnings == ("imported from pytest-benchmark: parity and canary not checked",)
    assert record.samples["children"] == [[2_000_000, 4_000_000, 6_000_000]]  # two iterations of 1, 2 and 3 ms
    assert record.samples["steps_per_round"] == [2]
    metric = record.metric("latency_ms_p50")
    assert metric
    assert metric.value == pytest.approx(2)
    assert record.started_at == "2026-01-02T01:04:05.500000+00:00"
    assert record.case.options == {"n": 10, "by": "['a']"}
    assert record.machine["name"] == "ci box"
    jsonschema.Draft202012Validator(schema()).validate(json.loads(record.dumps()))


def test_a_file_saved_without_data_keeps_its_median() -> None:
    document = foreign()
    del document["benchmarks"][0]["stats"]["data"]
    ((record,), _) = import_document(document)
    assert record.samples == {}
    metric = record.metric("calls_per_second")
    assert metric
    assert metric.value == pytest.approx(500)


def test_a_benchmark_that_cannot_be_read_is_named_and_the_others_kept() -> None:
    document = foreign()
    good = document["benchmarks"][0]
    document["benchmarks"] = [good, {"name": "b", "fullname": "no stats"}, 7, good | {"stats": {"median": 0}},
                              good | {"extra_info": {"trnbench_record": {"schema_version": "trnbench.record/9"}}}]
    records, problems = import_document(document)
    assert len(records) == 1
    assert [problem.split(":")[0] for problem in problems] == [
        "benchmark 2 (no stats)", "benchmark 3 (no name)", "benchmark 4 (tests/test_sort.py",
        "benchmark 5 (tests/test_sort.py"]
    assert "a newer trnbench may read it" in problems[3]


@pytest.mark.parametrize("text", ["{", "", "[1]", '{"benchmarks": 3}', '{"benchmarks": [NaN]}', "[" * 50_000])
def test_a_file_of_another_kind_is_a_usage_error(text: str) -> None:
    with pytest.raises(BenchError, match="no JSON") as caught:
        import_document(parse(text))
    assert caught.value.exit_code == 2


PROJECT = """
import time, pytest
@pytest.mark.parametrize("ms", [1, 3])
def test_sleep(benchmark, ms):
    benchmark.pedantic(time.sleep, args=(ms / 1000,), rounds=12, iterations=2)
"""


def test_a_real_run_of_pytest_benchmark_is_imported_reported_and_compared(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(PROJECT)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
                           "--rootdir=.", "--benchmark-json=own.json", "test_own.py"],
                          cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")})
    assert done.returncode == 0, done.stdout + done.stderr
    results = str(tmp_path / "results")
    file = str(tmp_path / "own.json")
    assert "2 stored, 0 were there already" in run(
        "import", file, "--format", "pytest-benchmark", "--results", results).stdout
    assert "0 stored, 2 were there already" in run(
        "import", file, "--format", "pytest-benchmark", "--results", results).stdout
    records = Store(results).load_all().records
    assert sorted(record.case.options["ms"] for record in records) == [1, 3]  # type: ignore[type-var]
    for record in records:
        step_ms = record.metric("step_time_ms")
        assert step_ms
        assert step_ms.value is not None
        assert step_ms.value == pytest.approx(float(str(record.case.options["ms"])), rel=0.5)
        assert len(record.samples["children"][0]) == 12
    shown = run("report", results).stdout
    assert "Published or imported" in shown
    assert "test_sleep[3]" in shown
    assert "one child" in run("compare", results, results).stdout


def test_import_stores_what_it_can_and_names_the_rest(tmp_path: Path) -> None:
    document = foreign()
    document["benchmarks"].append({"name": "broken"})
    file = tmp_path / "own.json"
    file.write_text(json.dumps(document))
    done = run("import", str(file), "--format", "pytest-benchmark", "--results", str(tmp_path / "r"), "--json")
    said = json.loads(done.stdout)
    assert [len(said[name]) for name in ("stored", "already", "problems")] == [1, 0, 1]
    assert "Passed over" in done.stderr
    file.write_text(json.dumps(document | {"benchmarks": [{"name": "broken"}]}))
    run("import", str(file), "--format", "pytest-benchmark", "--results", str(tmp_path / "r"), code=3)
    done = run("import", str(tmp_path / "none.json"), "--format", "pytest-benchmark",
               "--results", str(tmp_path / "r"), code=2)
    assert "none.json cannot be read" in done.stderr


def test_an_imported_record_is_refused_where_another_has_its_run_id(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "r"))
    store.save(make_record("run-1"))
    file = tmp_path / "ours.json"
    file.write_text(json.dumps(export_document([make_record("run-1", step_ms=99)])))
    done = run("import", str(file), "--format", "pytest-benchmark", "--results", store.location, code=2)
    assert "run-1 is in" in done.stderr


def test_unstated_is_no_dtype_that_a_user_may_ask_for() -> None:
    with pytest.raises(BenchError) as caught:
        Case(workload="bert", size="base", task="inference", scenario="offline", backend="cpu", dtype="fp23",
             batch_size=1)
    assert "unstated" not in caught.value.fix


def test_an_imported_record_survives_the_store(tmp_path: Path) -> None:
    ((record,), _) = import_document(foreign())
    Store(str(tmp_path)).save(record)
    (back,) = Store(str(tmp_path)).load_all().records
    assert back == record
    assert isinstance(back, Record)
