"""What `auto` means: each open setting tried in turn by a short trial, the fastest kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.contracts import Device, Settings, Timed

TRIAL_SECONDS = 1.0
TRIAL_STEPS = (2, 20)
COMPILE_WORTH_S = 10.0
CLEARLY = 0.97
"""A value replaces a better guess only where it takes at most this share of its time."""


def choose(axes: Mapping[str, Sequence[Any]], settings: Settings, *, max_seconds: float,
           trial: Callable[[Settings], float]) -> dict[str, Any]:
    """Return {"settings", "trials": [{"settings", "step_ns" or "error"}], "notes"}.

    One axis after the other, each with the best of those before it: threads, then layout, then
    compile. `trial(settings)` returns a step's ns. Compiling takes tens of seconds, so it is tried
    only where the user asked for at least 10 s of timed rounds: under that the answer would cost
    more than the measurement it serves. What cannot run is no choice, and its error is kept; where
    nothing can, `settings` stand as they are and a note says so.
    """
    best = dict(settings)
    trials: list[dict[str, Any]] = []
    notes: list[str] = []
    best_ns: float | None = None
    for axis, values in axes.items():
        if axis == "compile" and max_seconds < COMPILE_WORTH_S:
            notes.append(f"compile not tried: {max_seconds:g} s of timing were asked for, and finding out takes "
                         f"longer; pass --compile, or --max-seconds {COMPILE_WORTH_S:g} or more")
            continue
        if not trials:
            best_ns = _tried(best, trial, trials)
        for value in values:
            if value == best[axis]:
                continue
            candidate = best | {axis: value}
            step_ns = _tried(candidate, trial, trials)
            if step_ns is not None and (best_ns is None or step_ns < CLEARLY * best_ns):
                best, best_ns = candidate, step_ns
    if trials and best_ns is None:
        notes.append(f"none of the {len(trials)} settings tried could run, and the first guess stands: "
                     f"{trials[0]['error']}")
    return {"settings": best, "trials": trials, "notes": notes}


def _tried(settings: Settings, trial: Callable[[Settings], float], trials: list[dict[str, Any]]) -> float | None:
    try:
        step_ns = trial(settings)
    except Exception as error:  # noqa: BLE001 - any failure rules the setting out, and is kept
        trials.append({"settings": dict(settings), "error": f"{type(error).__name__}: {error}"[:500]})
        return None
    trials.append({"settings": dict(settings), "step_ns": step_ns})
    return step_ns


def time_briefly(timed: Timed, device: Device) -> float:
    """Return the ns of the quickest of 2 to 20 waited steps, about a second of them, after two untimed ones.

    The quickest, as what disturbs a step for a moment says nothing of a setting.
    """
    times_ns: list[int] = []
    for _ in range(2):
        timed.step()
        device.wait()
    started_ns = device.clock_ns()
    while len(times_ns) < TRIAL_STEPS[0] or (len(times_ns) < TRIAL_STEPS[1]
                                             and device.clock_ns() - started_ns < TRIAL_SECONDS * 1e9):
        start_ns = device.clock_ns()
        timed.step()
        device.wait()
        times_ns.append(device.clock_ns() - start_ns)
    return min(times_ns)
