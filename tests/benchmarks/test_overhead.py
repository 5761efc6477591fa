"""What the harness itself costs: its loop against a bare one, in turns within one process."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from statistics import median
from time import perf_counter_ns
from typing import Any

import pytest

from bench.measure.loop import quiet_heap, time_rounds
from bench.registry import case_for, load_backend, load_scenario, load_workload

Step = Callable[[], object]

LIMIT = 0.01


def bare_rounds(step: Step, rounds: int) -> list[int]:
    """What anyone would write: each step between two readings of the clock."""
    times_ns = []
    for _ in range(rounds):
        start_ns = perf_counter_ns()
        step()
        times_ns.append(perf_counter_ns() - start_ns)
    return times_ns


def nothing() -> None:
    """No work, and no wait: the CPU device's own."""


def in_turns(ours: Step, bare: Step, turns: int = 500, rounds: int = 3) -> tuple[float, list[int], list[int]]:
    """Return the median of the turns' ratios (ours over bare) and all rounds of both; who is first alternates.

    Short turns, so that what disturbs the machine meets both alike.
    """
    found: tuple[list[int], list[int]] = ([], [])
    ratios = []
    with quiet_heap():
        for turn in range(turns):
            mine: list[int] = []
            other: list[int] = []
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                if side == 0:
                    mine = time_rounds(ours, wait=nothing, rounds=rounds, steps_per_round=1)
                else:
                    other = bare_rounds(bare, rounds)
            ratios.append(median(mine) / median(other))
            found[0].extend(mine)
            found[1].extend(other)
    return median(ratios), *found


def overhead(benchmark: Any, ours: Step, bare: Step) -> float:
    """Return how far the ratio of medians is from 1, the least of up to three tries; figures go beside the benchmark.

    Three, as a machine that is busy now and then shows 1 % of its own; a cost of ours is there each time.
    """
    ratios: list[float] = []
    while not ratios or (abs(ratios[-1] - 1) >= LIMIT and len(ratios) < 3):
        run = functools.partial(in_turns, ours, bare)
        ratio, ours_ns, bare_ns = run() if ratios else benchmark.pedantic(run, rounds=1)
        ratios.append(ratio)
    benchmark.extra_info |= {"ratios_of_medians": [round(ratio, 5) for ratio in ratios], "rounds": len(ours_ns),
                             "ours_ns": median(ours_ns), "bare_ns": median(bare_ns)}
    return min(abs(ratio - 1) for ratio in ratios)


def a_millisecond() -> Step:
    """Plain arithmetic of about 1 ms, that reads no memory worth the name."""
    numbers = range(1000)
    while min(bare_rounds(functools.partial(sum, numbers), 5)) < 1_000_000:
        numbers = range(len(numbers) * 5 // 4)
    return functools.partial(sum, numbers)


def test_a_step_of_a_millisecond_takes_as_long_as_in_a_bare_loop(benchmark: Any) -> None:
    step = a_millisecond()
    assert overhead(benchmark, step, step) < LIMIT


def test_a_round_of_nothing_costs_less_than_a_microsecond_more(benchmark: Any) -> None:
    # By the wall clock, as the timed part is ended by it: whole calls, lists and loops included.
    rounds, more_ns = 20_000, []

    def measure() -> None:
        with quiet_heap():
            for _ in range(15):
                start_ns = perf_counter_ns()
                time_rounds(nothing, wait=nothing, rounds=rounds, steps_per_round=1)
                middle_ns = perf_counter_ns()
                bare_rounds(nothing, rounds)
                more_ns.append((2 * middle_ns - start_ns - perf_counter_ns()) / rounds)

    benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["ns_a_round_over_bare"] = round(median(more_ns), 1)
    assert median(more_ns) < 1000


def test_a_prepared_step_takes_as_long_as_the_model_called_by_hand(benchmark: Any) -> None:
    import torch

    threads = torch.get_num_threads()
    workload, cpu = load_workload("gemm"), load_backend("cpu")
    case = case_for("gemm", workload, backend="cpu", dtype="fp32", size="tiny", threads=1, compile="off")
    with contextlib.closing(cpu.open(case, cpu.fixed(case))) as device:
        program = workload.build(case)
        timed = load_scenario(case.scenario).prepare(program, device, workload.work(case))
        model, inputs = program.model, program.inputs[0]
        found = overhead(benchmark, timed.step, lambda: model(inputs))
    torch.set_num_threads(threads)
    assert found < LIMIT


@pytest.mark.parametrize("steps", [1, 10])
def test_the_loop_itself(benchmark: Any, steps: int) -> None:
    """For the record alone: ten thousand rounds of nothing."""
    times = benchmark(time_rounds, nothing, wait=nothing, rounds=10_000 // steps, steps_per_round=steps)
    assert len(times) == 10_000 // steps
