"""The parent: launches a case's children one after the other, watches them asleep, makes the record."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine, parallel
from bench.case import Case, Effort
from bench.errors import BUSY, HOST_OOM
from bench.machine import memory
from bench.machine.noise import load_noise_floor
from bench.measure.canary import NAME
from bench.measure.summarise import metrics_of
from bench.record import PHASES, Metric, Record, RecordError
from bench.registry import load_backend
from bench.scaling import Find, with_scaling

STDERR_LINES = 200
AGAIN_AFTER_S = 10.0  # where the device was busy: the driver may take a while to free what a dead process held
SMALLER = "try a smaller --batch-size or --size"
Tell = Callable[[str], None]


def _silent(message: str) -> None:
    """Progress that nobody watches."""


class Interrupted(KeyboardInterrupt):
    """The user stopped a case; `record` holds what its finished children measured."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


class Stop:
    """Ctrl-C and SIGTERM, inside `with`: they end the wait for a child, and nothing else half-way.

    At any other time (a record being made or stored) they are only noted, and end the next wait.
    One that is ignored (a shell's `&` ignores Ctrl-C) stays ignored.
    """

    def __init__(self) -> None:
        self.wanted, self._waits = False, False

    def __enter__(self) -> Stop:
        self._before = [(number, signal.signal(number, self._note)) for number in (signal.SIGINT, signal.SIGTERM)
                        if signal.getsignal(number) is not signal.SIG_IGN]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def _note(self, *_: object) -> None:
        self.wanted = True
        if self._waits:
            self._waits = False
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def ends_this(self) -> Iterator[None]:
        self._waits = True
        try:
            if self.wanted:
                raise KeyboardInterrupt
            yield
        finally:
            self._waits = False


@dataclass(slots=True, kw_only=True)
class Session:
    """What the runs of one command share: the effort, the machine and the labels of its records."""

    effort: Effort
    labels: Mapping[str, str] = field(default_factory=dict)
    instance_type: str | None = None
    tell: Tell = _silent
    find: Find = lambda case_id: None
    stop: Stop = field(default_factory=Stop)
    machine: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machine = self.machine or machine.describe(instance_type=self.instance_type)


def run_case(case: Case, session: Session, refused: str | None = None) -> Record:
    """Measure a case in fresh children and return its record, whatever becomes of them.

    `refused`: why the plan found it impossible; then no child is started.

    First a scout (the float32 reference, the `auto` choices), then `repeats` children, all with the
    same settings. A child that fails ends the case, with what the others measured kept. Raises
    Interrupted, with the record, when the user stops it.
    """
    backend, effort = load_backend(case.backend), session.effort
    started_at, children = _now(), []
    found: dict[str, Any] = {"settings": backend.fixed(case)}
    refused = refused or backend.refuse(case) or parallel.refuse(case, backend)
    if refused:
        return _record(case, session, started_at, found, [{"status": "unsupported", "reason": refused}])
    interrupted = False
    with scratch_folder() as scratch:
        try:
            scout = ask({"role": "scout", "case": case.to_json(), "settings": found["settings"]}, case, session,
                        found["settings"], scratch, "preparing")
            found |= scout
            for index in range(effort.repeats if scout["status"] == "valid" else 0):
                request = {"role": "measure", "case": case.to_json(), "settings": found["settings"],
                           "full": index == 0}
                children.append(ask(request, case, session, found["settings"], scratch,
                                    f"child {index + 1} of {effort.repeats}", index=index))
                if children[-1]["status"] != "valid":
                    break
        except KeyboardInterrupt:
            interrupted = True
    record = with_scaling(_record(case, session, started_at, found, children, interrupted=interrupted), session.find)
    if interrupted:
        raise Interrupted(record)
    return record


def compile_case(case: Case, session: Session) -> dict[str, Any]:
    """Compile a case in one child that times nothing, so that the cache its backend keeps is warm.

    Returns the child's result: `status` and `reason`, `compile`, `phases_s`. It compiles with the settings that
    `auto` starts from. KeyboardInterrupt when the user stops it.
    """
    backend = load_backend(case.backend)
    settings, refused = backend.fixed(case), backend.refuse(case) or parallel.refuse(case, backend)
    if refused:
        return {"status": "unsupported", "reason": refused}
    with scratch_folder() as scratch:
        return ask({"role": "compile", "case": case.to_json(), "settings": settings}, case, session, settings, scratch,
                   "compiling")


