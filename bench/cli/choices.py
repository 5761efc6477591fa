"""The options that say what to run, shared by `run` and `ab`, and the plan they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from bench.case import DTYPES, PARALLELISM, TASKS, Effort
from bench.contracts import Backend, Workload
from bench.errors import BenchError, nearest
from bench.suites import Planned

F = TypeVar("F", bound=Callable[..., Any])


class ListOf(click.ParamType):
    """`1,2,4` as a list."""

    def __init__(self, kind: Callable[[str], Any], name: str, known: Sequence[str] = (), *,
                 example: str = "1,8,32") -> None:
        self.kind, self.name, self.known, self.example = kind, name, known, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
        try:
            found = [self.kind(str(part).strip()) for part in parts if str(part).strip()]
        except ValueError:
            self.fail(f"{value!r} is not a list of {self.name}, such as {self.example}", param, ctx)
        if not found:
            self.fail(f"{value!r} names no {self.name}", param, ctx)
        for part in found:
            if self.known and part not in self.known:
                self.fail(f"{part!r} is not known.{nearest(part, self.known)} "
                          f"Choose from {', '.join(self.known)}.", param, ctx)
        return found


class Pair(click.ParamType):
    """`key=value`, the value read as YAML reads it (8 is a number, true a truth value), or left as text."""

    name = "k=v"

    def __init__(self, *, text: bool = False) -> None:
        self.text = text

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        import yaml

        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not (key and equals):
            self.fail(f"{value!r} is not of the form key=value", param, ctx)
        if self.text:
            return key, text
        try:
            read = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        return key, float(text) if isinstance(read, str) and _is_number(text) else read  # YAML: "1e-3" is a text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def parallelism(text: str) -> str:
    """`dp=N` or `fsdp=N`; ValueError for anything else."""
    if not PARALLELISM.fullmatch(text):
        raise ValueError(text)
    return text


_CASE_OPTIONS = [
    click.argument("workloads", nargs=-1),
    click.option("--suite", metavar="NAME", help="A named list of cases: smoke, quick, standard or full."),
    click.option("--workload-file", type=click.Path(), multiple=True,
                 help="A Python file of yours that ends in WORKLOAD = Workload(...)."),
    click.option("--backend", default="auto", show_default=True, help="See `trnbench list backends`."),
    click.option("--task", type=ListOf(str, "tasks", TASKS), help="inference, training or both."),
    click.option("--scenario", type=ListOf(str, "scenarios"), help="See `trnbench list scenarios`."),
    click.option("--size", type=ListOf(str, "sizes"), help="Model sizes, e.g. tiny,base; `all` is every size."),
    click.option("--dtype", type=ListOf(str, "dtypes", DTYPES),
                 help="Number formats, e.g. fp32,bf16. Default: the fastest that the chip has in hardware."),
    click.option("--batch-size", type=ListOf(int, "batch sizes"), help="e.g. 1,8,32."),
    click.option("--seq-len", type=ListOf(int, "sequence lengths"), help="Tokens; of the prompt in generation."),
    click.option("--compile/--no-compile", "compiling", default=None,
                 help="The backend's compiler on or off. Default: a short trial decides."),
    click.option("--compile-mode", metavar="MODE", help="One of the backend's compile modes by name."),
    click.option("--threads", default="auto", show_default=True, help="Host threads, or auto: a short trial."),
    click.option("--parallelism", type=ListOf(parallelism, "parallelisms", example="dp=1,dp=2"),
                 help="dp=N: training on N devices (a batch each, gradients averaged), inference as N streams side by "
                      "side. dp=1,dp=N also gives the scaling efficiency.  [default: dp=1]"),
    click.option("--cores", type=click.IntRange(min=1), metavar="N",
                 help="The same as --parallelism dp=N: one process a core, all at once."),
    click.option("--shard", type=click.Choice(["none", "fsdp"]), default="none", show_default=True,
                 help="Training on several devices: a whole model on each (DDP), or a shard of it (FSDP2)."),
    click.option("--option", "options", type=Pair(), multiple=True,
                 help="A setting of the workload's own, e.g. new_tokens=128."),
    click.option("--backend-option", "backend_options", type=str, multiple=True,
                 help="A setting of the backend's own: k=v, or a YAML file of them."),
    click.option("--weights", type=click.Path(), help="A local checkpoint to load: safetensors, or a "
                 "transformers folder."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of weights and inputs."),
]


def case_options(command: F) -> F:
    """Add the options that say what to run."""
    for option in reversed(_CASE_OPTIONS):
        command = option(command)
    return command


def effort_options(repeats: int | None, max_seconds: float | None) -> Callable[[F], F]:
    """Add the options that say how long to look; None leaves the default to the suite."""
    defaults = Effort()

    def add(command: F) -> F:
        for option in reversed([
            click.option("--repeats", type=int, default=repeats,
                         help=f"Fresh processes a case.  [default: {repeats or defaults.repeats}]"),
            click.option("--max-seconds", type=float, default=max_seconds,
                         help="Timed seconds a process at most.  "
                              f"[default: {max_seconds or defaults.max_seconds:g}]"),
            click.option("--timeout", type=float, default=defaults.timeout_s, show_default=True,
                         help="Wall seconds after which a process counts as hung."),
        ]):
            command = option(command)
        return command

    return add


def plan_from(params: Mapping[str, Any]) -> tuple[list[Planned], Mapping[str, float]]:
    """Return the cases that these options ask for, and the effort that the suite suggests.

    Raises BenchError for anything unknown, or where nothing was asked for.
    """
    from bench import suites
    from bench.registry import load_workload

    backend = backend_of(params["backend"])
    entries: list[tuple[str, Workload, Mapping[str, Any]]] = []
    effort: Mapping[str, float] = {}
    if params["suite"]:
        wanted = suites.suite(params["suite"])
        effort = wanted.effort
        keep = params["workloads"]
        names = sorted({name for name, _ in wanted.entries})
        for name in keep:
            if name not in names:
                raise BenchError(f"Suite {params['suite']!r} has no workload {name!r}.{nearest(name, names)}",
                                 fix=f"it has: {', '.join(names)}.")
        entries += [(name, load_workload(name), options) for name, options in wanted.entries
                    if not keep or name in keep]
    else:
        entries += [(name, load_workload(name), {}) for name in params["workloads"]]
    for path in params["workload_file"]:
        found = _workload_of_file(path, params.get("timeout") or Effort().timeout_s)
        entries.append((Path(path).stem, found, {"workload_file": path}))
    if not entries:
        raise BenchError("Nothing to run.", fix="name a workload (`trnbench list workloads`) or a suite: "
                                                "`trnbench run --suite quick`.")
    return _crossed(entries, backend, params), effort


def _crossed(entries: Sequence[tuple[str, Workload, Mapping[str, Any]]], backend: Backend,
             params: Mapping[str, Any]) -> list[Planned]:
    from bench import suites
    from bench.registry import file_digest

    fixed = {"compile": _compile_of(params), "threads": _threads_of(params["threads"]), "seed": params["seed"],
             "backend_options": _backend_options(backend, params),
             "options": dict(params["options"])}
    if params["weights"]:
        from bench.weights import weights_digest

        fixed |= {"weights": params["weights"], "weights_sha256": weights_digest(params["weights"])}
    chosen = {key: params[key] for key in ("task", "scenario", "size", "dtype", "batch_size", "seq_len")}
    chosen["parallelism"] = _parallelisms(params)
    planned: list[Planned] = []
    for name, workload, options in entries:
        own = dict(options)
        if "workload_file" in own:
            own["workload_sha256"] = file_digest(own["workload_file"])
        lists = chosen | ({"size": list(workload.sizes)} if chosen["size"] == ["all"] else {})
        planned += suites.plan([(name, workload, own)], backend, lists, fixed)
    return planned


def backend_of(name: str) -> Backend:
    """The named backend, or for "auto" the best one that is here; BenchError says why one is not.

    A package's that is broken is passed over by "auto", with a line on stderr.
    """
    from bench.registry import backend_names, load_backend, probed

    if name == "auto":
        found = [probed(one) for one in backend_names()]
        for text in [probe.reason for backend, probe in found if backend is None]:
            click.echo(f"passed over: {text}", err=True)
        here = [backend for backend, probe in found if backend and backend.rank >= 0 and probe.available]
        if not here:
            raise BenchError("No backend is left that could run anything.", fix="mend what was passed over.")
        chosen = max(here, key=lambda b: b.rank)
        for text in _unused() if chosen.rank <= 0 else ():
            click.echo(f"measuring on {chosen.name}: no backend can use the {text} plugged in here; `trnbench doctor` "
                       "says why", err=True)
        return chosen
    backend = load_backend(name)
    probe = backend.probe()
    if not probe.available:
        raise BenchError(f"Backend {name!r} is not available: {probe.reason}",
                         fix=probe.fix or "`trnbench doctor` says what is.")
    return backend


def _unused() -> list[str]:
    """Accelerators that are plugged in, such as "8 x NVIDIA H100 80GB HBM3"."""
    from bench.machine.accelerators import accelerators

    return [f"{one['count']} x {one['name'] or one['kind']}" for one in accelerators()["kinds"] or ()
            if one["kind"] != "other"]


def _workload_of_file(path: str, timeout_s: float) -> Workload:
    """A user's workload as far as planning needs it; the file itself is imported by a child."""
    from bench.errors import CaseFailed
    from bench.runner import converse_plainly

    if not Path(path).is_file():
        raise BenchError(f"No workload file {path!r}.", fix="pass the path of a Python file.")
    answer = converse_plainly({"role": "describe", "path": path, "scratch": ""}, timeout_s)
    if answer["status"] != "valid":
        what, _, fix = answer["reason"].partition("\n  To fix: ")
        what = what if path in what else f"Workload file {path!r}: {what}"
        raise BenchError(what, fix=fix or "run the file by itself to see what is wrong.")

    def in_the_child(*_: Any) -> Any:
        raise CaseFailed("failed", "a user's workload is built in a child process only")

    return Workload(**answer["facts"], build=in_the_child, work=in_the_child)


