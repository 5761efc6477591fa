"""How often does `trnbench ab` find a planted 3 %, and how often does it cry wolf? On BERT-base, this machine.

    TRNBENCH_TRIALS=20 pytest tests/benchmarks/test_ab_trials.py --benchmark-only -s
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLANTED = str(Path(__file__).parents[1] / "fakes" / "planted_bert.py")
TRIALS = int(os.environ.get("TRNBENCH_TRIALS", "3"))
SECONDS = os.environ.get("TRNBENCH_TRIAL_SECONDS", "60")


@pytest.mark.timeout(0)
@pytest.mark.parametrize("share", ["0.03", "0"])
def test_how_often_a_difference_is_seen(benchmark, share: str) -> None:
    answers = [_trial(share) for _ in range(TRIALS)]
    seen = sum(" is slower" in answer["answer"] or " is faster" in answer["answer"] for answer in answers)
    print(f"\nshare {share}: a difference was seen in {seen} of {TRIALS} trials")
    for answer in answers:
        print(f"  {answer['ratio']['value']:.4f} {answer['pairs']:4d} pairs: {answer['answer']} {answer['warnings']}")
    benchmark.extra_info |= {"seen": seen, "trials": TRIALS, "ratios": [a["ratio"]["value"] for a in answers]}
    benchmark.pedantic(lambda: None, rounds=1)


def _trial(share: str) -> dict:
    side = f"{PLANTED} --batch-size 1 --seq-len 64 --dtype bf16 --option share="
    done = subprocess.run([sys.executable, "-m", "bench", "ab", f"{side}0.0", f"{side}{float(share)}",
                           "--max-seconds", SECONDS, "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
