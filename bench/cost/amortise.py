"""Cost against the length of a job: starting and compiling are paid once, each item over and over.

A job of n items costs (fixed_s + n / items_per_second) / 3600 x USD per hour.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.units import HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a job runs on: USD per hour, the seconds before its first item, items per second after that."""

    usd_per_hour: float
    fixed_s: float
    items_per_second: float

    def usd(self, items: float) -> float:
        """Return what `items` items cost, starting included."""
        return (self.fixed_s + items / self.items_per_second) / HOUR_S * self.usd_per_hour

    def usd_per_million(self, items: float) -> float:
        """Return what a million items cost in a job of so many; ValueError below one item."""
        if items < 1:
            raise ValueError(f"a job has at least 1 item, got {items}")
        return self.usd(items) / items * 1e6


@dataclass(frozen=True, slots=True)
class Crossover:
    """From how many items on which job is the cheaper. `items` None: one of them always is.

    `below`, `above`: "first" or "second", the cheaper one of shorter and of longer jobs.
    """

    items: float | None
    below: str
    above: str


def crossover(first: Job, second: Job) -> Crossover:
    """Return the length of job at which two cost the same.

    Of (f1 + n/r1) p1 = (f2 + n/r2) p2, where p is USD per hour, f the fixed seconds and r items per
    second: n = (f2 p2 - f1 p1) / (p1/r1 - p2/r2).
    """
    start = second.fixed_s * second.usd_per_hour - first.fixed_s * first.usd_per_hour
    each = first.usd_per_hour / first.items_per_second - second.usd_per_hour / second.items_per_second
    if each == 0:
        cheaper = "first" if start >= 0 else "second"
        return Crossover(None, cheaper, cheaper)
    long = "first" if each < 0 else "second"
    if start / each <= 0:
        return Crossover(None, long, long)
    return Crossover(start / each, "second" if long == "first" else "first", long)
