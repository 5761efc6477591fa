"""A case says what to run; an effort says how long to look. Both are plain, frozen values."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from bench.errors import BenchError, nearest

TASKS = ("inference", "training")
DTYPES = ("fp32", "tf32", "bf16", "fp16", "amp-bf16", "amp-fp16", "fp8")
"""Number formats. Plain names: weights and activations both. `amp-*`: float32 weights, autocast."""

PUBLISHED_DTYPES = ("int8", "int4", "fp4", "mxfp4")
"""Further number formats of results that others published. Never offered, never run."""

UNSTATED = "unstated"
"""Task or dtype of a result imported from a tool that does not say. Never offered, never run."""

PARALLELISM = re.compile(r"(dp|fsdp)=([1-9]\d*)")
"""What is run: data parallel over N processes, with whole models (`dp=N`) or sharded ones (`fsdp=N`)."""

Scalar = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Case:
    """What to run. Two equal cases have one `id`, on any machine and in any process.

    `compile`: "auto" (a short trial decides), "off", or a mode the backend names ("on" is its
    default mode). `batch_size` and `threads` are those of one rank, where `parallelism` has several:
    `threads`: host threads of the child, "auto" for a trial. `options` are the
    workload's own settings, every one of them filled in (say `new_tokens`), `backend_options` the
    backend's. `weights_sha256` and `workload_sha256` stand for files' contents, as paths prove
    nothing; the paths themselves are kept but are no part of the identity.
    """

    workload: str
    size: str
    task: str
    scenario: str
    backend: str
    dtype: str
    batch_size: int
    seq_len: int | None = None
    compile: str = "auto"
    threads: int | str = "auto"
    parallelism: str = "dp=1"
    seed: int = 0
    options: dict[str, Scalar] = field(default_factory=dict)
    backend_options: dict[str, Scalar] = field(default_factory=dict)
    weights: str | None = None
    weights_sha256: str | None = None
    workload_file: str | None = None
    workload_sha256: str | None = None

    def __post_init__(self) -> None:
        for name, allowed, others in (("task", TASKS, ()), ("dtype", DTYPES, PUBLISHED_DTYPES)):
            value = getattr(self, name)
            if value not in (*allowed, *others, UNSTATED):
                raise BenchError(f"Unknown {name} {value!r}.{nearest(value, allowed)}",
                                 fix=f"choose one of {', '.join(allowed)}.")
        for name in ("batch_size", "seq_len"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BenchError(f"{name} must be at least 1, got {value}.",
                                 fix=f"pass --{name.replace('_', '-')} 1 or more.")
        if not 0 <= self.seed < 2**63:
            raise BenchError(f"seed must be from 0 to 2**63 - 1, got {self.seed}.", fix="pass --seed 0, say.")
        if self.threads != "auto" and (not isinstance(self.threads, int) or self.threads < 1):
            raise BenchError(f"threads must be 'auto' or at least 1, got {self.threads!r}.",
                             fix="pass --threads auto, or a number of threads.")

    def __hash__(self) -> int:
        return hash(self.id)

    @functools.cached_property  # a report asks thousands of records which case they are of
    def id(self) -> str:
        """Twelve hex digits over everything that changes what is run."""
        return _digest({name: getattr(self, name) for name in _ID_FIELDS})

    @functools.cached_property
    def work_id(self) -> str:
        """Twelve hex digits over the work alone: equal where two backends or set-ups do the same."""
        return _digest({name: getattr(self, name) for name in WORK_FIELDS})

    @property
    def label(self) -> str:
        """A short name for tables and progress lines, e.g. `bert:base inference/offline bf16 b8 s128`."""
        seq = f" s{self.seq_len}" if self.seq_len else ""
        ranks = f" {self.parallelism}" if self.ranks > 1 else ""
        return (f"{self.workload}:{self.size} {self.task}/{self.scenario} {self.dtype} "
                f"b{self.batch_size}{seq}{ranks}")

    @property
    def ranks(self) -> int:
        """Processes that share the work; 1 where others' results say something else of theirs."""
        found = PARALLELISM.fullmatch(self.parallelism)
        return int(found[2]) if found else 1

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Case:
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to look: no part of a case's identity, as a longer look measures the same thing.

    A child stops timing once the 95 % interval of its median is within `target_relative` of it,
    or after `max_seconds` of timed rounds; `timeout_s` bounds the whole child by the wall clock.
    """

    repeats: int = 3
    max_seconds: float = 20.0
    timeout_s: float = 1800.0
    target_relative: float = 0.005

    def __post_init__(self) -> None:
        for name, least in (("repeats", 1), ("max_seconds", 0), ("timeout_s", 0)):
            value = getattr(self, name)
            if value < least or value == 0 or not math.isfinite(value):
                raise BenchError(f"{name} must be a number above 0, got {value}.",
                                 fix=f"pass a positive --{name.removesuffix('_s').replace('_', '-')}.")

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


WORK_FIELDS = ("workload", "size", "task", "scenario", "dtype", "batch_size", "seq_len",
               "parallelism", "seed", "options", "weights_sha256", "workload_sha256")
_PATHS = ("weights", "workload_file")
_ID_FIELDS = tuple(f.name for f in dataclasses.fields(Case) if f.name not in _PATHS)


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]
