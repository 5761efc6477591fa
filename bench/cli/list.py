"""`trnbench list`: what there is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from bench.errors import BenchError, nearest

Rows = list[dict[str, Any]]

WHOLE = ("chip", "instance", "as_of")
"""Columns of names to be copied, which no line end may part."""


@click.command("list")
@click.argument("kind", default="workloads", metavar="[workloads|backends|scenarios|suites|chips|instances|claims]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(kind: str, as_json: bool) -> None:
    """Show what there is: workloads (the default), backends, scenarios, suites, chips, instances, claims.

    \b
    trnbench list
    trnbench list backends --json
    trnbench list chips
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
        table.add_column(name.replace("_", " "), overflow="fold", no_wrap=name in WHOLE)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    out = Console()
    wide = out if out.is_terminal else Console(width=Console(width=10_000).measure(table).maximum)
    wide.print(table)  # a pipe has no edge to fold at, and `grep` wants a line a row


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(one)}" for key, one in value.items())
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return "" if value is None else str(value)


def _workloads() -> Rows:
    from bench.registry import workload_names

    return [_workload(name) for name in workload_names()]


def _workload(name: str) -> dict[str, Any]:
    """A workload's row; of a package's that is broken, what is wrong with it."""
    from bench.registry import load_workload

    try:
        found = load_workload(name)
    except BenchError as error:
        return {"workload": name, "sizes": [], "tasks": [], "options": [], "summary": f"{error.what} {error.fix}"}
    return {"workload": name, "sizes": list(found.sizes),
            "tasks": [f"{task}: {', '.join(scenarios)}" for task, scenarios in found.scenarios.items()],
            "options": [f"{key}={value}" for key, value in found.options.items()], "summary": found.summary}


def _backends() -> Rows:
    from bench.registry import backend_names, probed

    rows = []
    for name in backend_names():
        backend, probe = probed(name)
        devices = ", ".join(str(device.get("name")) for device in probe.devices)
        rows.append({"backend": name, "available": "yes" if probe.available else "no",
                     "devices": devices or f"{probe.reason}; {probe.fix}", "tier": backend and backend.tier})
    return rows


def _scenarios() -> Rows:
    from bench.registry import load_scenario, scenario_names

    return [{"scenario": name, "tasks": list(load_scenario(name).tasks), "summary": load_scenario(name).summary}
            for name in scenario_names()]


def _suites() -> Rows:
    from bench.suites import SUITES

    return [{"suite": name, "summary": summary} for name, summary in SUITES.items()]


def _chips() -> Rows:
    """Dense peaks of a whole chip, those that are published."""
    from bench.catalog.chips import chips

    rows = []
    for one in chips():
        tera = {dtype: round(peak / 1e12, 6) for dtype, peak in one.peak_flops_per_second.items()}
        int8 = tera.pop("int8", None)
        rows.append({"chip": one.id, "memory_gib": one.memory_gib,
                     "gb_per_second": one.memory_bandwidth_gb_per_second, "dense_tflops": tera,
                     "int8_tops": int8, "as_of": one.as_of.isoformat()})
    return rows


def _instances() -> Rows:
    """With the newest on-demand price: of us-east-1, else of the region where it is lowest."""
    from bench.catalog.instances import instances
    from bench.catalog.prices import load_book

    book, rows = load_book(), []
    for one in instances():
        price = book.quote(one.type, "on-demand").price
        rows.append({"instance": one.type, "provider": one.provider,
                     "chips": f"{one.chips} x {one.chip}" if one.chip else None, "vcpus": one.vcpus,
                     "memory_gib": one.memory_gib, "on_demand_usd_per_hour": price and price.usd_per_hour,
                     "region": price and price.region, "as_of": price and price.as_of.isoformat()})
    return rows


def _claims() -> Rows:
    from bench.catalog.claims import shipped_claims

    return [{"claim": one.id, "title": one.title, "scope": one.scope, "claimed_by": one.source["publisher"],
             "date": one.source.get("date")} for one in shipped_claims()]


KINDS: dict[str, Callable[[], Rows]] = {"workloads": _workloads, "backends": _backends,
                                        "scenarios": _scenarios, "suites": _suites, "chips": _chips,
                                        "instances": _instances, "claims": _claims}
