"""Names -> workloads, backends, scenarios: found by file name or entry point, imported on use."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import json
import math
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from bench.case import DTYPES, TASKS, Case, Scalar
from bench.contracts import Backend, Device, Probe, Scenario, Workload
from bench.errors import BUSY, BenchError, CaseFailed, nearest
from bench.record import STATUSES

MEND = "mend or uninstall that package; bench/contracts.py says what is asked of it."


def workload_names() -> list[str]:
    return _names("workloads", "trnbench.workloads")


def backend_names() -> list[str]:
    return _names("bench.backends", "trnbench.backends")


def scenario_names() -> list[str]:
    return _names("bench.scenarios", None)


def load_workload(name: str) -> Workload:
    """Return a workload by name; BenchError names the nearest ones where there is none."""
    found: Workload = _load("workload", name, "workloads", "trnbench.workloads")
    return found


def load_backend(name: str) -> Backend:
    found: Backend = _load("backend", name, "bench.backends", "trnbench.backends")
    return found


def probed(name: str) -> tuple[Backend | None, Probe]:
    """Return a backend and what it finds here; where a package's is broken, None and a Probe that says how."""
    try:
        backend = load_backend(name)
        return backend, backend.probe()
    except BenchError as error:
        return None, Probe(available=False, reason=error.what.removesuffix("."), fix=error.fix.removesuffix("."))


def load_scenario(name: str) -> Scenario:
    found: Scenario = _load("scenario", name, "bench.scenarios", None)
    return found


def load_workload_file(path: str) -> Workload:
    """Return the WORKLOAD of a user's file; BenchError says what is wrong with it.

    The file runs as it is imported, torch and all: the parent asks a child to do it. Files beside it
    can be imported, as if it were run as a script.
    """
    file = Path(path)
    if not file.is_file():
        raise BenchError(f"No workload file {path!r}.", fix="pass the path of a Python file.")
    try:
        spec = importlib.util.spec_from_file_location(f"workload_file_{file_digest(path)}", file)
        if spec is None or spec.loader is None:
            raise ImportError("not a Python file (its name must end in .py)")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        sys.path.append(str(file.resolve().parent))
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
                 if frame.filename == str(file.absolute())]
        where = f" in line {lines[-1]}" if lines else ""
        raise BenchError(f"Workload file {path!r} does not import: {type(error).__name__}{where}: {error}",
                         fix=f"mend the file; `python {path}` shows the whole error.") from error
    found = getattr(module, "WORKLOAD", None)
    if not isinstance(found, Workload):
        raise BenchError(f"Workload file {path!r} has no WORKLOAD = Workload(...).",
                         fix="end the file in WORKLOAD = bench.contracts.Workload(...); the README has one.")
    try:
        wrong = _wrong_in(found)
    except (AttributeError, TypeError) as error:
        wrong = f"{type(error).__name__}: {error}"
    if wrong:
        raise BenchError(f"WORKLOAD of {path!r}: {wrong}.", fix="mend the file; bench/contracts.py says what each is.")
    return found


def _wrong_in(workload: Workload) -> str | None:
    """What would make a case of this workload fail to be planned, or None."""
    names = scenario_names()
    served = [scenario for listed in workload.scenarios.values() for scenario in listed]
    checks = (
        (set(workload.scenarios) - set(TASKS), "scenarios has an unknown task"),
        (set(served) - set(names), f"scenarios has something other than {', '.join(names)}"),
        (set(workload.dtypes) - set(DTYPES), f"dtypes has something other than {', '.join(DTYPES)}"),
        ({key for key in workload.sizes if not isinstance(key, str)}, "sizes has a name that is no text"),
        ({key for key, value in workload.options.items() if not isinstance(value, Scalar)},
         "options has a default that is no number, text or truth value"),
    )
    for wrong, text in checks:
        if wrong:
            return f"{text}: {', '.join(sorted(map(repr, wrong)))}"
    for name in ("scenarios", "dtypes", "sizes"):
        if not getattr(workload, name):
            return f"{name} is empty"
    if workload.default_size not in workload.sizes:
        return f"default_size {workload.default_size!r} is none of sizes: {', '.join(workload.sizes)}"
    return None


def file_digest(path: str) -> str:
    """Sixteen hex digits over a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def workload_of(case: Case) -> Workload:
    """Return the workload that a case names, the user's file included."""
    return load_workload_file(case.workload_file) if case.workload_file else load_workload(case.workload)