@contextlib.contextmanager
def scratch_folder() -> Iterator[str]:
    """A folder for one record's reference and compile caches: empty at first, so that cold is cold."""
    path = tempfile.mkdtemp(prefix="trnbench-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def ask(request: dict[str, Any], case: Case, session: Session, settings: Mapping[str, Any], scratch: str,
        what: str, *, index: int = 0) -> dict[str, Any]:
    """Run one child for one request and return its result, with `wall_s` and the ledger `phases_s`.

    However the child ends, there is a result: `status` timeout, oom or failed with a reason where
    it could not answer itself. Where the device was busy a second child tries once more, and a warning says so.
    """
    result = _asked(request, case, session, settings, scratch, what, index)
    if result["status"] != BUSY:
        return result
    session.tell(f"{case.label}: {what}: the device is busy, once more in {AGAIN_AFTER_S:g} s")
    with session.stop.ends_this():
        time.sleep(AGAIN_AFTER_S)
    again = _asked(request, case, session, settings, scratch, what, index)
    warnings = [f"tried once more after {AGAIN_AFTER_S:g} s: {result['reason']}", *again.get("warnings", [])]
    return again | {"warnings": warnings, "status": "failed" if again["status"] == BUSY else again["status"]}


def _asked(request: dict[str, Any], case: Case, session: Session, settings: Mapping[str, Any], scratch: str,
           what: str, index: int) -> dict[str, Any]:
    """One child and its result."""
    backend, effort = load_backend(case.backend), session.effort
    caches = Path(scratch) / request["role"]  # what the scout compiled must not make the first child's cache warm
    caches.mkdir(exist_ok=True)
    environment = _environment() | dict(backend.environment(case, settings, str(caches)))
    environment["TRNBENCH_CHILD"] = str(index)

    def tell(phase: str) -> None:
        session.tell(f"{case.label}: {what}: {phase}")

    answer = converse(request | {"effort": effort.to_json(), "scratch": scratch}, environment,
                      effort.timeout_s, tell, session.stop)
    result = answer["result"]

    def explain(text: str) -> tuple[str, str] | None:
        return backend.explain(text) or _explain_host(text)

    if result is None:
        result = _died(answer, effort.timeout_s, explain)
    elif result["status"] != "valid":
        result |= {"stderr": answer["stderr"].strip()}
        if result["status"] == "failed" and (known := explain("\n".join([*_said(result), answer["stderr"]]))):
            whose = NAME if NAME in result["reason"] else ""
            result |= {"status": known[0], "reason": f"{whose}{known[1]}"}
    return result | {"wall_s": answer["wall_s"], "phases_s": result.get("phases_s", {})}


