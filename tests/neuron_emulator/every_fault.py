"""Provoke each kind of failure on the emulator: `python every_fault.py TEXTS FOLDER`, TEXTS a JSON list of texts.

The real runner and the real worker, all in this one process; the device raises each text in turn as it is first
waited for.
"""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from bench import runner  # noqa: E402
from bench.case import Effort  # noqa: E402
from bench.registry import case_for, load_workload  # noqa: E402
from bench.store import Store  # noqa: E402
from tests.fakes.inprocess import converse_here  # noqa: E402


def main(texts: str, folder: str) -> None:
    torch.set_num_threads(1)
    runner.converse = converse_here
    effort = Effort(repeats=1, max_seconds=0.05, timeout_s=60)
    case = case_for("gemm", load_workload("gemm"), backend="neuron", dtype="fp32", compile="off", size="tiny",
                    task="inference", scenario="offline")
    for number, text in enumerate(json.loads(Path(texts).read_text("utf-8"))):
        os.environ["NEURON_EMU_FAULT"] = f"wait:{text}"
        session = runner.Session(effort=effort, machine={"name": "a machine"}, labels={"text": str(number)})
        Store(folder).save(runner.run_case(case, session))


if __name__ == "__main__":
    main(*sys.argv[1:])
