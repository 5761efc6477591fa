"""Chips by id: dense peaks, memory, bandwidth. A sparse peak is no peak here, and an unknown one is None."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import date

from bench.catalog.rows import Row, read_rows, refuse_twice, shipped
from bench.errors import BenchError, nearest

FILE = "chips.csv"
PEAKS = {"fp32": "fp32_dense_tflops", "tf32": "tf32_dense_tflops", "bf16": "bf16_dense_tflops",
         "fp16": "fp16_dense_tflops", "fp8": "fp8_dense_tflops", "int8": "int8_dense_tops",
         "fp4": "fp4_dense_tflops"}
"""dtype -> the column of its dense peak, in 10^12 operations per second."""

COLUMNS = ("id", "names", "vendor", "name", "year", "cores", "logical_cores", "memory_gib",
           "memory_bandwidth_gb_per_second", *PEAKS.values(), "interconnect_gb_per_second", "tdp_w",
           "as_of", "source", "notes")

COUNTS_AS = {"amp-bf16": "bf16", "amp-fp16": "fp16", "mxfp4": "fp4"}
"""dtypes whose products run at another dtype's peak. fp32 is never counted as tf32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One accelerator chip, or one CPU socket. Unknown is None, and `notes` may say why.

    `names`: what published results and drivers call it, exactly. `cores`: physical cores, `notes` say of what
    kind; `logical_cores`: those that software sees where that differs (Neuron's LNC).
    `peak_flops_per_second`: dtype -> dense operations per second of the whole chip, only dtypes
    whose peak is known. Bandwidths are decimal GB/s. `as_of`: the day of the source.
    """

    id: str
    vendor: str
    name: str
    names: tuple[str, ...]
    year: int | None
    cores: int | None
    logical_cores: int | None
    memory_gib: float | None
    memory_bandwidth_gb_per_second: float | None
    peak_flops_per_second: dict[str, float]
    interconnect_gb_per_second: float | None
    tdp_w: float | None
    as_of: date
    source: str
    notes: str


@functools.cache
def chips() -> tuple[Chip, ...]:
    """Return the shipped chips in the file's order; BenchError names a bad row."""
    return load_chips(shipped(FILE), FILE)


def load_chips(text: str, file: str) -> tuple[Chip, ...]:
    """Return the chips of a CSV text; BenchError names file, line, row and column of what does not fit."""
    rows = read_rows(text, file, COLUMNS, ["id"])
    refuse_twice(rows)
    found = tuple(map(_chip, rows))
    owner: dict[str, str] = {}
    for row, one in zip(rows, found, strict=True):
        for name in {one.id, *one.names}:
            if owner.setdefault(name, one.id) != one.id:
                raise row.error("names", f"{name!r} is a name of {owner[name]} too")
    return found


def _chip(row: Row) -> Chip:
    peaks = {dtype: row.maybe_number(column) for dtype, column in PEAKS.items()}
    return Chip(
        id=row.text("id"), vendor=row.text("vendor"), name=row.text("name"), names=row.texts("names"),
        year=row.maybe_count("year"), cores=row.maybe_count("cores"), logical_cores=row.maybe_count("logical_cores"),
        memory_gib=row.maybe_number("memory_gib"),
        memory_bandwidth_gb_per_second=row.maybe_number("memory_bandwidth_gb_per_second"),
        peak_flops_per_second={dtype: tera * 1e12 for dtype, tera in peaks.items() if tera is not None},
        interconnect_gb_per_second=row.maybe_number("interconnect_gb_per_second"), tdp_w=row.maybe_number("tdp_w"),
        as_of=row.day("as_of"), source=row.text("source"), notes=row.cells["notes"])


@functools.cache
def _by_id() -> dict[str, Chip]:
    return {one.id: one for one in chips()}


@functools.cache
def _ids() -> dict[str, str]:
    return {name: one.id for one in chips() for name in (one.id, *one.names)}


def known_chip(chip_id: object) -> Chip | None:
    """Return the chip of an id, or None where the catalog has none: a record may be of a newer catalog."""
    return _by_id().get(str(chip_id))


def chip(chip_id: str) -> Chip:
    """Return the chip of an id; BenchError with the nearest ids for any other."""
    found = known_chip(chip_id)
    if found is None:
        raise BenchError(f"Unknown chip {chip_id!r}.{nearest(chip_id, list(_by_id()))}",
                         fix="`trnbench list chips` lists them.")
    return found


def chip_id_of(name: str) -> str | None:
    """Return the id of the chip that a published result or a driver calls exactly this; None where none is called so.

    Sources of the drivers' names: NVIDIA/open-gpu-kernel-modules, README, supported GPUs (of what came before
    Turing, nvidia-smi); libdrm, amdgpu.ids, which torch's names on ROCm come from (pytorch/ao#2853). Left out, as
    they may be another chip or a part of one: a "... VF", which is 1, 2 or 8 of a GPU (amd/MxGPU-Virtualization
    9.2.0.K), "AMD Instinct MI300X OAM", as some MI308X call themselves (ROCm/vllm#359), MIG slices and vGPUs.
    """
    return _ids().get(name)


def peak_flops_per_second(chip_id: str, dtype: str) -> tuple[float | None, str]:
    """Return a whole chip's dense peak for a dtype and where it is from, or None and why there is none.

    Work done with autocast counts as the dtype it casts to. BenchError for an unknown chip.
    """
    found, counted = chip(chip_id), COUNTS_AS.get(dtype, dtype)
    peak = found.peak_flops_per_second.get(counted)
    if peak is None:
        return None, f"{found.name}: no dense {counted} peak is published ({found.source})"
    return peak, f"{found.name}, {counted} dense, {peak / 1e12:g} TFLOP/s a chip ({found.source})"