def converse_plainly(request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Ask a child something that is no case's business, say what a user's workload file holds."""
    answer = converse(request, _environment(), timeout_s)
    result: dict[str, Any] | None = answer["result"]
    return result if result is not None else _died(answer, timeout_s, _explain_host)


def converse(request: dict[str, Any], environment: Mapping[str, str], timeout_s: float,
             tell: Tell = _silent, stop: Stop | None = None) -> dict[str, Any]:
    """Spawn a worker, hand it the request, sleep until it answers, the time is up or `stop` is wanted.

    The child leads a process group of its own, which is killed whole at the end, so that no compiler
    outlives it. Returns {"result" or None, "returncode", "timed_out", "phase" (the last that it was in),
    "oom_killed", "stderr", "wall_s"}.
    """
    ooms = memory.oom_kills()
    with tempfile.TemporaryFile() as errors:
        started_ns = time.monotonic_ns()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.worker"], env=dict(environment), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
        assert process.stdin is not None
        assert process.stdout is not None
        result, timed_out, phase = None, False, "start"
        try:
            with contextlib.suppress(BrokenPipeError):  # a child dead already says why on stderr
                process.stdin.write(json.dumps(request | {"started_ns": started_ns, "parent": os.getpid()}).encode())
                process.stdin.close()
            for line in _lines(process.stdout.fileno(), started_ns + int(timeout_s * 1e9), stop or Stop()):
                message = json.loads(line)
                if message["event"] == "result":
                    result = message["result"]
                    break  # what the child has forked may hold the pipe open
                phase = message["phase"]
                tell(phase)
        except TimeoutError:
            timed_out = True
        finally:
            if result is None:
                _kill(process)
            returncode = process.wait()
            wall_s = (time.monotonic_ns() - started_ns) / 1e9
            _kill(process)
            process.stdout.close()
        errors.seek(0)
        stderr = errors.read().decode("utf-8", "replace").splitlines()[-STDERR_LINES:]
    return {"result": result, "returncode": returncode, "timed_out": timed_out, "phase": phase,
            "stderr": "\n".join(stderr), "wall_s": wall_s,
            "oom_killed": returncode == -signal.SIGKILL and memory.oom_kills() != ooms}


def _lines(descriptor: int, deadline_ns: int, stop: Stop) -> Iterator[bytes]:
    """Yield whole lines until the writer closes; asleep in between. TimeoutError past the deadline."""
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            with stop.ends_this():
                ready = selector.select(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9))
            if not ready:
                raise TimeoutError
            block = os.read(descriptor, 1 << 16)
            if not block:
                return
            *lines, text = (text + block).split(b"\n")
            yield from lines


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # gone already, all of it
        os.killpg(process.pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    """The parent's variables, and those that every child needs: this package, no hub, no chatter."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
                         "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}


def _said(result: Mapping[str, Any]) -> list[str]:
    """A failed child's reason, and the exceptions that its own came from: what torch wraps says more than torch."""
    raised = [line for line in result.get("traceback", "").splitlines()
              if line[:1].strip() and line != "Traceback (most recent call last):"]
    return [result["reason"], *raised]


def _died(answer: dict[str, Any], timeout_s: float,
          explain: Callable[[str], tuple[str, str] | None]) -> dict[str, Any]:
    """The result of a child that gave none."""
    tail = answer["stderr"].strip()
    if answer["timed_out"]:
        return {"status": "timeout", "stderr": tail,
                "reason": f"no answer within {timeout_s:g} s (in phase {answer['phase']}): it hung, or needs a longer "
                          "--timeout"}
    known = explain(answer["stderr"])
    if known:
        return {"status": known[0], "reason": known[1], "stderr": tail}
    code, words = answer["returncode"], tail.rpartition("\n")[2][-300:] or "none"
    if answer["oom_killed"]:
        return {"status": "oom", "reason": f"the kernel killed it, as memory ran out: {SMALLER}", "stderr": tail}
    if code == -signal.SIGKILL:
        reason = f"killed by SIGKILL, by hand or for a limit on memory: if for memory, {SMALLER}"
    elif code < 0:
        reason = f"died of {signal.Signals(-code).name}; last words: {words}"
    else:
        reason = f"ended with exit code {code} and no answer; last words: {words}"
    return {"status": "failed", "reason": reason, "stderr": tail}


def _explain_host(text: str) -> tuple[str, str] | None:
    """Host memory that ran out, whatever the device."""
    line = next((line for line in reversed(text.splitlines()) if any(sign in line for sign in HOST_OOM)), None)
    return ("oom", f"host memory ran out: {SMALLER}. {line.strip()[:300]}") if line else None


def _record(case: Case, session: Session, started_at: str, scout: Mapping[str, Any],
            children: list[dict[str, Any]], *, interrupted: bool = False) -> Record:
    """Put a record together from the scout's and the children's results."""
    everyone = ([dict(scout)] if "wall_s" in scout else []) + children
    good = [child for child in children if child["status"] == "valid"]
    status, reasons, warnings = _verdict(everyone, session.effort.repeats, interrupted=interrupted)
    metrics: list[Metric] = []
    parity = _parity(scout, good)
    if good:
        try:
            metrics, impossible = metrics_of(case, good)
        except (ArithmeticError, ValueError) as error:  # the raw times are kept, whatever is wrong with them
            impossible = [f"no metrics follow from these times: {error}"]
        reasons += impossible + _broken(good, parity)
        status = "invalid" if status == "valid" and reasons else status
    first = good[0] if good else {}
    backend = load_backend(case.backend)
    record = Record(
        run_id=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{case.id}-{secrets.token_hex(2)}", case=case,
        started_at=started_at, ended_at=_now(), status=status, reasons=tuple(reasons), warnings=tuple(warnings),
        tier=backend.tier, tool=machine.tool(),
        machine=session.machine | {"noise_floor": None if backend.tier == "emulated" else
                                   load_noise_floor(session.machine["name"], case.backend)},
        effort=session.effort.to_json(),
        settings=dict(scout["settings"]), tuning=dict(scout.get("tuning", {})),
        phases_s={phase: sum(child["phases_s"].get(phase, 0.0) for child in everyone if "phases_s" in child)
                  for phase in PHASES},
        wall_s=sum(child.get("wall_s", 0.0) for child in everyone), compile=first.get("compile", {}),
        work=dict(first.get("work") or scout.get("work") or {}), samples=_samples(good), metrics=tuple(metrics),
        memory=max((child["memory"] for child in good), key=lambda m: m["peak_bytes"] or 0, default={}),
        energy=first.get("energy", {}), parity=parity, canary=first.get("canary", {}),
        fallbacks=first.get("fallbacks", {}), device=first.get("device", {}),
        children=tuple(_kept(role, child) for role, child in _roles(scout, children)), labels=dict(session.labels))
    return _readable(record, case, session, scout, good) if good else record


def _readable(record: Record, case: Case, session: Session, scout: Mapping[str, Any],
              good: list[dict[str, Any]]) -> Record:
    """The record; where it could not be read again, one that says why in place of what its children said."""
    try:
        Record.from_json(record.to_json())
    except RecordError as error:
        failed = {"status": "failed", "reason": f"what the backend or the workload states fits no record: {error}"}
        times = ("phases_s", "wall_s")
        return _record(case, session, record.started_at, {key: scout[key] for key in scout if key != "work"},
                       [failed | {key: child[key] for key in times} for child in good])
    return record


def _verdict(everyone: list[dict[str, Any]], repeats: int, *,
             interrupted: bool) -> tuple[str, list[str], list[str]]:
    """The status that the processes themselves give, with reasons, and warnings that void nothing."""
    warnings = []
    for number, child in enumerate(everyone):
        name = f"child {number} of {repeats}"
        warnings += [f"{name}: {text}" for text in child.get("warnings", [])]
        if child.get("disturbance", {}).get("disturbed"):
            warnings.append(f"{name} was disturbed: {', '.join(child['disturbance']['why'])}")
        if child.get("warmup", {}).get("steady") is False:
            warnings.append(f"{name} was timed before it ran steadily: warm-up took all of its time")
    for number, child in enumerate(everyone):
        if child["status"] != "valid":
            which = f"child {number} of {repeats}: " if number else ""
            return child["status"], [which + child["reason"]], warnings
    if interrupted:
        measured = sum("samples_ns" in child for child in everyone)
        return "interrupted", [f"stopped by the user after {measured} of {repeats} children"], warnings
    return "valid", [], warnings


def _parity(scout: Mapping[str, Any], good: list[dict[str, Any]]) -> dict[str, Any]:
    """The worst child's parity; unchecked, with the scout's reason, where there was no reference."""
    if scout.get("parity", {}).get("status") == "unchecked":
        return dict(scout["parity"])
    failed = [child["parity"] for child in good if child["parity"]["status"] != "passed"]
    return dict((failed or [child["parity"] for child in good] or [{}])[0])


def _broken(good: list[dict[str, Any]], parity: Mapping[str, Any]) -> list[str]:
    """Truth checks that did not hold."""
    reasons = [f"parity: {parity['reason']}"] if parity.get("status") == "failed" else []
    for child in good:
        reasons += [f"canary: {reason}" for reason in child["canary"]["reasons"]
                    if f"canary: {reason}" not in reasons]
    return reasons


def _samples(good: list[dict[str, Any]]) -> dict[str, Any]:
    if not good:
        return {}
    names = good[0]["series_ns"]
    return {"unit": "ns", "steps_per_round": [child["steps_per_round"] for child in good],
            "children": [child["samples_ns"] for child in good],
            **({"streams": [child["streams"] for child in good]} if "streams" in good[0] else {}),
            "series": {name: [child["series_ns"][name] for child in good] for name in names}}


def _roles(scout: Mapping[str, Any], children: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "wall_s" in scout:
        yield "scout", dict(scout)
    for child in children:
        yield "measure", child


def _kept(role: str, child: dict[str, Any]) -> dict[str, Any]:
    """A child as its record keeps it: without what the record says once for all."""
    elsewhere = ("samples_ns", "series_ns", "work", "settings", "tuning", "device", "steps_per_round", "streams",
                 "stream", "failed_at_ns")
    return {"role": role} | {key: value for key, value in child.items() if key not in elsewhere}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