def _compile_of(params: Mapping[str, Any]) -> str:
    if params["compile_mode"]:
        return str(params["compile_mode"])
    return {None: "auto", True: "on", False: "off"}[params["compiling"]]


def _parallelisms(params: Mapping[str, Any]) -> list[str] | None:
    """What --parallelism, --cores and --shard say together; one device first, which the others are held against."""
    asked = params["parallelism"]
    if params["cores"]:
        if asked:
            raise BenchError("--cores and --parallelism say the same thing.", fix="pass one of them.")
        asked = [f"dp={params['cores']}"]
    if not asked:
        return None
    kind = "fsdp" if params["shard"] == "fsdp" else None
    wanted = [f"{kind or name}={count}" if count != "1" else "dp=1"
              for name, _, count in (one.partition("=") for one in asked)]
    return sorted(set(wanted), key=lambda one: int(one.partition("=")[2]))


def _threads_of(text: str) -> int | str:
    if text == "auto":
        return text
    if not str(text).isdigit() or int(text) < 1:
        raise BenchError(f"--threads must be auto or a number above 0, got {text!r}.", fix="pass --threads 2, say.")
    return int(text)


def _backend_options(backend: Backend, params: Mapping[str, Any]) -> dict[str, Any]:
    """The backend's own settings, from k=v and YAML files; BenchError for one that it does not have."""
    import yaml

    from bench.registry import option_value

    found: dict[str, Any] = {}
    for text in params["backend_options"]:
        if "=" in text:
            key, value = Pair().convert(text, None, None)
            found[key] = value
            continue
        try:
            read = yaml.safe_load(Path(text).read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise BenchError(f"Cannot read backend options {text!r}: {error}", fix="pass k=v or a YAML file.") from None
        if not isinstance(read, dict):
            raise BenchError(f"{text!r} holds no settings.", fix="write one `key: value` a line.")
        found |= read
    known = list(backend.options)
    for key, value in found.items():
        if key not in known:
            raise BenchError(f"Backend {backend.name!r} has no option {key!r}.{nearest(str(key), known)}",
                             fix=f"it has: {', '.join(known) or 'none'}.")
        found[key] = option_value(f"Backend option {key}", value, backend.options[key])
    return found
