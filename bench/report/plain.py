"""Records as csv and as one JSON document, for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bench import __version__
from bench.errors import BenchError
from bench.record import Record
from bench.report.frame import columns, row
from bench.report.money import COLUMNS, Money
from bench.store import Problem

SCHEMA_VERSION = "trnbench.report/1"


def to_csv(records: Sequence[Record], money: Money | None = None) -> str:
    """Return a line a record under `frame.columns()`, with money also `money.COLUMNS`; unknown is empty."""
    return "".join(csv_lines(records, money))


def csv_lines(records: Iterable[Record], money: Money | None = None) -> Iterator[str]:
    """Yield the lines of `to_csv`; no record, and no price of it, is kept once its line is made."""
    line = io.StringIO()
    writer = csv.DictWriter(line, columns() + list(COLUMNS if money else ()), lineterminator="\n")
    writer.writeheader()
    yield line.getvalue()
    for record in records:
        line.seek(0)
        line.truncate()
        writer.writerow(_row(record, money))
        if money:
            money.forget(record)
        yield line.getvalue()


def write_parquet(records: Sequence[Record], money: Money, path: str) -> None:
    """Write the rows of `to_csv` as Parquet, numbers as numbers; BenchError without pyarrow."""
    import pandas as pd

    rows = pd.DataFrame([_row(record, money) for record in records], columns=[*columns(), *COLUMNS])
    try:
        rows.to_parquet(path, index=False)
    except ImportError as error:
        raise BenchError("Parquet needs pyarrow, which is not installed.",
                         fix="pip install 'trnbench[report]'.") from error
    except OSError as error:
        raise BenchError(f"{path} could not be written: {error.strerror or error}.",
                         fix="pass -o with a file that you may write.") from error


def to_json(records: Sequence[Record], problems: Sequence[Problem] = (), money: Money | None = None) -> str:
    """Return {"schema_version", "tool", "prices", "rows": [by `frame.columns()`], "machines", "problems"}.

    `prices`: the terms, and with them `money.COLUMNS` in each row; null where nothing was priced.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "trnbench", "version": __version__},
        "prices": money.terms.to_json() if money else None,
        "rows": [_row(record, money) for record in records],
        "machines": {str(r.machine.get("name")): r.machine for r in records if not r.source},
        "problems": [{"path": p.path, "reason": p.reason} for p in problems],
    }
    return json.dumps(document, allow_nan=False, indent=1) + "\n"


def _row(record: Record, money: Money | None) -> dict[str, Any]:
    return row(record) | (money.row(record) if money else {})
