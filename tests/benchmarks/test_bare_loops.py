"""Is a workload here as fast as it can be? Children of trnbench and bare loops, alternated, as a ratio.

    pytest tests/benchmarks/test_bare_loops.py --benchmark-only -s

The bare loop gets the settings that `auto` chose here (and the others at --threads 1, eager), so that
what is compared is the harness and the workload's own code, not luck with threads.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from bench.case import Case, Effort
from bench.registry import case_for, load_backend, load_workload
from bench.runner import Session, ask, scratch_folder

PAIRS = 2
CASES = {"bert": {"size": "base", "batch_size": 8}, "resnet50": {"size": "full", "batch_size": 8},
         "vit": {"size": "base", "batch_size": 8},
         "gpt2": {"size": "small", "batch_size": 1, "options": {"new_tokens": 16}}}


@pytest.mark.timeout(0)
@pytest.mark.parametrize("compiled", ["off", "inductor"])
@pytest.mark.parametrize("name", list(CASES))
def test_as_fast_as_a_bare_loop(benchmark, name: str, compiled: str) -> None:
    if name == "gpt2" and compiled == "inductor":
        pytest.skip("the bare loop's growing cache would compile for every length")
    threads = os.environ.get("TRNBENCH_THREADS", "2")
    case = case_for(name, load_workload(name), backend="cpu", dtype="bf16", threads=int(threads), compile=compiled,
                    **CASES[name])
    session = Session(effort=Effort(repeats=1, max_seconds=6.0))
    backend = load_backend("cpu")
    settings = backend.fixed(case) | ({"layout": "channels_last"} if name == "resnet50" else {})
    ours, bare = [], []
    with scratch_folder() as scratch:
        for pair in range(PAIRS):
            for side in ("ours", "bare") if pair % 2 == 0 else ("bare", "ours"):
                if side == "ours":
                    ours.append(_ours(case, settings, session, scratch))
                else:
                    bare.append(_bare(name, threads, compiled, scratch))
    ratios = [b / o for o, b in zip(ours, bare, strict=True)]
    benchmark.extra_info |= {"ours_ms": [t / 1e6 for t in ours], "bare_ms": [t / 1e6 for t in bare],
                             "throughput_over_bare": statistics.median(ratios)}
    print(f"\n{name} {compiled} {threads} threads: throughput over the bare loop's {statistics.median(ratios):.3f} "
          f"{[round(r, 3) for r in ratios]}, ours {[round(t / 1e6, 1) for t in ours]} ms")
    benchmark.pedantic(lambda: None, rounds=1)


def _ours(case: Case, settings: dict, session: Session, scratch: str) -> float:
    request = {"role": "measure", "case": case.to_json(), "settings": settings, "full": False}
    child = ask(request, case, session, settings, scratch, "ours")
    assert child["status"] == "valid", child["reason"]
    if case.scenario == "generation":
        return statistics.median(child["series_ns"]["itl"])
    return statistics.median(child["samples_ns"]) / child["steps_per_round"]


def _bare(name: str, threads: str, compiled: str, scratch: str) -> float:
    script = Path(__file__).with_name("bare_loops.py")
    environment = os.environ | {"OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1",
                                "TORCHINDUCTOR_CACHE_DIR": f"{scratch}/bare"}
    done = subprocess.run([sys.executable, str(script), name, threads, compiled], env=environment, check=True,
                          capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["median_ns"])
