"""A record as the page's row: what can be sorted and filtered, and the facts that unfold below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.catalog.chips import known_chip
from bench.cost.normalise import Amount, items_name
from bench.record import PHASES, Metric, Record
from bench.report.cells import setup
from bench.report.frame import parity_ok, throughput, value
from bench.report.html.choose import Group, unsaid
from bench.report.html.texts import Texts, short, shorts
from bench.report.text import number

COLUMNS = ("run", "group", "workload", "how", "chip", "chip_id", "vendor", "chips", "where", "precision",
           "sequence", "batch", "tier", "status", "date", "rate", "per_chip", "latency", "mfu", "joules",
           "url", "facts")

LATENCIES = ("latency_ms_p50", "latency_ms_mean", "ttft_ms_p50", "ttft_ms_mean", "step_time_ms")
"""What a row shows as its latency: the first that is known, but of generation the first token's."""


def page_row(record: Record, group: int, found: Mapping[str, Amount], texts: Texts) -> list[Any]:
    """Return a record's row by COLUMNS; texts that repeat are numbers of `texts`. `found`: its amounts."""
    case, device, valid = record.case, record.device, record.status == "valid"
    vendor, chip = _chip(record)
    latency = _latency(record) if valid else None
    return [
        record.run_id, group, texts.number(f"{case.workload}:{case.size}"),
        texts.number(f"{case.task}/{case.scenario}"), texts.number(chip), texts.number(device.get("chip")),
        texts.number(vendor), device.get("chips"), texts.number(where(record)),
        texts.number(record.work.get("precision") or case.dtype),
        texts.number(record.work.get("sequence") or case.seq_len), record.work.get("batch_size", case.batch_size),
        texts.number(record.tier), texts.number(record.status), texts.number(date_of(record)),
        _bounds(throughput(record) if valid else None),
        _bounds(found[f"{items_name(record)}_per_second_per_chip"]),
        [texts.number(latency.name), *_bounds(latency)] if latency else [], short(found["mfu"].value),
        short(found[f"joules_per_{record.work.get('item')}"].value), texts.number(record.source.get("url")),
        _facts(record, found, texts)]


def group_json(group: Group, member: Record, texts: Texts) -> dict[str, Any]:
    """A group as the page names it; what its members leave unsaid, and so are not ranked for, is among its details."""
    like = group.like
    parts = (like.precision_class, like.sequence and f"sequence {like.sequence}",
             like.quality and f"quality {like.quality}", like.batch_size and f"{like.batch_size} at a time",
             like.streams and f"{like.streams} in flight", like.batching and f"{like.batching} batching",
             like.speculation and f"speculation {like.speculation}", *unsaid(member))
    told = {"workload": f"{like.workload}:{like.size}", "how": f"{like.task}/{like.scenario}", "unit": unit(group.cost),
            "item": like.item_definition, "detail": ", ".join(part for part in parts if part)}
    return {name: texts.number(said) for name, said in told.items()}


def unit(cost: str) -> str:
    """What `Group.cost` is in, e.g. "USD per 1M inferences"."""
    return "USD per training run" if cost == "usd_per_run" else f"USD per 1M {cost.rpartition('_')[2]}"


def where(record: Record) -> str:
    """The instances it ran on, else the machine's name."""
    instance = record.machine.get("instance") or {}
    if not instance.get("type"):
        return str(record.machine.get("name") or "")
    count = instance.get("count") or 1
    return f"{instance['type']} × {count}" if count > 1 else str(instance["type"])


def date_of(record: Record) -> str:
    """The day of the measurement, or that its source gives for a published one."""
    return str(record.source.get("date") or record.started_at[:10])


def _chip(record: Record) -> tuple[str, str]:
    """Vendor and name, by the catalog where the chip is in it."""
    chip = known_chip(record.device.get("chip"))
    if chip:
        return chip.vendor, chip.name
    return "other", str(record.device.get("name") or record.device.get("kind") or "")


def _latency(record: Record) -> Metric | None:
    names = (*LATENCIES[2:4], *LATENCIES) if record.case.scenario == "generation" else LATENCIES
    return next((m for m in map(record.metric, names) if m and m.value is not None), None)


def _bounds(metric: Metric | Amount | None) -> list[float | None]:
    return shorts(metric.value, metric.low, metric.high) if metric else []


def _facts(record: Record, found: Mapping[str, Amount], texts: Texts) -> list[list[int | None]]:
    """Labels and texts, in the order a reader wants them; what is not known is left out or says why."""
    source, case = record.source, record.case
    software = source.get("software") or record.machine.get("software", {}).get("torch")
    told = [
        ("status", f"{record.status}: {'; '.join(record.reasons)}" if record.reasons else None),
        ("case", case.label), ("machine", record.machine.get("name")), ("set-up", None if source else setup(record)),
        ("software", f"torch {software}" if software and not source else software),
        ("counted", record.work.get("item_definition")), ("quality", record.work.get("quality")),
        ("parity", {True: "passed", False: "failed", None: None}[parity_ok(record)]),
        ("model FLOPs use", _share(found["mfu"])), ("bandwidth use", _share(found["mbu"])),
        *((name, _metric(record.metric(name))) for name in _METRICS),
        ("peak memory", _gib(record.memory.get("peak_bytes"))),
        ("warnings", "; ".join(record.warnings)),
        ("labels", ", ".join(f"{key}={text}" for key, text in record.labels.items())),
        ("source", ", ".join(str(source[key]) for key in ("publisher", "date", "id") if source.get(key))),
        ("notes", source.get("notes"))]
    return [[texts.number(label), texts.number(text)] for label, text in told if text]


_METRICS = ("latency_ms_p50", "latency_ms_p99", "ttft_ms_p50", "ttft_ms_p99", "tpot_ms_p50", "itl_ms_p99",
            "time_to_train_s", "flops_per_second", "compile_s")


def _metric(metric: Metric | None) -> str | None:
    if metric is None or metric.value is None:
        return None
    interval = "" if metric.low is None or metric.high is None else f" [{number(metric.low)}, {number(metric.high)}]"
    return f"{number(metric.value)}{interval} {metric.unit}"


def _share(amount: Amount) -> str:
    if amount.value is None:
        return f"not known: {amount.reason}"
    return f"{amount.value * 100:.3g} % of {amount.source}"


def _gib(size_bytes: float | None) -> str | None:
    return None if size_bytes is None else f"{number(size_bytes / 2**30)} GiB"


def roofline(record: Record) -> dict[str, Any] | None:
    """Return where a record stands under its chip's roof, a chip's share of it; None: no FLOPs or bytes counted.

    Arithmetic intensity: FLOPs over bytes moved, both of a step (Williams, Waterman and Patterson,
    CACM 52(4), 2009).
    """
    done, flops = value(record, "flops_per_second"), record.work.get("flops_per_step")
    moved, chips = record.work.get("bytes_per_step"), record.device.get("chips")
    if record.status != "valid" or not (done and flops and moved and chips):
        return None
    return {"intensity": short(flops / moved), "flops": short(done / chips), "chip": record.device.get("chip"),
            "dtype": record.case.dtype}


def phases(record: Record) -> list[float] | None:
    """Return a measured run's seconds by PHASES, or None where it kept none."""
    if not record.phases_s:
        return None
    return [round(record.phases_s.get(phase) or 0.0, 3) for phase in PHASES]
