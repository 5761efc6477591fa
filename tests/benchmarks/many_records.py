"""Stores of many records, as large ones grow: the same cases run again and again on a few machines.

`python -m tests.benchmarks.many_records results/ --count 100000` writes JSON files, `--compacted` Parquet.
A record is of three children of 20 rounds each and takes about 11 kB, as those of short runs do; times,
metrics and what a machine says of itself differ from one to the next. Equal arguments give equal bytes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from bench.store.compacted import content_of, digest, name_of, row_of
from bench.store.reading import Reader
from tests.records import make_record

MACHINES = ("epyc-2c", "emr-2c", "emr-8c", "g6.xlarge", "inf2.xlarge")
CASES = tuple({"workload": workload, "dtype": dtype, "batch_size": batch}
              for workload in ("bert", "resnet50", "vit", "gpt2", "dlrm", "t5", "whisper", "gemm")
              for dtype in ("fp32", "bf16", "fp16") for batch in (1, 2, 4, 8, 16))
START = datetime(2025, 1, 1, tzinfo=UTC)
FILE_ROWS = 50_000


def texts(count: int, *, cases: int = 2_000, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and text of `count` records, oldest first, a minute from one to the next.

    `cases`: how many cases there are on how many machines together; each is run about count/cases times.
    """
    draw = random.Random(seed)
    encode = msgspec.json.Encoder().encode
    templates = [_template(case) for case in CASES]
    for i in range(count):
        which = i % cases
        data = templates[which % len(CASES)]
        machine = MACHINES[which // len(CASES) % len(MACHINES)]
        data["case"]["seed"] = which // (len(CASES) * len(MACHINES))
        _vary(data, machine, START + timedelta(minutes=i), draw)
        data["run_id"] = f"{_stamp(data['started_at'])}-{which:012x}-{i % 65536:04x}"
        yield f"{machine}/{data['case']['workload']}/{data['run_id']}.json", encode(data) + b"\n"


def _stamp(time: str) -> str:
    return time[:19].replace("-", "").replace(":", "")


def _template(case: dict[str, Any]) -> dict[str, Any]:
    record = make_record(case=case, rounds=20, machine=_machine("any"))
    data: dict[str, Any] = json.loads(record.dumps())
    del data["case_id"]  # no reader trusts it
    data["tuning"] = {"notes": [], "trials": [
        {"settings": {"threads": threads, "layout": "contiguous", "compile": "off"}, "step_ns": 10_000_000 * threads}
        for threads in (1, 2, 4)]}
    return data


def _machine(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "cpu": {"model": "AMD EPYC", "vendor": "AMD", "sockets": 1, "physical_cores": 2, "logical_cpus": 2,
                "usable_physical_cores": 2, "usable_logical_cpus": 2, "cpu_quota": None, "smt": False,
                "isa": ["sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni"],
                "governor": None, "current_mhz": 2596.126, "max_mhz": None},
        "memory": {"total_bytes": 25276502016, "available_bytes": 24784134144, "limit_bytes": None,
                   "numa_nodes": 1, "huge_pages": 0, "transparent_huge_pages": "madvise"},
        "os": {"system": "Linux", "architecture": "x86_64", "kernel": "6.18.44", "name": "Debian GNU/Linux 12",
               "libc": "glibc 2.36", "virtualised": True, "platform_vendor": None, "container": "docker"},
        "software": {"python": "3.11.9", "torch": "2.13.0+cpu", "transformers": "5.23.0", "diffusers": "0.42.1",
                     "peft": "0.21.2", "numpy": "2.4.6", "triton": None, "torch-neuronx": None},
        "instance": {"type": name if "." in name else None, "source": None,
                     "reason": None if "." in name else "no cloud was asked; pass --instance-type to name it"},
        "noise_floor": {"relative": 0.02, "measured_at": "2025-01-01T00:00:00+00:00",
                        "method": "standard deviation of the medians of 5 processes", "stale": False}}


def _vary(data: dict[str, Any], machine: str, start: datetime, draw: random.Random) -> None:
    """Make one more run of a template: a few per cent faster or slower, and a machine as it is that minute."""
    factor = draw.lognormvariate(0, 0.03)
    data["started_at"], data["ended_at"] = start.isoformat(), (start + timedelta(seconds=50)).isoformat()
    data["machine"] = _machine(machine)
    data["machine"]["cpu"]["current_mhz"] = round(draw.uniform(2400, 3600), 3)
    data["machine"]["memory"]["available_bytes"] -= draw.randrange(2**30)
    data["samples"]["children"] = [[round(10e6 * factor * draw.uniform(1, 1.05)) for _ in range(20)]
                                   for _ in range(3)]
    for metric in data["metrics"]:
        for name in ("value", "low", "high"):
            if metric[name] is not None:
                metric[name] *= 1 + draw.uniform(-0.01, 0.01)
    for part in (data, *data["children"]):
        part["phases_s"] = {phase: draw.uniform(0.1, 10) for phase in part["phases_s"]}
        part["wall_s"] = sum(part["phases_s"].values())
    for part in data["children"][1:]:
        part["disturbance"] |= {"others_cpus": draw.random() / 20, "involuntary_switches": draw.randrange(500)}
        part["canary"]["flops_per_second"] *= draw.uniform(0.99, 1.01)


def write_json(root: Path, count: int, **how: int) -> None:
    """Write a JSON file a record, as `Store.save` would but without waiting for the disk."""
    made: set[str] = set()
    for name, text in texts(count, **how):
        folder, _, _ = name.rpartition("/")
        if folder not in made:
            (root / folder).mkdir(parents=True, exist_ok=True)
            made.add(folder)
        with open(root / name, "wb", buffering=0) as file:
            file.write(text)


def write_compacted(root: Path, count: int, **how: int) -> None:
    """Write the same records as compacted files, as `trnbench results compact` would from the JSON files."""
    root.mkdir(parents=True, exist_ok=True)
    reader, waiting = Reader(samples=False), list[tuple[str, bytes]]()
    for i, named in enumerate(texts(count, **how), 1):
        waiting.append(named)
        if len(waiting) == FILE_ROWS or i == count:
            rows = [row_of(reader.read(text), name, text) for name, text in waiting]
            (root / name_of(digest(text) for _, text in waiting)).write_bytes(content_of(rows))
            waiting = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--cases", type=int, default=2_000, help="cases and machines among them; 0: each its own")
    parser.add_argument("--compacted", action="store_true", help="Parquet files in place of JSON files")
    options = parser.parse_args()
    write = write_compacted if options.compacted else write_json
    write(options.root, options.count, cases=options.cases or options.count)


if __name__ == "__main__":
    main()
