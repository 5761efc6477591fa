"""Instances by type: which chips, how many, and the host around them. Prices are in `prices`.

A user's own machines stand in a file of the same columns beside the user's own prices.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from bench.catalog.chips import chip, chips
from bench.catalog.rows import Row, own_folder, read_file, read_rows, refuse_twice, shipped
from bench.errors import BenchError, nearest

FILE = "instances.csv"
COLUMNS = ("provider", "type", "vcpus", "memory_gib", "chip", "chips", "cores_per_chip", "accelerator_memory_gib",
           "network_gbps", "as_of", "source", "notes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One type of machine. `chip`, `chips`: its accelerators, None and 0 where it has none.

    `accelerator_memory_gib` is that of all chips. `network_gbps` is what can be had all the time,
    not a burst. `as_of`: the day of the source. Unknown is None.
    """

    provider: str
    type: str
    vcpus: int | None
    memory_gib: float | None
    chip: str | None
    chips: int
    cores_per_chip: int | None
    accelerator_memory_gib: float | None
    network_gbps: float | None
    as_of: date
    source: str
    notes: str


def instances() -> tuple[Instance, ...]:
    """Return the shipped instances and the user's own; BenchError names a bad row."""
    return tuple(_by_type().values())


def own_instances_path() -> Path:
    """Return where the user's own machines are kept."""
    return own_folder() / FILE


def forget_instances() -> None:
    """Read the user's own machines anew at the next question."""
    _by_type.cache_clear()


def load_instances(text: str, file: str) -> tuple[Instance, ...]:
    """Return the instances of a CSV text; BenchError names file, line, row and column of what does not fit."""
    rows = read_rows(text, file, COLUMNS, ["type"])
    refuse_twice(rows)
    known = [one.id for one in chips()]
    return tuple(_instance(row, known) for row in rows)


def _instance(row: Row, chip_ids: list[str]) -> Instance:
    name = row.one_of("chip", chip_ids) if row.cells["chip"] else None
    count = row.count("chips", least=1 if name else 0)
    if count and name is None:
        raise row.error("chips", f"{count} chips, but no chip is named")
    return Instance(
        provider=row.text("provider"), type=row.text("type"), vcpus=row.maybe_count("vcpus"),
        memory_gib=row.maybe_number("memory_gib"), chip=name, chips=count,
        cores_per_chip=row.maybe_count("cores_per_chip"),
        accelerator_memory_gib=row.maybe_number("accelerator_memory_gib"),
        network_gbps=row.maybe_number("network_gbps"), as_of=row.day("as_of"), source=row.text("source"),
        notes=row.cells["notes"])


@functools.cache
def _shipped() -> tuple[Instance, ...]:
    return load_instances(shipped(FILE), FILE)


@functools.cache
def _by_type() -> dict[str, Instance]:
    """Type -> instance; one's own machine stands before a shipped one of its name."""
    path = own_instances_path()
    own = load_instances(read_file(path), str(path)) if path.exists() else ()
    return {one.type: one for one in (*_shipped(), *own)}


def known_instance(instance_type: str) -> Instance | None:
    """Return the instance of a type, or None where the catalog has no such type."""
    return _by_type().get(instance_type)


def instance(instance_type: str) -> Instance:
    """Return the instance of a type; BenchError with the nearest types for any other."""
    found = known_instance(instance_type)
    if found is None:
        raise BenchError(f"Unknown instance {instance_type!r}.{nearest(instance_type, list(_by_type()))}",
                         fix="`trnbench list instances` lists them; `trnbench price set` adds a machine of your own.")
    return found


def hosts_for(chip_id: str, chips: int) -> tuple[Instance, ...]:
    """Return the instances with at least so many of a chip, the smallest first.

    Fewest chips first, then AWS before others, then fewest vCPUs. BenchError for an unknown chip.
    """
    wanted = chip(chip_id).id
    found = [one for one in instances() if one.chip == wanted and one.chips >= chips]
    return tuple(sorted(found, key=lambda one: (one.chips, one.provider != "aws", one.vcpus or math.inf)))


def largest_hosts(chip_id: str) -> tuple[Instance, ...]:
    """Return the instances with a chip, most chips first, else as `hosts_for`: several make a larger system."""
    return tuple(sorted(hosts_for(chip_id, 1), key=lambda one: -one.chips))
