"""`trnbench doctor`: what this machine can run, and how well it can be timed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bench.errors import NOTHING_VALID, BenchError

if TYPE_CHECKING:
    from bench.case import Case
    from bench.contracts import Backend
    from bench.record import Record

RUNS = 5
RUN_SECONDS = 2.0
SHORT_STEP_MS = 0.5


@click.command("doctor")
@click.option("--backend", default="auto", show_default=True, help="Whose clock, peak and noise to measure.")
@click.option("--quick", is_flag=True, help="Look only: measure nothing.")
@click.option("--instance-type", help="The cloud instance this is. Default: the cloud is asked; `none` asks nobody.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else there.")
@click.pass_context
def command(ctx: click.Context, backend: str, quick: bool, instance_type: str | None, as_json: bool) -> None:
    """Say what this machine can run and how well it can be timed.

    Lists backends with their devices, or why not. Then (about a minute, --quick leaves it out) one
    matrix product in five fresh processes: the timing canary, the measured peak, and from the
    spread of these equal runs the noise floor, which is kept for `compare`.

    \b
    trnbench doctor
    trnbench doctor --quick --json
    """
    from bench import machine
    from bench.cli.choices import backend_of

    chosen = None if quick else backend_of(backend)
    about = machine.describe(instance_type=instance_type)
    found, price = _backends(about["name"]), _price(about["instance"])
    if not as_json:
        backends = [f"backend {b['backend']}: {b['text']}" for b in found]
        for line in [*_machine_lines(about), _price_line(price), *backends]:
            click.echo(line)
    report: dict[str, Any] = {"machine": about, "price": price, "backends": found, "timing": None}
    if chosen:
        report["timing"] = _timing(chosen, about)
    if as_json:
        click.echo(json.dumps(report))
    else:
        for line in _timing_lines(report["timing"]) if report["timing"] else _floor_lines(found):
            click.echo(line)
    if report["timing"] and report["timing"]["status"] != "valid":
        ctx.exit(NOTHING_VALID)


def _backends(machine: str) -> list[dict[str, Any]]:
    """A row a backend; `noise_floor` is what was kept of one that is here."""
    from bench.machine.noise import load_noise_floor
    from bench.registry import backend_names, probed

    rows = []
    for name in backend_names():
        _, probe = probed(name)
        devices = [dict(device) for device in probe.devices]
        text = (", ".join(str(device["name"]) for device in devices) if probe.available
                else f"not here: {probe.reason}; {probe.fix}")
        rows.append({"backend": name, "available": probe.available, "devices": devices, "reason": probe.reason,
                     "fix": probe.fix, "text": text,
                     "noise_floor": load_noise_floor(machine, name) if probe.available else None})
    return rows


def _timing(backend: Backend, about: dict[str, Any]) -> dict[str, Any]:
    """Run one case in five children; keep and return the canary, the peak and the noise floor.

    A step too short to show more than its launch is run anew at the largest size.
    """
    from bench.case import Effort
    from bench.cli.progress import Progress
    from bench.machine.noise import save_noise_floor
    from bench.runner import Session, run_case

    session = Session(effort=Effort(repeats=RUNS, max_seconds=RUN_SECONDS), machine=about, tell=Progress(1))
    record = run_case(case := _product(backend, "1024"), session)
    step = record.metric("step_time_ms")
    if record.status == "valid" and step and step.value and step.value < SHORT_STEP_MS:
        record = run_case(case := _product(backend, "8192"), session)
    timing: dict[str, Any] = {"status": record.status, "reasons": list(record.reasons), "case": case.label,
                              "settings": record.settings, "canary": record.canary,
                              "warnings": list(record.warnings), "noise_floor": None}
    if record.status == "valid" and record.tier == "measured":
        relative = _floor(record)
        method = f"standard deviation of the medians of {RUNS} processes, {case.label}"
        timing["noise_floor"] = {"relative": relative, "method": method, "kept_in": None}
        try:
            kept_in = save_noise_floor(about["name"], backend.name, relative, method)
            timing["noise_floor"]["kept_in"] = str(kept_in)
        except BenchError as error:
            timing["warnings"].append(str(error))
    return timing


def _product(backend: Backend, size: str) -> Case:
    """A matrix product as the backend's users would run it, eagerly where it can be."""
    from bench.registry import case_for, load_workload

    workload = load_workload("gemm")
    eager, auto = (case_for("gemm", workload, backend=backend.name, size=size, compile=mode,
                            dtype=backend.default_dtype("inference", workload.dtypes)) for mode in ("off", "auto"))
    return auto if backend.refuse(eager) else eager


def _floor(record: Record) -> float:
    from statistics import median

    from bench.stats.ratio import noise_floor

    return noise_floor([median(rounds) for rounds in record.samples["children"]])


