"""Two stored records held against one another: their ratio, and whether it can be told from 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.stats.distributions import t_quantile

Verdict = Literal["differs", "same", "cant_tell"]


@dataclass(frozen=True, slots=True)
class Ratio:
    """new / base with its 95 % interval. Times: above 1 is slower.

    `verdict`: "differs" (the interval excludes 1: the value's side of 1 says which way), "same" (the
    interval lies within the margin asked for), "cant_tell". `smallest_visible`: the relative
    difference that would be flagged with 80 % probability. None: unknown, and `reason` says why.
    """

    value: float
    low: float | None
    high: float | None
    verdict: Verdict
    smallest_visible: float | None
    method: str
    reason: str | None = None


def compare(base: Sequence[Sequence[float]], new: Sequence[Sequence[float]],
            noise_floor: float | None, *, margin: float = 0.05) -> Ratio:
    """Return the ratio new / base of two records' medians, each given as its children's rounds.

    Welch's t on the logs of the child medians (Welch, Biometrika 34 (1947) 28). Two records are
    taken at different times, which their own children do not show: where the machine's noise floor
    f (see `noise_floor`) exceeds the children's pooled spread s, the variance f^2 - s^2 is added
    for each record.
    """
    return compare_values([float(np.median(r)) for r in base], [float(np.median(r)) for r in new],
                          noise_floor, margin=margin)


def compare_values(base: Sequence[float], new: Sequence[float], noise_floor: float | None, *,
                   margin: float = 0.05) -> Ratio:
    """The same from one positive number per child, of any metric."""
    x, y = np.log(np.asarray(base, dtype=float)), np.log(np.asarray(new, dtype=float))
    value = float(np.median(y) - np.median(x))
    if min(len(x), len(y)) < 2:
        return Ratio(math.exp(value), None, None, "cant_tell", None, "one child on a side",
                     "one child says nothing about the spread between children: use --repeats 3 or more")
    vx, vy = float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y)
    df = (vx + vy) ** 2 / (vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1)) if vx + vy else float(
        len(x) + len(y) - 2)
    pooled = (float(((x - x.mean()) ** 2).sum()) + float(((y - y.mean()) ** 2).sum())) / (
        len(x) + len(y) - 2)
    between = max(0.0, (noise_floor or 0.0) ** 2 - pooled)
    return _judge(value, float(y.mean() - x.mean()), math.sqrt(vx + vy + 2 * between), df, margin,
                  f"Welch t on the logs of {len(x)} and {len(y)} children")


def paired_children(a: Sequence[float], b: Sequence[float], *, margin: float = 0.05) -> Ratio:
    """Return b / a from children run in alternation (A B B A), `a[i]` and `b[i]` next to each other.

    Student's t on the logs of the ratios of neighbours: what drifts slowly moves both alike.
    """
    if len(a) != len(b):
        raise ValueError(f"need pairs, got {len(a)} and {len(b)} children")
    logs = np.log(np.asarray(b, dtype=float) / np.asarray(a, dtype=float))
    value = float(np.median(logs))
    if len(logs) < 2:
        return Ratio(math.exp(value), None, None, "cant_tell", None, "one pair of children",
                     "one pair says nothing about the spread between pairs: run two or more")
    error = float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return _judge(value, float(logs.mean()), error, len(logs) - 1, margin,
                  f"Student t on the logs of {len(logs)} pairs of children")


def noise_floor(medians: Sequence[float]) -> float:
    """Return the machine's relative spread between runs: the standard deviation of the logs.

    `medians`: one per run of the same case (an A/A run), the runs as far apart in time as the records
    that are to be compared; at least 2.
    """
    if len(medians) < 2:
        raise ValueError(f"a spread needs at least 2 runs, got {len(medians)}")
    return float(np.log(np.asarray(medians, dtype=float)).std(ddof=1))


def _judge(value: float, centre: float, error: float, df: float, margin: float, method: str) -> Ratio:
    """A verdict on a log ratio: `centre` with its standard error and degrees of freedom."""
    t = t_quantile(0.975, df)
    low, high = centre - t * error, centre + t * error
    verdict: Verdict = "cant_tell"
    if low > 0 or high < 0:
        verdict = "differs"
    elif -math.log1p(margin) <= low and high <= math.log1p(margin):
        verdict = "same"
    visible = math.expm1((t + t_quantile(0.8, df)) * error)
    return Ratio(math.exp(value), math.exp(min(low, value)), math.exp(max(high, value)), verdict, visible,
                 method)
