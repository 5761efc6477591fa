"""A child that is many: its ranks started by torch's elastic launcher, watched, and made one result.

Each rank is `python -m bench.worker FOLDER`: the request stands in the folder, and its result goes
there as `<rank>.json`. Ranks share no pipe, as two of them write into one another's lines. A rank
that dies takes the others with it within a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.case import Case
from bench.machine import memory

REQUEST, PHASES = "request.json", "phases"
LOOK_S = 0.2
LAST_LINES = 40
Result = dict[str, Any]


def launch(request: Mapping[str, Any], case: Case, tell: Callable[[str], None]) -> Result:
    """Run a request in `case.ranks` processes and return their one result, as a single child's would be."""
    folder = Path(tempfile.mkdtemp(prefix="ranks-", dir=request["scratch"]))
    (folder / REQUEST).write_text(json.dumps(dict(request) | {"parent": os.getpid()}), "utf-8")
    os.mkfifo(folder / PHASES)
    threading.Thread(target=_follow, args=(folder / PHASES, tell), daemon=True).start()
    ooms = memory.oom_kills()
    dead = _run(folder, case.ranks)
    results = {rank: json.loads(path.read_text("utf-8")) for rank in range(case.ranks)
               for path in [folder / f"{rank}.json"] if path.exists()}
    failed = {rank: result for rank, result in results.items() if result["status"] != "valid"}
    if failed or len(results) < case.ranks:
        silent = {rank: code for rank, code in dead.items() if rank not in results}
        return _failed(folder, case.ranks, silent, failed, oom_killed=memory.oom_kills() != ooms)
    return merged([results[rank] for rank in range(case.ranks)])


def _follow(pipe: Path, tell: Callable[[str], None]) -> None:
    """Pass on the phases that rank 0 enters."""
    with pipe.open(encoding="utf-8") as lines:
        for line in lines:
            tell(line.strip())


