"""Scaling efficiency: what N devices do, as a share of N times what one does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from bench.case import Case
from bench.record import Metric, Record
from bench.report.children import children_values
from bench.report.frame import noise_floor, throughput
from bench.stats.ratio import compare_values
from bench.store import Store

NAME = "scaling_efficiency"
Find = Callable[[str], Record | None]
"""The newest valid record of a case id that was measured on this machine, or None."""


def with_scaling(record: Record, find: Find) -> Record:
    """Return a parallel case's record with its scaling efficiency; any other as it is.

    Throughput over N times that of the same case at dp=1, both at one batch size a device (weak
    scaling), each device of one name with the same settings and torch. Where dp=1 was not measured so, it is
    unknown. An exchange of all ranks is nothing that one device does.
    """
    if record.case.ranks == 1 or record.status != "valid" or record.work.get("bus_bytes_per_step") is not None:
        return record
    one = dataclasses.replace(record.case, parallelism="dp=1")
    return dataclasses.replace(record, metrics=(*record.metrics, _efficiency(record, one, find(one.id))))


def newest_in(store: Store, machine: str) -> Find:
    """Return a way to look for a case's newest valid measured record of one machine in a store."""
    def find(case_id: str) -> Record | None:
        alike = [record for record in store.load_all(samples=False).records
                 if (record.case_id, record.machine.get("name"), record.status, record.tier)
                 == (case_id, machine, "valid", "measured")]
        newest = max(alike, key=lambda record: record.started_at, default=None)
        return newest and store.find(newest.run_id)

    return find


def _efficiency(record: Record, case: Case, one: Record | None) -> Metric:
    if one is None:
        return _unknown("dp=1 of this case is not among the results of this machine: run it as well, "
                        "--parallelism dp=1," + record.case.parallelism.replace("fsdp", "dp"))
    unlike = [(name, there, here) for name, there, here in _surroundings(one, record) if there != here]
    if unlike:
        ran, runs = (", ".join(f"{name}={values[side]}" for name, *values in unlike) for side in (0, 1))
        return _unknown(f"dp=1 ran with {ran}, each rank here with {runs}: measure both on one machine, with the "
                        "settings chosen by yourself")
    rate = throughput(record)
    assert rate is not None
    (base, why), (new, why_new) = (children_values(each, rate.name) for each in (one, record))
    if why or why_new:
        return _unknown(why or why_new or "")
    found, ranks = compare_values(base, new, noise_floor(one, record)), record.case.ranks
    return Metric(name=NAME, value=found.value / ranks, unit="1", low=found.low and found.low / ranks,
                  high=found.high and found.high / ranks, n=len(new),
                  method=f"against {ranks} times {one.run_id} ({case.parallelism}); {found.method}")


def _surroundings(one: Record, many: Record) -> list[tuple[str, object, object]]:
    """What must be equal on both sides: (name, of one, of many). A machine's name says nothing of its GPUs."""
    return [("device", one.device.get("name"), many.device.get("name")),
            *((name, (one.machine.get("software") or {}).get(name), (many.machine.get("software") or {}).get(name))
              for name in ("torch", "torch-neuronx", "torch-xla")),
            *((name, one.settings.get(name), value) for name, value in many.settings.items())]


def _unknown(reason: str) -> Metric:
    return Metric(name=NAME, value=None, unit="1", reason=reason)
