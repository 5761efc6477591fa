"""How quickly `trnbench --help` starts, beside a bare `import click`: alternated, as a ratio of medians.

    pytest tests/benchmarks/test_startup.py --benchmark-only -s
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROUNDS = 15
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def start(*words: str) -> float:
    """Run the interpreter with these words; return its wall seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def test_help_starts_about_as_quickly_as_click_alone(benchmark: Any) -> None:
    bare_s: list[float] = []
    start("-m", "bench", "--help")  # writes the bytecode
    benchmark.pedantic(lambda: start("-m", "bench", "--help"), rounds=ROUNDS,
                       setup=lambda: bare_s.append(start("-c", "import click")))
    ratio = benchmark.stats.stats.median / statistics.median(bare_s)
    benchmark.extra_info |= {"import_click_s": statistics.median(bare_s), "ratio": ratio}
    print(f"\ntrnbench --help takes {ratio:.2f} times a bare `import click`, "
          f"{statistics.median(bare_s) * 1e3:.0f} ms (the aim is 1.5 at most)")
    assert len(bare_s) == ROUNDS
