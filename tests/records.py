"""Realistic records without a device: what tests right of the wall are fed with."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from bench.case import Case
from bench.measure.summarise import metrics_of
from bench.record import PHASES, Record

MACHINE = {
    "name": "emr-2c", "cpu": {"model": "Intel Xeon Platinum 8592+", "physical_cores": 1, "logical_cpus": 2},
    "software": {"python": "3.11.9", "torch": "2.13.0+cpu"},
    "noise_floor": {"relative": 0.02, "measured_at": "2026-01-01T00:00:00+00:00", "method": "A/A",
                    "stale": False},
}

PARITY = {"status": "passed", "error": 0.003, "tolerance": 0.1, "compared": 1, "reason": None,
          "metric": "relative L2 error of outputs"}

CANARY = {"passed": True, "reasons": [], "sizes": [1024, 2048], "flops_per_second": 2.8e13,
          "flops_per_second_source": "best matrix product in the same process and number format"}
DEVICE = {"kind": "cpu", "name": "Intel Xeon Platinum 8592+", "chips": 1, "threads": 1}
LEDGER: dict[str, Any] = {"phases_s": dict.fromkeys(PHASES, 0.5), "wall_s": 4.0}


def make_case(**changes: Any) -> Case:
    """BERT-base offline on the CPU, with `changes`."""
    plain: dict[str, Any] = {
        "workload": "bert", "size": "base", "task": "inference", "scenario": "offline",
        "backend": "cpu", "dtype": "bf16", "batch_size": 8, "seq_len": 128}
    return Case(**(plain | changes))


def make_record(run_id: str = "20260101T000000-aaaa", *, step_ms: float = 10.0, children: int = 3,
                rounds: int = 40, steps_per_round: int = 1, spread: float = 0.01, seed: int = 0,
                item: str = "sample", items: int | None = None, case: dict[str, Any] | None = None,
                **changes: Any) -> Record:
    """A record whose steps take about `step_ms`, each child off by its own draw of `spread`."""
    the_case = make_case(**(case or {}))
    items = the_case.batch_size if items is None else items
    draw = random.Random(seed)
    times = _times_ns(step_ms * steps_per_round, children, rounds, spread, draw)
    work = {"item": item, "items_per_step": items, "flops_per_step": 1.4e10 * items, "bytes_per_step": None,
            "parts": {}}
    series = _generated(times) if the_case.scenario == "generation" else {}
    own = [_child(i) | {"work": work, "samples_ns": times[i], "steps_per_round": steps_per_round,
                        "series_ns": {name: lists[i] for name, lists in series.items()}, "device": DEVICE}
           for i in range(children)]
    metrics, _ = metrics_of(the_case, own)
    fields: dict[str, Any] = {
        "run_id": run_id, "case": the_case,
        "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:01:00Z", "status": "valid",
        "tool": {"name": "trnbench", "version": "0.1.0", "commit": None}, "machine": MACHINE,
        "effort": {"repeats": children, "max_seconds": 20.0, "timeout_s": 1800.0},
        "settings": {"threads": 1, "layout": "contiguous", "compile": "inductor"},
        "work": work, "metrics": tuple(metrics),
        "samples": {"unit": "ns", "steps_per_round": [steps_per_round] * children,
                    "children": times, "series": series},
        "phases_s": dict.fromkeys(PHASES, 0.5 * (children + 1)), "wall_s": 4.0 * (children + 1),
        "compile": {"seconds": 1.5, "cache": "cold", "graphs": 1},
        "memory": {"peak_bytes": 3 * 2**29, "method": "peak resident set, net of the start's"},
        "energy": {"joules": None, "method": "no RAPL counter is readable here"},
        "parity": PARITY, "canary": CANARY, "device": DEVICE,
        "children": ({"role": "scout", "status": "valid"} | LEDGER, *(_child(i) for i in range(children))),
    }
    return Record(**(fields | changes))


def failed_record(run_id: str = "20260101T000000-ffff", *, status: str = "oom",
                  reason: str = "the child was killed for memory", case: dict[str, Any] | None = None,
                  **changes: Any) -> Record:
    """A record of a case that gave no time."""
    nothing: dict[str, Any] = {
        "samples": {}, "metrics": (), "work": {}, "settings": {}, "compile": {}, "parity": {}, "canary": {},
        "memory": {"peak_bytes": None, "method": reason},
        "children": ({"role": "scout", "status": status, "reason": reason},)}
    record = make_record(run_id, case=case, status=status, reasons=(reason,))
    return dataclasses.replace(record, **(nothing | changes))


def _times_ns(round_ms: float, children: int, rounds: int, spread: float,
              draw: random.Random) -> list[list[int]]:
    offsets = [1 + draw.gauss(0, spread) for _ in range(children)]
    return [[max(1, round(round_ms * 1e6 * offset * (1 + abs(draw.gauss(0, spread / 2)))))
             for _ in range(rounds)] for offset in offsets]


def _generated(times: list[list[int]]) -> dict[str, list[list[int]]]:
    """Each round as one generation of five tokens: half of it the first, an eighth each further one."""
    return {"ttft": [[ns // 2 for ns in child] for child in times],
            "itl": [[ns // 8 for ns in child for _ in range(4)] for child in times]}


def _child(index: int) -> dict[str, Any]:
    return LEDGER | {
        "role": "measure", "status": "valid", "reason": None, "parity": PARITY, "canary": CANARY,
        "compile": {"seconds": 1.5 + 0.1 * index, "cache": "cold", "graphs": 1},
        "memory": {"peak_bytes": 3 * 2**29 - 2**20 * index, "method": "peak resident set"},
        "energy": {"joules": None, "method": "RAPL package counters", "reason": "no RAPL counters here"},
        "disturbance": {"steal_fraction": 0.0, "others_cpus": 0.02, "parent_cpu_fraction": 0.0,
                        "disturbed": False, "why": []},
        "warmup": {"rounds": 12, "steady": True}, "warnings": []}
