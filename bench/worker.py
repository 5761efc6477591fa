"""The child's main: a request on stdin, events and one result as JSON lines on stdout.

`python -m bench.worker`; with a folder, one rank of a parallel case (see `bench.launch`). What libraries
print goes to stderr. The process ends at once when it has answered: an interpreter's tidying up would
be wall time that no phase of the ledger explains.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from bench import launch
from bench.case import Case, Effort
from bench.errors import BenchError, CaseFailed
from bench.measure.ledger import Ledger
from bench.parallel import ALONE, join
from bench.registry import load_backend

ROLES = ("describe", "scout", "measure", "compile", "ab")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.read())
    _die_with(request["parent"])

    def tell(phase: str) -> None:
        _send(answers, {"event": "phase", "phase": phase})

    _send(answers, {"event": "result", "result": answer(request, tell)})
    sys.stderr.flush()
    os._exit(0)


def rank_main(folder: Path) -> None:
    """One rank: as the others, but for what it is told by torchrun's variables, and where its result goes."""
    request, rank = launch.rank_request(folder), int(os.environ["RANK"])
    _die_with(request["parent"])
    case, scratch = Case.from_json(request["case"]), str(Path(request["scratch"], request["role"]))
    os.environ.update(load_backend(case.backend).environment(case, request["settings"], scratch))
    result = answer(request | {"rank": rank}, launch.tell_launcher(folder) if rank == 0 else lambda phase: None)
    launch.leave_result(folder, rank, result | {"failed_at_ns": time.monotonic_ns()})
    sys.stderr.flush()
    os._exit(0 if result["status"] == "valid" else 1)


def answer(request: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """Do what is asked; return JSON values: `status`, `reason`, the ledger `phases_s`, and what was found."""
    ledger = Ledger(request["started_ns"], tell=tell)
    try:
        result = {"status": "valid", "reason": None} | _answer(request, ledger, tell)
    except CaseFailed as failed:
        result = {"status": failed.status, "reason": failed.reason}
    except BaseException as error:  # noqa: BLE001 - whatever a case does, it ends as a result with a reason
        reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        result = {"status": "failed", "reason": reason[:2000], "traceback": traceback.format_exc()[-8000:]}
    ledger.enter("teardown")
    try:
        json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as error:
        result = {"status": "failed", "reason": f"what the workload states fits no record: {error}"}
    return result | {"phases_s": ledger.seconds()}


def _answer(request: dict[str, Any], ledger: Ledger, tell: Callable[[str], None]) -> dict[str, Any]:
    from bench.measure import child

    scratch = Path(request["scratch"])
    role = request["role"]
    if role == "describe":
        from bench.registry import load_workload_file

        return {"facts": child.describe(load_workload_file(request["path"]))}
    effort = Effort(**request["effort"])
    if role == "ab":
        cases = [Case.from_json(case) for case in request["cases"]]
        return child.alternate(cases, effort, request["settings"], ledger, scratch, margin=request["margin"])
    case = Case.from_json(request["case"])
    if role == "scout":
        return child.scout(case, effort, request["settings"], ledger, scratch)
    if case.ranks > 1 and "rank" not in request:
        result = launch.launch(request, case, tell)
        if "phases_s" in result:
            ledger.adopt(result["phases_s"], then="teardown")
        return result
    ranks = ALONE if case.ranks == 1 else join(case, load_backend(case.backend), request["rank"], effort.timeout_s)
    if role == "compile":
        return child.precompile(case, request["settings"], ledger, ranks=ranks)
    return child.measure(case, effort, request["settings"], ledger, scratch, full=request["full"], ranks=ranks)


def _send(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _die_with(parent: int) -> None:
    """Ask the kernel (Linux) to kill this process with its parent: no orphan goes on computing."""
    with contextlib.suppress(OSError, AttributeError):  # elsewhere the watchdog's limit has to do
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before it was asked
        os._exit(1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        rank_main(Path(sys.argv[1]))
    main()
