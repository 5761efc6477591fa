"""When a warming series of rounds may be called steady."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WINDOW, FEW_WINDOW = 20, 4
TOLERANCE = 0.02


def steady_from(rounds_ns: Sequence[float], compiles: Sequence[int] | None = None, *,
                few: bool = False) -> int | None:
    """Return the first round from which the series counts as steady, or None: not yet.

    Rule: take the later half of the rounds, at least 20 of them (`few`: at least 4, for rounds of a
    second and more), in four blocks. It is steady if the first block's median lies within the range
    of the other three blocks' medians, widened by 2 %: a slow start or a drift puts the first block
    outside, noise does so about half the time and the next look passes. The noise sets the scale by
    itself. No round in which something was compiled may be part of it: `compiles[i]` is the
    device's count of compilations after round i.
    """
    n = len(rounds_ns)
    window = FEW_WINDOW if few else WINDOW
    start = min(n // 2, n - window)
    if start < _last_compile(compiles):
        start = _last_compile(compiles)
    if n - start < window:
        return None
    blocks = np.array_split(np.asarray(rounds_ns[start:], dtype=float), 4)
    first, *others = (float(np.median(block)) for block in blocks)
    if min(others) * (1 - TOLERANCE) <= first <= max(others) * (1 + TOLERANCE):
        return start
    return None


def _last_compile(compiles: Sequence[int] | None) -> int:
    """The first round after the last in which the count of compilations rose."""
    if not compiles:
        return 0
    rises = np.flatnonzero(np.diff(np.asarray(compiles), prepend=0))
    return int(rises[-1]) + 1 if rises.size else 0
