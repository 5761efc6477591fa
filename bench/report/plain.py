"""Records as csv and as one JSON document, for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from bench import __version__
from bench.record import Record
from bench.report.frame import columns, row
from bench.store import Problem

SCHEMA_VERSION = "trnbench.report/1"


def to_csv(records: Sequence[Record]) -> str:
    """Return a line a record under `frame.columns()`; unknown is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row(record) for record in records)
    return out.getvalue()


def to_json(records: Sequence[Record], problems: Sequence[Problem] = ()) -> str:
    """Return {"schema_version", "tool", "rows": [by `frame.columns()`], "machines", "problems"}."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "trnbench", "version": __version__},
        "rows": [row(record) for record in records],
        "machines": {str(r.machine.get("name")): r.machine for r in records},
        "problems": [{"path": p.path, "reason": p.reason} for p in problems],
    }
    return json.dumps(document, allow_nan=False, indent=1) + "\n"
