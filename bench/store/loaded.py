"""What reading a store gives: records in order, and the files that gave none, each with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from bench.record import Record


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was passed over, and why. It is left as it is."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Records in the order they were started, and the files that gave none."""

    records: tuple[Record, ...] = ()
    problems: tuple[Problem, ...] = ()


def why(error: Exception) -> str:
    """Return one line that says why a file could not be read."""
    if isinstance(error, json.JSONDecodeError):
        return f"not whole JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, OSError):
        return f"unreadable: {error.strerror or error}"
    return " ".join(str(error).split())


def started(record: Record) -> tuple[str, str]:
    """Return what records are ordered by."""
    return record.started_at, record.run_id


def in_order(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=started))
