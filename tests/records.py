"""Realistic records without a device: what tests right of the wall are fed with."""

from __future__ import annotations

import dataclasses
import random
import statistics
from typing import Any

from bench.case import Case
from bench.record import PHASES, Metric, Record

MACHINE = {
    "name": "emr-2c", "cpu": {"model": "Intel Xeon Platinum 8592+", "cores": 1, "threads": 2},
    "memory_bytes": 8 * 2**30, "software": {"python": "3.11.9", "torch": "2.13.0+cpu"},
    "noise_floor": {"relative": 0.02},
}


def make_case(**changes: Any) -> Case:
    """BERT-base offline on the CPU, with `changes`."""
    plain = {"workload": "bert", "size": "base", "task": "inference", "scenario": "offline",
             "backend": "cpu", "dtype": "bf16", "batch_size": 8, "seq_len": 128}
    return Case(**(plain | changes))


def make_record(run_id: str = "20260101T000000-aaaa", *, step_ms: float = 10.0, children: int = 3,
                rounds: int = 40, steps_per_round: int = 1, spread: float = 0.01, seed: int = 0,
                item: str = "sample", items: int | None = None, case: dict[str, Any] | None = None,
                **changes: Any) -> Record:
    """A record whose steps take about `step_ms`, each child off by its own draw of `spread`."""
    the_case = make_case(**(case or {}))
    items = the_case.batch_size if items is None else items
    times = _times_ns(step_ms * steps_per_round, children, rounds, spread, random.Random(seed))
    fields: dict[str, Any] = {
        "run_id": run_id, "case": the_case,
        "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:01:00Z", "status": "valid",
        "tool": {"name": "trnbench", "version": "0.1.0", "commit": None}, "machine": MACHINE,
        "effort": {"repeats": children, "max_seconds": 20.0, "timeout_s": 1800.0},
        "settings": {"threads": 1, "compile": "inductor", "layout": "contiguous"},
        "work": {"item": item, "items_per_step": items, "flops_per_item": 2.2e10, "bytes_per_item": None},
        "samples": {"unit": "ns", "steps_per_round": [steps_per_round] * children,
                    "children": times, "series": {}},
        "metrics": _metrics(times, steps_per_round, item, items),
        "phases_s": dict.fromkeys(PHASES, 0.5 * children), "wall_s": 4.0 * children,
        "compile": {"seconds": 1.5, "cache": "cold", "graphs": children},
        "memory": {"peak_bytes": 3 * 2**29, "method": "peak resident set, net of the start's"},
        "energy": {"joules": None, "method": "no RAPL counter is readable here"},
        "parity": {"ok": True, "max_error": 0.003}, "canary": {"ok": True},
        "device": {"name": "Intel Xeon Platinum 8592+"},
        "children": tuple(_child(i) for i in range(children)),
    }
    return Record(**(fields | changes))


def failed_record(run_id: str = "20260101T000000-ffff", *, status: str = "oom",
                  reason: str = "the child was killed for memory", case: dict[str, Any] | None = None,
                  **changes: Any) -> Record:
    """A record of a case that gave no time."""
    nothing: dict[str, Any] = {
        "samples": {}, "metrics": (), "work": {}, "settings": {}, "compile": {}, "parity": {}, "canary": {},
        "memory": {"peak_bytes": None, "method": reason}, "children": ({"status": status, "reason": reason},)}
    record = make_record(run_id, case=case, status=status, reasons=(reason,))
    return dataclasses.replace(record, **(nothing | changes))


def _times_ns(round_ms: float, children: int, rounds: int, spread: float,
              draw: random.Random) -> list[list[int]]:
    offsets = [1 + draw.gauss(0, spread) for _ in range(children)]
    return [[max(1, round(round_ms * 1e6 * offset * (1 + abs(draw.gauss(0, spread / 2)))))
             for _ in range(rounds)] for offset in offsets]


def _metrics(times: list[list[int]], steps: int, item: str, items: int) -> tuple[Metric, ...]:
    step_ms = [statistics.median(child) / steps / 1e6 for child in times]
    middle, low, high = statistics.median(step_ms), min(step_ms), max(step_ms)
    n = sum(map(len, times))
    rate = f"{item}s_per_second"
    return (
        Metric(name=rate, value=items * 1e3 / middle, unit=f"{item}s/s", low=items * 1e3 / high,
               high=items * 1e3 / low, n=n, method="median of children's medians"),
        Metric(name=f"{rate}_per_chip", value=items * 1e3 / middle, unit=f"{item}s/s", n=n),
        Metric(name="step_time_ms", value=middle, unit="ms", low=low, high=high, n=n),
        Metric(name="latency_ms_p50", value=middle, unit="ms", low=low, high=high, n=n),
        Metric(name="latency_ms_p90", value=middle * 1.01, unit="ms", low=low, high=high * 1.02, n=n),
        Metric(name="latency_ms_p99", value=None, unit="ms", n=n,
               reason=f"p99 needs 662 samples, here are {n}"),
        Metric(name="flops_per_second", value=2.2e10 * items * 1e3 / middle, unit="FLOP/s"),
        Metric(name="mfu", value=0.42, unit="1", method="of the measured gemm peak"),
        Metric(name="mbu", value=None, unit="1", reason="the bytes a step moves are not counted"),
        Metric(name="compile_s", value=1.5, unit="s"),
    )


def _child(index: int) -> dict[str, Any]:
    return {
        "status": "valid", "reason": None, "phases_s": dict.fromkeys(PHASES, 0.5), "wall_s": 4.0,
        "compile": {"seconds": 1.5, "cache": "cold" if index == 0 else "warm", "graphs": 1},
        "memory": {"peak_bytes": 3 * 2**29 - 2**20 * index, "method": "peak resident set"},
        "parity": {"ok": True}, "canary": {"ok": True}, "energy": {"joules": None},
        "disturbance": {"steal_fraction": 0.0, "others_cpus": 0.02, "parent_cpu_fraction": 0.0,
                        "disturbed": False, "why": []},
        "warnings": []}