def _run(folder: Path, ranks: int) -> dict[int, int]:
    """Run the ranks to their end; return the exit code of each that failed by itself, by rank.

    Rendezvous with a store of its own for each attempt: in torch 2.13 a shared one outlives it, and
    its keys name dead addresses. Addresses are the loopback's, as a host's name need not resolve.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, run_id=folder.name, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", local_addr="localhost", max_restarts=0, monitor_interval=LOOK_S,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs"), redirects=Std.ALL))
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "bench.worker", str(folder))
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    return {}


def _failed(folder: Path, ranks: int, silent: Mapping[int, int], failed: Mapping[int, Result], *,
            oom_killed: bool) -> Result:
    """The result of ranks of which one failed: the one that was first, as the others fail for want of it.

    A rank that died without a word was (unless by SIGTERM: with that the launcher ends the others); else
    the one that gave its reason first. Its last lines go to stderr, where whoever knows the device's
    error texts reads them.
    """
    by_themselves = [rank for rank, code in silent.items() if code != -signal.SIGTERM]
    if failed and not by_themselves:
        rank = min(failed, key=lambda one: failed[one]["failed_at_ns"])
        sys.stderr.write(_tail(folder, rank))
        return failed[rank] | {"reason": f"rank {rank} of {ranks}: {failed[rank]['reason']}"}
    rank = min(by_themselves or silent, default=0)
    code, tail = silent.get(rank, 0), _tail(folder, rank)
    sys.stderr.write(tail)
    if oom_killed and code == -signal.SIGKILL:
        return {"status": "oom", "reason": f"rank {rank} of {ranks}: the kernel killed it, as memory ran out: "
                                           "try a smaller --batch-size or --size"}
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code} and no answer"
    words = tail.strip().rpartition("\n")[2][-300:] or "none"
    return {"status": "failed", "reason": f"rank {rank} of {ranks}: {how}; last words: {words}"}


def _tail(folder: Path, rank: int) -> str:
    """The last lines that a rank wrote to stderr."""
    for path in folder.glob(f"logs/*/attempt_*/{rank}/stderr.log"):
        lines = path.read_text("utf-8", "replace").splitlines()[-LAST_LINES:]
        return "\n".join(lines) + "\n"
    return ""


def merged(results: list[Result]) -> Result:
    """One result of all ranks' results, by rank.

    Rank 0 speaks for ranks that work together. Streams side by side (they come with `stream`) keep
    all their times, one stream after the other: `streams` says how many rounds each has. Memory is
    the largest rank's; a measured peak is the sum, as ranks are measured at the same time; a check
    that failed on any rank failed. What each rank saw stays in `ranks`.
    """
    first = results[0]
    if "samples_ns" not in first:
        return first
    whole = dict(first)
    if first["stream"]:
        whole["samples_ns"] = [ns for result in results for ns in result["samples_ns"]]
        whole["streams"] = [len(result["samples_ns"]) for result in results]
        whole["series_ns"] = {name: [ns for result in results for ns in result["series_ns"][name]]
                              for name in first["series_ns"]}
    memories = [result["memory"] for result in results]
    largest = max(memories, key=lambda one: one["peak_bytes"] or 0)
    whole["memory"] = largest | {"method": f"{largest['method']}; the largest of {len(results)} ranks"}
    whole["energy"] = _energy([result["energy"] for result in results])
    whole["canary"] = _canary([result["canary"] for result in results])
    whole["parity"] = next((result["parity"] for result in results if result["parity"].get("status") == "failed"),
                           first["parity"])
    whole["warnings"] = [f"rank {rank}: {text}" for rank, result in enumerate(results) for text in result["warnings"]]
    kept = ("memory", "disturbance", "energy", "warmup", "phases_s", "compile", "watch")
    whole["ranks"] = [{"rank": rank} | {name: result[name] for name in kept if name in result}
                      for rank, result in enumerate(results)]
    return whole


def _energy(each: list[Result]) -> Result:
    """Devices' own counters add up (those of the host stand beside them); the host's are every rank's.

    `rounds`: those that the joules were spent on, a rank's mean.
    """
    if "host" not in each[0]:
        return each[0]
    unknown = next((one for one in each if one["joules"] is None), None)
    return {"joules": None if unknown else sum(one["joules"] for one in each), "method": each[0]["method"],
            "reason": unknown and unknown["reason"], "rounds": sum(one["rounds"] for one in each) / len(each),
            "host": each[0]["host"]}


def _canary(each: list[Result]) -> Result:
    """Peaks add up, where every rank has one; of what is wrong nothing is lost."""
    whole = dict(each[0])
    for name in ("flops_per_second", "gb_per_second"):
        source = whole.pop(f"{name}_source", None)
        found = [one[name] for one in each if name in one]
        whole.pop(name, None)
        if len(found) == len(each):
            whole |= {name: sum(found), f"{name}_source": f"{source}, summed over {len(each)} ranks"}
    whole["reasons"] = [f"rank {rank}: {reason}" for rank, one in enumerate(each) for reason in one["reasons"]]
    whole["passed"] = all(one["passed"] for one in each)
    return whole


def rank_request(folder: Path) -> dict[str, Any]:
    """In a rank: what is asked."""
    found: dict[str, Any] = json.loads((folder / REQUEST).read_text("utf-8"))
    return found


def tell_launcher(folder: Path) -> Callable[[str], None]:
    """In rank 0: a way to tell the launcher which phase has begun."""
    pipe = os.open(folder / PHASES, os.O_WRONLY)

    def tell(phase: str) -> None:
        with contextlib.suppress(OSError):  # the launcher's end closes this process soon enough
            os.write(pipe, f"{phase}\n".encode())

    return tell


def leave_result(folder: Path, rank: int, result: Result) -> None:
    """In a rank: write its result, whole or not at all."""
    unfinished = folder / f"{rank}.unfinished"
    unfinished.write_text(json.dumps(result), "utf-8")
    unfinished.rename(folder / f"{rank}.json")
