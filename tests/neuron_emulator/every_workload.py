"""Measure every workload at its tiny size on the emulator: `python every_workload.py on|off FOLDER`.

The real runner and the real worker through the shipped backend, all in this one process: to start two
for each case, as a user's run does, would take minutes.
"""

import gc
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from bench import runner  # noqa: E402
from bench.case import Effort  # noqa: E402
from bench.measure import canary  # noqa: E402
from bench.registry import case_for, load_workload  # noqa: E402
from bench.store import Store  # noqa: E402
from bench.suites import everything  # noqa: E402
from tests.fakes.inprocess import converse_here  # noqa: E402

SKIPPED = ("collectives",)
"""Needs two devices that exchange tensors: see test_neuron_faults.py."""


def entries() -> list[tuple[str, dict]]:
    """Every workload, task and scenario; single-stream is offline with one sample, and tells nothing more."""
    found = []
    for name, entry in everything(size="tiny"):
        if entry["scenario"] != "single-stream" and name not in SKIPPED:
            # The emulator has no sparse tensors, as no accelerator's eager mode promises any.
            dense = {"sparse_gradients": False} if "sparse_gradients" in load_workload(name).options else {}
            found.append((name, {**entry, "options": dense}))
    return found


def main(compiling: str, folder: str) -> None:
    torch.set_num_threads(1)
    runner.converse = converse_here
    canary.LONG_ENOUGH_NS = 2_000_000  # or it would take most of the time
    session = runner.Session(effort=Effort(repeats=1, max_seconds=0.05, timeout_s=300), machine={"name": "a machine"})
    for name, entry in entries():
        torch._dynamo.reset()  # a new process would know no graphs either ...
        gc.collect()  # ... and hold no memory of the last case's
        case = case_for(name, load_workload(name), backend="neuron", dtype="fp32", compile=compiling, **entry)
        Store(folder).save(runner.run_case(case, session))


if __name__ == "__main__":
    main(*sys.argv[1:])