def case_for(name: str, workload: Workload, *, backend: str, dtype: str, task: str | None = None,
             scenario: str | None = None, size: str | None = None, options: Mapping[str, Any] | None = None,
             **fields: Any) -> Case:
    """Return a case with every field filled in from the workload's defaults.

    Raises BenchError for a task, size, scenario, dtype or option that the workload does not have.
    """
    task = _one_of(name, "task", task or next(iter(workload.scenarios)), list(workload.scenarios))
    served = list(workload.scenarios[task])
    scenario = _one_of(name, f"{task} scenario", scenario or served[0], served)
    size = _one_of(name, "size", size or workload.default_size, list(workload.sizes))
    _one_of(name, "dtype", dtype, list(workload.dtypes))
    given = {_one_of(name, "option", key, list(workload.options)):
             option_value(f"Option {key} of workload {name!r}", value, workload.options[key])
             for key, value in (options or {}).items()}
    imposed = load_scenario(scenario).batch_size
    batch = fields.pop("batch_size", None)
    if imposed is not None and batch not in (None, imposed):
        raise BenchError(f"Scenario {scenario!r} has batch size {imposed}, not {batch}.",
                         fix="leave --batch-size out, or choose the offline scenario.")
    if fields.get("seq_len") is not None and workload.seq_len is None:
        raise BenchError(f"Workload {name!r} has no sequence length.", fix="leave --seq-len out.")
    fields.setdefault("parallelism", workload.parallelism)
    if fields.get("seq_len") is None:
        fields["seq_len"] = workload.seq_len
    return Case(workload=name, size=size, task=task, scenario=scenario, backend=backend, dtype=dtype,
                batch_size=imposed or (workload.batch_size if batch is None else batch),
                options=dict(workload.options) | given, **fields)


def _one_of(name: str, kind: str, value: str, known: list[str]) -> str:
    if value not in known:
        raise BenchError(f"Workload {name!r} has no {kind} {value!r}.{nearest(value, known)}",
                         fix=f"choose one of: {', '.join(known)}." if known else "leave it out.")
    return value


def option_value(what: str, value: Any, default: Scalar) -> Scalar:
    """Return a setting as one of this default takes it: of its type, though a whole number is a float too."""
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    fits = isinstance(value, Scalar) if default is None else type(value) is type(default)
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}.get(
            type(default), "one plain value")
        raise BenchError(f"{what} takes {kind}, got {value!r}.", fix=f"its default is {default!r}.")
    found: Scalar = value
    return found


def _names(package: str, group: str | None) -> list[str]:
    found = {info.name.replace("_", "-") if group is None else info.name
             for info in pkgutil.iter_modules(importlib.import_module(package).__path__)
             if not info.name.startswith("_")}
    return sorted(found | {e.name for e in _entries(group)})


@functools.cache
def _entries(group: str | None) -> tuple[EntryPoint, ...]:
    """A group's entry points, looked for once: each look reads the metadata of every package, some 10 ms."""
    return tuple(entry_points(group=group)) if group else ()


def _load(kind: str, name: str, package: str, group: str | None) -> Any:
    names = _names(package, group)
    wanted = name if group is None else name.replace("-", "_")
    if wanted not in names:
        wanted = name
    if wanted not in names:
        raise BenchError(f"Unknown {kind} {name!r}.{nearest(name, names)}",
                         fix=f"`trnbench list {kind}s` lists them all.")
    theirs = [entry for entry in _entries(group) if entry.name.replace("-", "_") == wanted.replace("-", "_")]
    ours = wanted.replace("_", "-") in _names(package, None) if theirs else True
    if len(theirs) + ours > 1:
        who = [*(["trnbench itself"] if ours else []), *(f"package {_package(entry)}" for entry in theirs)]
        raise BenchError(f"More than one {kind} is called {name!r}: that of {' and that of '.join(who)}.",
                         fix="uninstall the package, or give what it brings another name.")
    if theirs:
        return _from_outside(kind, theirs[0])
    module = importlib.import_module(f"{package}.{wanted.replace('-', '_')}")
    return getattr(module, kind.upper())


