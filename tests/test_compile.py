"""`trnbench compile`: it fills a cache that a later run finds warm, and measures nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.backends._cache import cache_folder
from bench.errors import BenchError
from tests.commandline import EMULATED, MY_MODEL, PLAIN_CPU, one_document, records_in, trnbench, workload_file

NO_COMPILER = shutil.which("g++") is None and shutil.which("clang++") is None
MINE = ("--workload-file", MY_MODEL, "--backend", "cpu", "--threads", "1", "--dtype", "fp32")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the cache of whoever runs the tests, nor a record to the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_cold_is_the_record_s_own_folder_and_warm_is_the_user_s(tmp_path: Path) -> None:
    assert cache_folder("cold", "/scratch", "cpu") == Path("/scratch/compiled")
    assert cache_folder("warm", "/scratch", "cpu") == tmp_path / "cache/trnbench/compiled/cpu"
    assert cache_folder(str(tmp_path / "mine"), "/scratch", "cpu") == tmp_path / "mine"


def test_a_user_without_a_home_is_told_where_else_to_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(BenchError, match="no home folder"):
        cache_folder("warm", "/scratch", "cpu")


def test_a_backend_that_keeps_nothing_is_refused() -> None:
    result = trnbench("compile", "gemm", *EMULATED[:2])
    assert result.exit_code == 2
    assert "Backend 'emulated' keeps nothing that it compiles." in result.stderr


def test_a_cache_that_would_not_be_kept_is_refused() -> None:
    result = trnbench("compile", "gemm", "--backend", "cpu", "--no-compile", "--backend-option", "cache=cold")
    assert result.exit_code == 2
    assert "nothing would be kept" in result.stderr


def test_without_a_compiler_there_is_nothing_to_compile_and_no_record(
        in_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setitem(counters["stats"], "unique_graphs", 7)  # of a device that was opened before in this process
    result = trnbench("compile", "gemm", "--size", "tiny", *PLAIN_CPU[:5], "--json")
    assert result.exit_code == 0, result.output
    document = one_document(result.stdout)
    assert document["cache"] == "warm"
    [case] = document["cases"]
    assert (case["status"], case["compile"]["seconds"], case["compile"]["graphs"]) == ("valid", None, 0)
    assert case["phases_s"]["measure"] == 0.0
    assert list(tmp_path.iterdir()) == []


def test_a_case_that_cannot_run_is_told_and_ends_in_its_exit_code(in_process: None, tmp_path: Path) -> None:
    path = workload_file(tmp_path, "def build(case): raise ValueError('no such layer')\n"
                                   "WORKLOAD = dataclasses.replace(W, build=build)")
    result = trnbench("compile", "--workload-file", path, "--backend", "cpu", "--no-compile", "--threads", "1")
    assert result.exit_code == 3
    assert "failed: ValueError: no such layer" in result.stderr
    assert "0 of 1 cases compiled" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="inductor needs a C++ compiler: no g++ or clang++ on PATH")
def test_what_was_compiled_ahead_is_found_warm_by_the_first_child_of_a_run(tmp_path: Path) -> None:
    ahead = trnbench("compile", *MINE, "--json")
    assert ahead.exit_code == 0, ahead.output
    [compiled] = one_document(ahead.stdout)["cases"]
    assert compiled["compile"]["cache"] == "cold"
    result = trnbench("run", *MINE, "--compile", "--backend-option", "cache=warm", "--repeats", "1",
                      "--max-seconds", "0.1", "--results", tmp_path / "results")
    assert result.exit_code == 0, result.output
    [record] = records_in(tmp_path / "results")
    assert record.compile["cache"] == "warm"
    assert record.compile["graphs"] == compiled["compile"]["graphs"] >= 1
    assert record.compile["seconds"] < compiled["compile"]["seconds"] / 2  # it was some 7 times less
