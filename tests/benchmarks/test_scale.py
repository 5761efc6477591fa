"""How reports grow with the store: 2,000 records here, 100,000 with TRNBENCH_SCALE_RECORDS=100000.

Each measurement is of a process of its own: seconds of its CPU, and its largest resident memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.benchmarks.many_records import write_compacted, write_json

COUNT = int(os.environ.get("TRNBENCH_SCALE_RECORDS", "2000"))
ROOT = Path(__file__).parents[2]

MEASURED = """
import json, os, re, sys
{setup}
before = os.times()
{work}
after = os.times()
peak_kib = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps({{"seconds": after.user + after.system - before.user - before.system,
                   "peak_bytes": peak_kib * 1024}}), file=sys.stderr)
"""
"""ru_maxrss would count what the parent held when it forked."""

GROUP_BYTES = 60e6
"""What reading a compacted file takes at a time, however many records there are."""

OPEN = "from bench.store import open_results"
LOAD = (OPEN, "assert len(open_results([{store!r}], samples=False).records) == {count}")
NEWEST = (OPEN, "open_results([{store!r}], samples=False, outdated=False)")
REPORT = ("from bench.cli import main", "main(['report', {store!r}, {options}], standalone_mode=False)")


@dataclass(frozen=True)
class Cost:
    seconds: float
    peak_bytes: int


def cost(code: tuple[str, str], store: Path, count: int, *options: str) -> Cost:
    setup, work = (part.format(store=str(store), count=count, options=", ".join(map(repr, options))) for part in code)
    done = subprocess.run([sys.executable, "-c", MEASURED.format(setup=setup, work=work)], text=True, cwd=ROOT,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    return Cost(**json.loads(done.stderr.splitlines()[-1]))


Make = Callable[[str, int, int], Path]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes stores, each once: of a kind ("json" or "compacted"), of so many records of so many cases."""
    made: dict[tuple[str, int, int], Path] = {}

    def make(kind: str, count: int, cases: int) -> Path:
        key = kind, count, cases
        if key not in made:
            made[key] = tmp_path_factory.mktemp(kind)
            {"json": write_json, "compacted": write_compacted}[kind](made[key], count, cases=cases)
        return made[key]

    return make


@pytest.mark.parametrize("kind", ["json", "compacted"])
def test_reading_grows_as_the_number_of_records_does(store: Make, kind: str) -> None:
    few, many = (cost(LOAD, store(kind, count, count), count) for count in (COUNT // 4, COUNT))
    more = COUNT - COUNT // 4
    print(f"{kind}: {COUNT} records in {many.seconds:.2f} s of CPU, {many.peak_bytes / 1e6:.0f} MB")
    assert many.seconds < 8 * few.seconds  # 4 were exactly linear, 16 quadratic; a busy machine adds its own
    assert many.seconds < 3e-4 * COUNT + 1  # 9e-5 a record seen, and the import of pyarrow
    assert many.peak_bytes - few.peak_bytes < 10_000 * more + GROUP_BYTES  # 6,700 bytes a record seen


@pytest.mark.parametrize("kind", ["json", "compacted"])
def test_what_newer_records_outdate_takes_no_memory(store: Make, kind: str) -> None:
    few, many = (cost(NEWEST, store(kind, count, 50), count) for count in (COUNT // 4, COUNT))
    assert many.peak_bytes - few.peak_bytes < 1_000 * (COUNT - COUNT // 4) + GROUP_BYTES  # run_ids and the like


@pytest.mark.parametrize("options", [("--format", "terminal"), ("--format", "csv"), ("--format", "csv", "--all")])
def test_reports_of_a_compacted_store(store: Make, options: tuple[str, ...]) -> None:
    spent = cost(REPORT, store("compacted", COUNT, COUNT // 50), COUNT, *options)
    print(f"{' '.join(options)}: {COUNT} records in {spent.seconds:.2f} s of CPU, {spent.peak_bytes / 1e6:.0f} MB")
    assert spent.seconds < 5 + 1e-3 * COUNT
    assert spent.peak_bytes < 500e6 + 1_000 * COUNT


@pytest.mark.parametrize("again", [1, 50], ids=["each its own case", "each case fifty times"])
def test_the_page_of_a_store_of_json_files(store: Make, tmp_path: Path, again: int) -> None:
    """100,000 records: under 15 s of CPU and 1.5 GB."""
    page = tmp_path / "report.html"
    spent = cost(REPORT, store("json", COUNT, COUNT // again), COUNT, "--format", "html", "-o", str(page))
    print(f"html, cases {COUNT // again}: {COUNT} records in {spent.seconds:.2f} s of CPU, "
          f"{spent.peak_bytes / 1e6:.0f} MB")
    assert page.stat().st_size < 6e6
    assert spent.seconds < max(10, 15 * COUNT / 100_000)
    assert spent.peak_bytes < max(5e8, 1.5e9 * COUNT / 100_000)
