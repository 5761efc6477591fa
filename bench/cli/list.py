"""`trnbench list`: what there is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from bench.errors import BenchError, nearest

Rows = list[dict[str, Any]]


@click.command("list")
@click.argument("kind", default="workloads", metavar="[workloads|backends|scenarios|suites]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(kind: str, as_json: bool) -> None:
    """Show what there is: workloads (the default), backends, scenarios or suites.

    \b
    trnbench list
    trnbench list backends --json
    """
    if kind not in KINDS:
        raise BenchError(f"Nothing called {kind!r} to list.{nearest(kind, list(KINDS))}",
                         fix=f"choose one of: {', '.join(KINDS)}.")
    rows = KINDS[kind]()
    if as_json:
        click.echo(json.dumps(rows))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _workloads() -> Rows:
    from bench.registry import load_workload, workload_names

    loaded = [(name, load_workload(name)) for name in workload_names()]
    return [{"workload": name, "sizes": list(found.sizes),
             "tasks": [f"{task}: {', '.join(scenarios)}" for task, scenarios in found.scenarios.items()],
             "options": [f"{key}={value}" for key, value in found.options.items()], "summary": found.summary}
            for name, found in loaded]


def _backends() -> Rows:
    from bench.registry import backend_names, load_backend

    rows = []
    for name in backend_names():
        probe = load_backend(name).probe()
        devices = ", ".join(str(device.get("name")) for device in probe.devices)
        rows.append({"backend": name, "available": "yes" if probe.available else "no",
                     "devices": devices or f"{probe.reason}; {probe.fix}", "tier": load_backend(name).tier})
    return rows


def _scenarios() -> Rows:
    from bench.registry import load_scenario, scenario_names

    return [{"scenario": name, "tasks": list(load_scenario(name).tasks), "summary": load_scenario(name).summary}
            for name in scenario_names()]


def _suites() -> Rows:
    from bench.suites import SUITES

    return [{"suite": name, "summary": summary} for name, summary in SUITES.items()]


KINDS: dict[str, Callable[[], Rows]] = {"workloads": _workloads, "backends": _backends,
                                        "scenarios": _scenarios, "suites": _suites}
