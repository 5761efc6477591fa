"""How much to sample: how many steps in a round, and when the rounds of a child suffice."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.stats.intervals import rounds_interval

MIN_ROUNDS = 10


def narrow_enough(rounds: Sequence[float], target_relative: float) -> bool:
    """Say whether the 95 % interval of this child's median lies within `target_relative` of it.

    The interval is `rounds_interval`'s, its farther end counts, and fewer than 10 rounds never do.
    """
    if len(rounds) < MIN_ROUNDS:
        return False
    found = rounds_interval(rounds)
    if found.low is None or found.high is None:
        return False
    return max(found.high - found.value, found.value - found.low) <= target_relative * found.value


def steps_per_round(step_ns: float, target_round_ns: float) -> int:
    """Return the fewest steps, at least 1, that make a round of `target_round_ns` at `step_ns` a step."""
    if step_ns <= 0 or target_round_ns <= 0:
        raise ValueError(f"need times above 0, got step {step_ns} ns, round {target_round_ns} ns")
    return max(1, math.ceil(target_round_ns / step_ns))
