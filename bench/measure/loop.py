"""The timed loop: it knows a step, a way to wait and a clock, and nothing of devices."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from time import perf_counter_ns


def time_rounds(step: Callable[[], object], *, wait: Callable[[], object], rounds: int,
                steps_per_round: int, clock_ns: Callable[[], int] = perf_counter_ns) -> list[int]:
    """Return each round's nanoseconds, its one wait included; ValueError if there is none to time.

    A wait after each step would keep steps from overlapping on a device that queues them.
    """
    if rounds < 1 or steps_per_round < 1:
        raise ValueError(f"need at least 1 round of 1 step, got {rounds} of {steps_per_round}")
    times_ns = [0] * rounds  # made beforehand: a growing list would be paid for inside the loop
    if steps_per_round == 1:
        for i in range(rounds):
            start_ns = clock_ns()
            step()
            wait()
            times_ns[i] = clock_ns() - start_ns
        return times_ns
    steps = range(steps_per_round)
    for i in range(rounds):
        start_ns = clock_ns()
        for _ in steps:
            step()
        wait()
        times_ns[i] = clock_ns() - start_ns
    return times_ns


@contextlib.contextmanager
def quiet_heap() -> Iterator[None]:
    """Hold garbage collection off, with what exists already put out of its sight."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
