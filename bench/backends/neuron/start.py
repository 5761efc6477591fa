"""One process at a time starts the Neuron runtime: two that call nrt_init at the same moment can both fail. No torch.

Written against the documentation and source of SDK 2.33; not run on Neuron hardware by us. Source of the race: notes
on several processes side by side on trn2 (xpu-perf, projects/micro_perf/vendor_ops/NEURON).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.case import Case
from bench.registry import load_scenario


@contextlib.contextmanager
def one_at_a_time(case: Case) -> Iterator[None]:
    """Wait for this user's other processes that start; ranks that work together start at once, to meet one another."""
    if case.ranks > 1 and load_scenario(case.scenario).together:
        yield
        return
    from filelock import FileLock

    with FileLock(Path(tempfile.gettempdir(), f"trnbench-neuron-{os.getuid()}.lock")):
        yield
