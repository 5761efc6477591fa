"""How far intervals and comparisons can be trusted: simulated runs through the real warm-up and timed part.

A run is the real code on an emulated device, whose truth is known; what is left out is what takes time
and adds none of it to the statistics: processes, building the model anew and the canary.

Found with these seeds: the 95 % intervals cover the typical throughput in 96.4 % of 1,000 runs and the
sustained one in 94.4 %; 5 % slower is flagged in 97.5 % of 200 trials, equal in 3.5 %. With other seeds and
400 trials, three children a record: 97.0 % and 4.3 %. Four find 99.8 %, but call 7.5 % of equals different:
a floor from processes of one minute does not know how the machine changes from hour to hour.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist, median
from typing import Any

import numpy as np
import pytest

from bench.backends.emulated import CHILD, LAW, law_s
from bench.case import Case, Effort
from bench.measure import child
from bench.measure.ledger import Ledger
from bench.measure.summarise import metrics_of
from bench.registry import case_for, load_backend, load_scenario, load_workload
from bench.stats.ratio import compare, noise_floor

RUNS, CHILDREN, TRIALS, DOCTORS = 1000, 3, 200, 5
EFFORT = Effort(repeats=CHILDREN, max_seconds=8.0)
OVERHEAD_US = 36_644.5568  # with 2 x 256^3 FLOP at 1e10 FLOP/s, a step of 40 ms: one a round
STEP_S = 0.040
HOURS = 0.005
"""Spread of the machine's own speed from record to record (log scale), which no record's children show."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A second thread for 256 x 256 matrices only waits for the first."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def a_case(seed: int, slowdown: float = 1.0) -> Case:
    law = {"overhead_us": OVERHEAD_US, "slowdown": slowdown, "noise_seed": seed}
    return case_for("gemm", load_workload("gemm"), backend="emulated", dtype="fp32", size="tiny", compile="off",
                    backend_options=law)


@functools.cache
def workload_parts() -> tuple[Any, Any]:
    case = a_case(0)
    workload = load_workload("gemm")
    return workload.build(case), workload.work(case)


def measured(case: Case, index: int, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """One child's result: a fresh device, prepared, warmed up and timed as in a process of its own."""
    patch.setenv(CHILD, str(index))
    program, work = workload_parts()
    backend = load_backend("emulated")
    device = backend.open(case, backend.fixed(case))
    try:
        timed = load_scenario(case.scenario).prepare(program, device, work)
        ledger = Ledger(0)
        warm = child.warm_up(device, timed, EFFORT, ledger, None, full=False)
        result = child.timed_part(case, device, timed, EFFORT, ledger, warm["step_ns"])
        return result | {"device": device.report()["device"], "canary": {}, "compile": {"seconds": None},
                         "work": {"item": work.item, "items_per_step": work.items, "flops_per_step": None,
                                  "bytes_per_step": None, "parts": {}}}
    finally:
        device.close()


def children(seed: int, count: int, patch: pytest.MonkeyPatch, slowdown: float = 1.0) -> list[dict[str, Any]]:
    case = a_case(seed, slowdown)
    return [measured(case, index, patch) for index in range(count)]


def rounds(found: Sequence[dict[str, Any]]) -> list[list[float]]:
    return [one["samples_ns"] for one in found]


def typical_factor() -> float:
    """By how much the median step is longer than the law's: spikes push it to a higher quantile of the rest.

    A share s of steps is far above the median, so that the median of all is the quantile 0.5 / (1 - s)
    of the others, which are log-normal with the spread of jitter and wander together.
    """
    spread = math.hypot(float(LAW["jitter"] or 0), float(LAW["wander"] or 0))
    return math.exp(spread * NormalDist().inv_cdf(0.5 / (1 - float(LAW["spike_share"] or 0))))


def mean_factor() -> float:
    """The same of the mean: e^(sd^2/2) of each log-normal factor but the child's own, and the spikes' share."""
    variance = float(LAW["jitter"] or 0) ** 2 + float(LAW["wander"] or 0) ** 2
    return math.exp(variance / 2) * (1 + float(LAW["spike_share"] or 0) * (float(LAW["spike_factor"] or 0) - 1))


def test_the_law_of_these_runs_is_the_one_that_is_shipped() -> None:
    assert law_s(LAW | {"overhead_us": OVERHEAD_US}, 2 * 256**3) == pytest.approx(STEP_S, rel=1e-9)
    # sd = hypot(0.05, 0.01) = 0.05099; z(0.5 / 0.98) = 0.025582: e^0.0013045
    assert typical_factor() == pytest.approx(1.0013053, abs=1e-6)
    # e^(0.0026 / 2) x (1 + 0.02 x 1.5)
    assert mean_factor() == pytest.approx(1.0313398, abs=1e-6)


@pytest.mark.slow
def test_95_percent_intervals_cover_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = {"matmuls_per_second": 1 / (STEP_S * typical_factor()),
             "matmuls_per_second_sustained": 1 / (STEP_S * mean_factor())}
    covered = dict.fromkeys(truth, 0)
    for run in range(RUNS):
        metrics, _ = metrics_of(a_case(run), children(run, CHILDREN, monkeypatch))
        for metric in metrics:
            if metric.name in truth:
                assert metric.low is not None
                assert metric.high is not None
                covered[metric.name] += metric.low <= truth[metric.name] <= metric.high
    for name, count in covered.items():
        assert 0.93 <= count / RUNS <= 0.97, (name, count)


@pytest.mark.slow
def test_a_planted_5_percent_is_flagged_and_an_equal_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = np.random.default_rng(1)
    flagged = {"planted": 0, "equal": 0}
    for trial in range(TRIALS):
        seed = 10_000 + 4 * trial
        floor = noise_floor([median(times) for times in rounds(children(seed, DOCTORS, monkeypatch))])
        base, equal, planted = (
            rounds(children(seed + 1 + i, CHILDREN, monkeypatch, slowdown * math.exp(HOURS * hours.standard_normal())))
            for i, slowdown in enumerate((1.0, 1.0, 1.05)))
        flagged["equal"] += compare(base, equal, floor).verdict == "differs"
        found = compare(base, planted, floor)
        flagged["planted"] += found.verdict == "differs" and found.value > 1
    assert flagged["planted"] >= 0.95 * TRIALS, flagged
    assert flagged["equal"] <= 0.05 * TRIALS, flagged
