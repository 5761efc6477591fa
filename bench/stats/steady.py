"""When a warming series of rounds may be called steady, and whether timed rounds still drift."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.stats.distributions import t_quantile
from bench.stats.intervals import positive

WINDOW, FEW_WINDOW = 20, 4
TOLERANCE = 0.02
BLOCKS = 8


def steady_from(rounds_ns: Sequence[float], compiles: Sequence[int] | None = None, *,
                few: bool = False) -> int | None:
    """Return the first round from which the series counts as steady, or None: not yet.

    Rule: take the later half of the rounds, at least the last 20 (`few`: at least the last 4, for
    rounds of some half a second and more), all of them after the last round that compiled anything,
    the first of them not the longest of them all. They are steady when their two halves cannot be
    told apart: the halves' medians differ by 2 % at most, or the Mann-Whitney statistic of one half
    against the other lies within one standard error of "no difference". Ranks make the noise its
    own yardstick and spikes harmless.

    `compiles[i]`: how many graphs the device had compiled by the end of round i.
    In simulation, asked after every round: rounds that scatter by 1 to 20 % from the start are steady
    after 20 rounds (19 runs in 20: at most 30; `few`: 5 and 7). A start twice as slow that decays as
    exp(-i/tau) is called steady some 5 tau in, 0.3 % above its final level for noise of 1 %, 1 % for
    noise of 5 %. A drift of less than 2 % in 10 rounds, or one lost in noise, passes: see `drift`.
    """
    if compiles is not None and len(compiles) != len(rounds_ns):
        raise ValueError(f"{len(compiles)} counts of compilations for {len(rounds_ns)} rounds")
    n, window = len(rounds_ns), FEW_WINDOW if few else WINDOW
    start = max(min(n // 2, n - window), _after_last_compile(compiles or ()))
    if n - start < window or rounds_ns[start] > max(rounds_ns[start + 1:]):
        return None
    return start if _alike(rounds_ns[start:]) else None


def drift(rounds_ns: Sequence[float]) -> float | None:
    """Return the relative change from the first to the second half of timed rounds, or None.

    None: the change is below 2 %, or Student's t (98 %) on the medians of eight blocks of either half
    does not tell the halves apart. Blocks, as neighbouring rounds resemble each other; and a drift
    within a half must not hide the drift from half to half, as it would from an interval that takes
    every correlation for noise.
    """
    half = len(rounds_ns) // 2
    if half < BLOCKS:
        return None
    series = positive(rounds_ns)
    early, late = (np.log([float(np.median(block)) for block in np.array_split(part, BLOCKS)])
                   for part in (series[:half], series[-half:]))
    error = math.sqrt((float(early.var(ddof=1)) + float(late.var(ddof=1))) / BLOCKS)
    apart = abs(float(late.mean() - early.mean())) > t_quantile(0.99, 2 * BLOCKS - 2) * error
    change = float(np.median(series[-half:]) / np.median(series[:half])) - 1
    return change if apart and abs(change) > TOLERANCE else None


def _alike(rounds: Sequence[float]) -> bool:
    """Say whether two halves cannot be told apart (an odd middle round belongs to neither).

    U counts the pairs (early, late) in which the early round is the longer, ties as half. For h
    independent rounds a half, U/h^2 has mean 1/2 and standard error sqrt((2h+1)/12)/h: Mann and
    Whitney, Annals of Mathematical Statistics 18 (1947) 50.
    """
    series = positive(rounds)
    half = len(series) // 2
    early, late = series[:half], series[-half:]
    if abs(math.log(float(np.median(late)) / float(np.median(early)))) <= TOLERANCE:
        return True
    late = np.sort(late)
    u = float((np.searchsorted(late, early, "left") + np.searchsorted(late, early, "right")).sum()) / 2
    return abs(u / half**2 - 0.5) <= math.sqrt((2 * half + 1) / 12) / half


def _after_last_compile(compiles: Sequence[int]) -> int:
    """Return the first round after the last one in which the count of compilations changed."""
    changed = np.flatnonzero(np.diff(np.asarray(compiles, dtype=int), prepend=0))
    return int(changed[-1]) + 1 if changed.size else 0
