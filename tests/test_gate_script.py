"""ci/gate.sh as a job would run it: a first run, a second against it, and one that must fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TINY = ("bert", "--size", "tiny", "--batch-size", "1", "--threads", "1", "--no-compile", "--dtype", "fp32",
        "--repeats", "2", "--max-seconds", "0.5")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script and a .venv whose trnbench is this one."""
    (tmp_path / "ci").mkdir()
    shutil.copy(ROOT / "ci" / "gate.sh", tmp_path / "ci")
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "trnbench").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bench "$@"\n')
    (binaries / "trnbench").chmod(0o755)
    return tmp_path


def gate(checkout: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.run([str(checkout / "ci" / "gate.sh"), *args], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": paths} | env)


@pytest.mark.slow
def test_a_run_is_held_against_the_one_before_it_and_fails_where_a_gate_fails(checkout: Path) -> None:
    first = gate(checkout, "", *TINY)
    assert first.returncode == 0, first.stderr
    assert "no previous run" in first.stdout
    previous = checkout / "previous.json"
    shutil.copy(checkout / "gate" / "this.json", previous)

    priced = {"TRNBENCH_COMPARE_USD_PER_HOUR": "0.5", "GATES": "throughput<-99%\nusd_per_1m_inferences>+900%"}
    second = gate(checkout, "previous.json", *TINY, **priced)
    assert second.returncode == 0, second.stderr
    summary = (checkout / "gate" / "summary.md").read_text()
    assert summary.startswith("# Comparison")
    assert "usd\\_per\\_1m\\_inferences" in summary

    faster = json.loads(previous.read_text())  # a past that was a hundred times quicker
    for entry in faster["benchmarks"]:
        samples = entry["extra_info"]["trnbench_record"]["samples"]
        samples["children"] = [[ns / 100 for ns in child] for child in samples["children"]]
        for metric in entry["extra_info"]["trnbench_record"]["metrics"]:
            if metric["name"].startswith("samples_per_second") and metric["value"]:
                metric |= {name: metric[name] * 100 for name in ("value", "low", "high") if metric[name]}
    previous.write_text(json.dumps(faster))
    third = gate(checkout, "previous.json", *TINY, TRNBENCH_COMPARE_USD_PER_HOUR="0.5",
                 GATES="usd_per_1m_inferences>+10%")
    assert third.returncode == 1, third.stdout + third.stderr
    assert "FAILS usd\\_per\\_1m\\_inferences&gt;" in (text := (checkout / "gate" / "summary.md").read_text()) \
        or "FAILS usd\\_per\\_1m\\_inferences" in text


def test_the_example_runs_the_scripts_that_people_run() -> None:
    job = yaml.safe_load((ROOT / "ci" / "github-actions.yml").read_text())["jobs"]["gate"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert "make venv" in commands
    assert any("ci/gate.sh previous.json" in command for command in commands)
    assert any("GITHUB_STEP_SUMMARY" in command for command in commands)
