"""Two stored records held against one another: their ratio, and whether it can be told from 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.stats.distributions import normal_quantile, t_quantile
from bench.stats.intervals import children_interval, positive

Verdict = Literal["differs", "same", "cant_tell"]
CONFIDENCE, POWER = 0.95, 0.8


@dataclass(frozen=True, slots=True)
class Ratio:
    """new / base with its 95 % interval; of times, above 1 is slower. None: unknown, `reason` says why.

    `verdict`: "differs" (the interval excludes 1; the value's side of 1 says which way), "same"
    (the interval lies within the margin asked for) or "cant_tell". `smallest_visible`: the relative
    slow-down that such a comparison would call "differs" with 80 % probability.
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

    `noise_floor`: the machine's, None where it was never measured; `margin`: how far from 1 still
    counts as the same. The rule is `compare_values`'s.
    """
    return compare_values(_medians(base), _medians(new), noise_floor, margin=margin)


def compare_values(base: Sequence[float], new: Sequence[float], noise_floor: float | None, *,
                     margin: float = 0.05) -> Ratio:
    """Return the ratio new / base of any metric, from one positive number per child.

    Welch's t on the logs of the children's numbers (Welch, Biometrika 34 (1947) 28). The children of
    a record run one after another and so do not show how the machine changes between two records;
    therefore the interval's half-width is never less than 1.96 `noise_floor`: a difference by which
    19 single runs in 20 stray anyway is not called one. One child on a side: no verdict.

    In simulation (child medians scatter by 1.1 %, noise floor from 5 runs; tests/test_stats.py): of
    equal records 1 % are called different; a slow-down of 5 % is found in 93 % of trials with 3
    children a side and in over 99 % with 5. Where the machine also shifts by 0.5 % (1 %) between
    records, unseen by their children, 4 % (12 %) of equal records of 5 children are called
    different; without the floor it would be 13 % (33 %).
    """
    x, y = np.log(positive(base)), np.log(positive(new))
    value = math.log(children_interval(new).value / children_interval(base).value)
    if min(len(x), len(y)) < 2:
        return Ratio(math.exp(value), None, None, "cant_tell", None, "one child on a side",
                     "one child says nothing about the spread between children: repeat 3 times or more")
    vx, vy = float(x.var(ddof=1)) / len(x), float(y.var(ddof=1)) / len(y)
    df = float(len(x) + len(y) - 2)
    if vx + vy > 0:
        df = (vx + vy) ** 2 / (vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1))
    floor = "not narrower than the noise floor" if noise_floor is not None else "no noise floor known"
    return _judge(value, float(y.mean() - x.mean()), math.sqrt(vx + vy), df, noise_floor or 0.0, margin,
                  f"Welch t on the logs of {len(x)} and {len(y)} children, {floor}")


def paired_children(a: Sequence[float], b: Sequence[float], *, margin: float = 0.05) -> Ratio:
    """Return b / a from children run in alternation (A B B A), `a[i]` and `b[i]` next to each other.

    Student's t on the logs of the ratios of neighbours: what drifts slowly moves both alike, so no
    noise floor is needed. One pair: no verdict.
    """
    if len(a) != len(b):
        raise ValueError(f"need pairs, got {len(a)} and {len(b)} children")
    ratios = positive(b) / positive(a)
    value, logs = math.log(children_interval([float(r) for r in ratios]).value), np.log(ratios)
    if len(logs) < 2:
        return Ratio(math.exp(value), None, None, "cant_tell", None, "one pair of children",
                     "one pair says nothing about the spread between pairs: run 3 or more")
    error = float(logs.std(ddof=1)) / math.sqrt(len(logs))
    return _judge(value, float(logs.mean()), error, len(logs) - 1, 0.0, margin,
                  f"Student t on the logs of the ratios of {len(logs)} pairs of children")


Bounded = tuple[float, float | None, float | None]
"""A number with its interval's bounds, None where there is none."""


def at_extremes(above: Bounded, below: Bounded) -> Bounded:
    """Return above / below, with the extremes of both intervals as its own.

    It covers the truth at least as often as they do. A bound is None where either side has none.
    """
    low = above[1] / below[2] if above[1] and below[2] else None
    high = above[2] / below[1] if above[2] and below[1] else None
    return above[0] / below[0], low, high


def noise_floor(medians: Sequence[float]) -> float:
    """Return the machine's relative spread between runs: the standard deviation of the logs.

    `medians`: one per run of the same thing, each in a process of its own (an A/A run), at least 2;
    the farther apart in time, the more of what happens between two records they show.
    """
    if len(medians) < 2:
        raise ValueError(f"a spread needs at least 2 runs, got {len(medians)}")
    return float(np.log(positive(medians)).std(ddof=1))


def _judge(value: float, centre: float, error: float, df: float, floor: float, margin: float,
           method: str) -> Ratio:
    """Judge a log ratio: its `centre`, standard `error`, degrees of freedom and the noise floor."""
    half = max(t_quantile((1 + CONFIDENCE) / 2, df) * error, normal_quantile((1 + CONFIDENCE) / 2) * floor)
    low, high = min(centre - half, value), max(centre + half, value)
    verdict: Verdict = "cant_tell"
    if low > 0 or high < 0:
        verdict = "differs"
    elif -math.log1p(margin) <= low and high <= math.log1p(margin):
        verdict = "same"
    return Ratio(math.exp(value), math.exp(low), math.exp(high), verdict,
                 math.expm1(half + t_quantile(POWER, df) * error), method)


def _medians(children: Sequence[Sequence[float]]) -> list[float]:
    return [float(np.median(positive(rounds))) for rounds in children]
