"""Intervals for numbers measured in a few fresh processes ("children"), many rounds in each.

One child is one sample of the machine, however many rounds it timed, so with two children or more
the interval comes from the spread of the children: Student's t on the logarithms of one number per
child. Measured on simulated runs (tests/test_stats.py) ...
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.stats.distributions import normal_quantile, t_quantile

ONE_CHILD = "rounds of one child: says nothing of the machine"


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and its interval, in one unit. `low` and `high` are None where nothing can be said.

    `n` counts what the interval rests on, children or (for one child) rounds; `method` says how.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    method: str


def median_interval(children: Sequence[Sequence[float]], confidence: float = 0.95) -> Interval:
    """Return the median round of a typical child, from each child's rounds (all above 0).

    Two children or more: `children_interval` of their medians. One child: `rounds_interval`.
    """
    if len(children) == 1:
        return rounds_interval(children[0], confidence)
    return children_interval([float(np.median(_positive(rounds))) for rounds in children], confidence)


def children_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the typical child's number and its interval, from one positive number per child.

    value: the median child, exp(median(log values)), so that one disturbed child in three does not
    move it. Interval: Student's t about the mean of the logs, exp(mean +- t(n-1) sd / sqrt(n)),
    widened where needed to contain the value. Logs, because effects on speed multiply, and so a
    rate's interval is the inverse of its time's. One child: no interval.
    """
    logs = np.log(_positive(values))
    value, n = math.exp(float(np.median(logs))), len(logs)
    if n == 1:
        return Interval(value, None, None, 1, "one child: says nothing of the machine")
    half = t_quantile((1 + confidence) / 2, n - 1) * float(logs.std(ddof=1)) / math.sqrt(n)
    centre = float(logs.mean())
    return Interval(value, min(math.exp(centre - half), value), max(math.exp(centre + half), value), n,
                    f"Student t on the logs of {n} children")


def rounds_interval(rounds: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the median of one child's rounds with an interval for the rounds alone.

    Order statistics: for independent rounds, the ranks (n+1)/2 -+ z sqrt(n)/2 (the binomial's normal
    form, rounded outwards; Conover, Practical Nonparametric Statistics, 3.2). Rounds are correlated,
    so n is divided by their correlation time (see `correlation_time`). Fewer than 6 rounds, or too
    few for their correlation: no interval.
    """
    ordered = np.sort(_positive(rounds))
    n, value = len(ordered), float(np.median(ordered))
    if n < 2:
        return Interval(value, None, None, n, ONE_CHILD)
    reach = normal_quantile((1 + confidence) / 2) * math.sqrt(n * correlation_time(rounds)) / 2
    rank = math.floor((n + 1) / 2 - reach)  # counted from 1
    if rank < 1:
        return Interval(value, None, None, n, ONE_CHILD)
    return Interval(value, float(ordered[rank - 1]), float(ordered[n - rank]), n, ONE_CHILD)


def correlation_time(rounds: Sequence[float]) -> float:
    """Return by how much correlation between rounds inflates the variance of their median, at least 1.

    1 + 2 sum(rho_k), rho_k the autocorrelation at lag k of "above or below the median": the median
    of a series varies as the mean of those signs does. The sum ends at the first pair of lags whose
    sum is not positive (Geyer, Statistical Science 7 (1992) 473, initial positive sequence).
    """
    signs = np.sign(np.asarray(rounds, dtype=float) - np.median(rounds))
    signs -= signs.mean()
    n, power = len(signs), float(signs @ signs)
    if n < 4 or power == 0:
        return 1.0
    total = 0.0
    for lag in range(1, n // 2, 2):
        pair = float(signs[lag:] @ signs[:-lag] + signs[lag + 1:] @ signs[:-lag - 1]) / power
        if pair <= 0:
            break
        total += pair
    return max(1.0, 1 + 2 * total)


def rate_interval(items_per_step: float, steps_per_round: Sequence[int],
                  children: Sequence[Sequence[float]]) -> Interval:
    """Return items per second, total over total in each child: every item over all the timed time.

    `children`: each child's rounds in ns; `steps_per_round`: one number per child. This is the
    throughput a user gets, stalls and all (all items over the mean of one step, as a rival had it,
    is wrong by the number of steps). It is the main throughput; `typical_rate_interval` is what the
    machine does in a round that nothing disturbs.
    """
    return children_interval([items_per_step * steps * len(rounds) * 1e9 / float(_positive(rounds).sum())
                              for steps, rounds in zip(steps_per_round, children, strict=True)])


def typical_rate_interval(items_per_step: float, steps_per_round: Sequence[int],
                          children: Sequence[Sequence[float]]) -> Interval:
    """Return items per second of the median round: the items of one round over the median round's time."""
    return children_interval([items_per_step * steps * 1e9 / float(np.median(_positive(rounds)))
                              for steps, rounds in zip(steps_per_round, children, strict=True)])


def _positive(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or array.size == 0 or not np.all(np.isfinite(array)) or array.min() <= 0:
        raise ValueError(f"need at least one number, all finite and above 0, got {list(values)[:5]}")
    return array
