"""`--config run.yaml`: every option of a command, by its long name, as a default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bench.errors import BenchError, nearest


def config_option() -> Any:
    """The option itself; the command line and TRNBENCH_... variables stand above the file."""
    return click.option("--config", type=click.Path(), is_eager=True, expose_value=False, callback=_load,
                        help="A YAML file with any of these options: `batch-size: [1, 8]`.")


def _load(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    if path is None:
        return
    import yaml

    try:
        read = yaml.safe_load(Path(path).read_text("utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BenchError(f"Cannot read config {path!r}: {error}", fix="pass a readable YAML file.") from None
    if not isinstance(read, dict):
        raise BenchError(f"Config {path!r} holds no options.", fix="write one `option: value` a line.")
    names = _names(ctx.command)
    defaults = {}
    for key, value in read.items():
        wanted = str(key).replace("_", "-")
        if wanted not in names:
            raise BenchError(f"Config {path!r} has an unknown option {key!r}.{nearest(wanted, list(names))}",
                             fix=f"options are: {', '.join(sorted(names))}.")
        defaults[names[wanted]] = _as_given(ctx.command, names[wanted], value)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _names(command: click.Command) -> dict[str, str]:
    """Long option (or argument) name -> parameter name."""
    found = {}
    for param in command.params:
        if param.name and param.name != "config":
            for opt in param.opts:
                found[opt.lstrip("-").replace("_", "-")] = param.name
    return found


def _as_given(command: click.Command, name: str, value: Any) -> Any:
    """A YAML value as the option takes it: mappings as k=v pairs, single values of repeatable ones as lists."""
    param = next(p for p in command.params if p.name == name)
    repeatable = getattr(param, "multiple", False) or param.nargs == -1
    if repeatable and isinstance(value, dict):
        return [f"{k}={v if isinstance(v, str) else json.dumps(v, default=str)}" for k, v in value.items()]
    if repeatable and not isinstance(value, (list, tuple)):
        return [value]
    if not repeatable and isinstance(value, list):
        return ",".join(map(str, value))
    return value
