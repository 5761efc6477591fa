"""The children's side of a run without the processes: the real worker, asked in this one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock


def converse_here(request: dict[str, Any], environment: Mapping[str, str], timeout_s: float,
                  tell: Callable[[str], None] = lambda phase: None, stop: object = None) -> dict[str, Any]:
    """Stand in for `bench.runner.converse`: the same request and result, both through JSON."""
    from bench import worker

    started_ns = time.monotonic_ns()
    sent = json.loads(json.dumps(request | {"started_ns": started_ns, "parent": os.getpid()}))
    with mock.patch.dict(os.environ, environment, clear=True):
        result = json.loads(json.dumps(worker.answer(sent, tell), allow_nan=False))
    return {"result": result, "returncode": 0, "timed_out": False, "stderr": "", "oom_killed": False,
            "wall_s": (time.monotonic_ns() - started_ns) / 1e9}
