"""Names -> workloads, backends, scenarios: found by file name or entry point, imported on use."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import math
import pkgutil
import sys
import traceback
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from bench.case import DTYPES, TASKS, Case, Scalar
from bench.contracts import Backend, Scenario, Workload
from bench.errors import BenchError, nearest


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
    for entry in _entries(group):
        if entry.name == wanted:
            try:
                return entry.load()
            except Exception as error:
                raise BenchError(f"The {kind} {name!r} does not import from {entry.value}: "
                                 f"{type(error).__name__}: {error}",
                                 fix="mend or uninstall the package that brings it.") from error
    module = importlib.import_module(f"{package}.{wanted.replace('-', '_')}")
    return getattr(module, kind.upper())