def _machine_lines(about: dict[str, Any]) -> list[str]:
    cpu, memory = about["cpu"], about["memory"]
    total = f"{memory['total_bytes'] / 2**30:.1f} GiB" if memory["total_bytes"] else "memory unknown"
    fast = [name for name in cpu["isa"] or () if name.startswith(("avx512f", "avx512_bf16", "amx", "sve", "bf16"))]
    system = about["os"].get("name") or about["os"].get("kernel") or "unknown"
    return [f"machine {about['name']}: {cpu['model'] or 'CPU unknown'}, {cpu['usable_physical_cores'] or '?'} usable "
            f"cores, {total}, {' '.join(fast) or 'no matrix or wide vector extension seen'}",
            f"system: {system}{_container(about['os'])}, torch {about['software'].get('torch') or 'not installed'}",
            _accelerator_line(about["accelerators"]), _instance_line(about["instance"])]


def _container(system: dict[str, Any]) -> str:
    """Such as " in a container (docker)"; "" outside of one, or where nothing says."""
    kind = system.get("container")
    return f" in a container ({kind})" if kind not in (None, "none") else ""


def _accelerator_line(found: dict[str, Any]) -> str:
    """Such as "accelerators: 8 x NVIDIA H200 (140.4 GiB, driver 570.86.15)", plugged in whether or not usable."""
    kinds = [_accelerator(one) for one in found["kinds"] or ()]
    reason = [f"unknown: {found['reason']}"] if found["reason"] else []
    return f"accelerators: {'; '.join(kinds + reason) or 'none plugged in'}"


def _accelerator(one: dict[str, Any]) -> str:
    about = [f"{one['memory_bytes'] / 2**30:.1f} GiB" if one["memory_bytes"] else None,
             f"driver {one['driver']}" if one["driver"] else None,
             f"{one['cores']} logical cores" if one.get("cores") else None,
             f"LNC {one['lnc']}" if one.get("lnc") else None]
    told = ", ".join(text for text in about if text)
    name = one["name"] or one.get("chip") or f"{one['kind']} device of unknown name ({one['unknown']['name']})"
    return f"{one['count']} x {name}{f' ({told})' if told else ''}"


def _instance_line(found: dict[str, Any]) -> str:
    """Such as "instance: trn2.48xlarge in us-east-2, spot (aws-imdsv2)", and what else is unknown."""
    if not found["type"]:
        return f"instance: unknown: {found['reason']}"
    where = f" in {found['region']}" if found["region"] else ""
    lifecycle = f", {found['lifecycle']}" if found["lifecycle"] else ""
    reason = f"; unknown: {found['reason']}" if found["reason"] else ""
    return f"instance: {found['type']}{where}{lifecycle} ({found['source']}){reason}"


def _price(instance: dict[str, Any]) -> dict[str, Any]:
    """What an hour of this instance costs on the basis it was bought on, or why that is not known."""
    from bench.catalog.prices import load_book

    basis = instance.get("lifecycle") or "on-demand"
    if not instance["type"]:
        return {"basis": basis, "usd_per_hour": None,
                "reason": "the instance is not known; --usd-per-hour names a rate"}
    quote = load_book().quote(instance["type"], basis, region=instance["region"])
    if quote.price is None:
        return {"basis": basis, "usd_per_hour": None, "reason": quote.reason}
    return {"basis": basis, "usd_per_hour": quote.price.usd_per_hour, "id": quote.price.id, "stale": quote.stale,
            "notes": list(quote.notes), "reason": None}


def _price_line(price: dict[str, Any]) -> str:
    if price["usd_per_hour"] is None:
        return f"price: unknown: {price['reason']}"
    notes = "; ".join([*price["notes"], *(["stale: `trnbench price refresh`"] if price["stale"] else [])])
    return f"price: {price['usd_per_hour']:g} USD/h {price['basis']} ({price['id']}){f'; {notes}' if notes else ''}"


def _floor_lines(backends: list[dict[str, Any]]) -> list[str]:
    """The noise floors that were kept here."""
    kept = [(one["backend"], one["noise_floor"]) for one in backends if one["noise_floor"]]
    return [f"noise floor: {floor['relative']:.2%} on {name} of {floor['measured_at']}"
            f"{' (stale)' if floor['stale'] else ''}" for name, floor in kept] or [
                "noise floor: not measured here yet; run `trnbench doctor` without --quick"]


def _timing_lines(timing: dict[str, Any]) -> list[str]:
    if timing["status"] != "valid":
        return [f"timing: {timing['status']}: {'; '.join(timing['reasons'])}"]
    canary, floor = timing["canary"], timing["noise_floor"]
    lines = [f"timing canary: passed ({canary['sizes'][1]}^3 takes {canary['scaling']:.2f} times "
             f"{canary['sizes'][0]}^3; 8 is ideal)",
             f"measured peak: {canary['flops_per_second'] / 1e9:,.0f} GFLOP/s in {timing['case']}"]
    if floor:
        lines.append(f"noise floor: {floor['relative']:.2%} between equal runs"
                     f"{', kept for `compare`' if floor['kept_in'] else ''}")
    return lines + [f"warning: {text}" for text in timing["warnings"]]