def _from_outside(kind: str, entry: EntryPoint) -> Any:
    """What a package brings, if it is whole; BenchError says what is wrong with it, and whose it is."""
    who = f"{kind} {entry.name!r} of package {_package(entry)}"
    try:
        found: Any = entry.load()
        wrong = _fault_of_backend(found, entry.name) if kind == "backend" else _fault_of_workload(found)
    except (Exception, SystemExit) as error:
        raise BenchError(f"The {who} does not load from {entry.value}: {_in_a_line(error)}.", fix=MEND) from error
    if wrong:
        raise BenchError(f"The {who} {wrong}.", fix=MEND)
    if kind == "backend":
        return _Outside(found, who)
    return dataclasses.replace(found, limits=_checked(found.limits, f"limits() of the {who}", _is_reason))


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _fault_of_workload(found: Any) -> str | None:
    if not isinstance(found, Workload):
        return f"is {type(found).__name__}, not a bench.contracts.Workload"
    wrong = _wrong_in(found) or ("sizes has no 'tiny'" if "tiny" not in found.sizes else None)
    return f"is wrong: {wrong}" if wrong else None


def _fault_of_backend(found: Any, name: str) -> str | None:
    if isinstance(found, type):
        return "is a class: end its file in BACKEND = ThatClass(), and name BACKEND in the entry point"
    lacks = _lacks(found, Backend)
    if lacks:
        return f"has no {', '.join(lacks)}"
    if found.name != name:
        return f"calls itself {found.name!r}: its name and its entry point's must be one"
    if found.tier not in ("measured", "emulated"):
        return f"has tier {found.tier!r}: what is run here is measured, or emulated"
    for key, kind in (("rank", int), ("options", Mapping), ("process_group", str | None)):
        if not isinstance(getattr(found, key), kind):
            return f"has {key} {getattr(found, key)!r}: bench/contracts.py says what it is"
    return None


def _lacks(found: Any, contract: type) -> list[str]:
    """What a contract asks for and `found` has not."""
    asked = [name for name in (*contract.__annotations__, *vars(contract)) if not name.startswith("_")]
    return [name for name in asked if not hasattr(found, name)]


class _Outside:
    """A package's backend: where a method raises, or answers what the contract does not say, the error names it."""

    def __init__(self, backend: Any, who: str) -> None:
        self._backend, self._who = backend, who

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        return _checked(found, f"{name}() of the {self._who}", _ANSWERS[name]) if name in _ANSWERS else found

    def open(self, case: Case, settings: Mapping[str, Any]) -> Device:
        device: Device = self._backend.open(case, settings)
        lacks = _lacks(device, Device)
        if lacks:
            raise CaseFailed("failed", f"open() of the {self._who} gave {type(device).__name__}, which has no "
                                       f"{', '.join(lacks)}")
        return device


def _checked(method: Callable[..., Any], what: str, fits: Callable[[Any], bool]) -> Callable[..., Any]:
    """A method of a package's whose every fault is a BenchError."""

    def call(*args: Any) -> Any:
        try:
            answer = method(*args)
            fit = fits(answer)
        except (BenchError, CaseFailed):
            raise
        except Exception as error:
            raise BenchError(f"{what} fails: {_in_a_line(error)}.", fix=MEND) from error
        if not fit:
            raise BenchError(f"{what} answers {answer!r:.200}: bench/contracts.py allows no such thing.", fix=MEND)
        return answer

    return call


def _in_a_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _is_reason(answer: Any) -> bool:
    return answer is None or (isinstance(answer, str) and answer != "")


def _is_explanation(answer: Any) -> bool:
    return answer is None or (isinstance(answer, tuple) and len(answer) == 2 and answer[0] in (*STATUSES[1:], BUSY)
                              and isinstance(answer[1], str))


def _is_probe(answer: Any) -> bool:
    return isinstance(answer, Probe) and (all("name" in device for device in answer.devices) if answer.available
                                          else bool(answer.reason and answer.fix))


def _are_settings(answer: Any) -> bool:
    """Whether a record can keep them; `json.dumps` raises, and so tells, what it cannot keep."""
    return isinstance(answer, dict) and json.dumps(answer, allow_nan=False) != ""


_ANSWERS: Mapping[str, Callable[[Any], bool]] = {
    "probe": _is_probe, "refuse": _is_reason, "explain": _is_explanation, "fixed": _are_settings,
    "default_dtype": lambda answer: answer in DTYPES,
    "environment": lambda answer: all(isinstance(text, str) for pair in answer.items() for text in pair),
}
