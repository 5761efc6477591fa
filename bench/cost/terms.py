"""On what terms records are priced: which basis, where, as of when, and which share of the bill."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import Any

from bench.catalog.prices import BASES
from bench.errors import BenchError, nearest

ATTRIBUTIONS = ("instance", "chips")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How hours are turned into money. BenchError for a basis or an attribution that there is not.

    `region` None: the record's own, else the price book's first choice. `as_of` None: today.
    `usd_per_hour`: the user's own rate for an instance that was measured; it needs the basis "user".
    `attribution`: "instance" charges the whole machine, "chips" only the share of its chips in use.
    """

    basis: str = "on-demand"
    region: str | None = None
    as_of: date | None = None
    usd_per_hour: float | None = None
    attribution: str = "instance"

    def __post_init__(self) -> None:
        for name, known in (("basis", BASES), ("attribution", ATTRIBUTIONS)):
            given = getattr(self, name)
            if given not in known:
                raise BenchError(f"Unknown {name} {given!r}.{nearest(given, known)}",
                                 fix=f"choose one of {', '.join(known)}.")
        if self.usd_per_hour is not None:
            if not (math.isfinite(self.usd_per_hour) and self.usd_per_hour > 0):
                raise BenchError(f"--usd-per-hour must be a number above 0, got {self.usd_per_hour}.",
                                 fix="pass what an hour of the machine costs, e.g. --usd-per-hour 1.34.")
            if self.basis != "user":
                raise BenchError(f"--usd-per-hour is your own rate, not {self.basis}.",
                                 fix="leave --basis away, or pass --basis user.")

    @property
    def day(self) -> date:
        return self.as_of or date.today()

    def to_json(self) -> dict[str, Any]:
        return {"basis": self.basis, "region": self.region, "as_of": self.day.isoformat(),
                "usd_per_hour": self.usd_per_hour, "attribution": self.attribution}
