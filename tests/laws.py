"""Laws by which simulated rounds scatter, on the scale of a shared 2-vCPU machine.

A round lasts true_ns x (its child's own factor) x (a slow wander within the child) x (jitter) x
(now and then a spike). All but the spikes are log-normal with median 1, so `true_ns` is the median
of undisturbed rounds over many children; `Law.typical_ns` adds what spikes shift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """Relative standard deviations, on the log scale; `spikes` is the share of rounds that are spiked."""

    child_sd: float = 0.007  # between fresh processes
    jitter: float = 0.05  # between rounds, independent
    spikes: float = 0.02  # of rounds, each 2 to 3 times as long
    drift: float = 0.01  # slow wander within a child, first-order autoregressive
    memory: float = 0.95  # the wander's correlation from one round to the next

    def typical_ns(self, true_ns: float) -> float:
        """The median of a typical child's rounds: spikes push it to a higher quantile of the rest."""
        spread = math.hypot(self.jitter, self.drift)
        return true_ns * math.exp(spread * NormalDist().inv_cdf(0.5 / (1 - self.spikes)))


SHARED = Law()
"""A shared machine. Child medians of 100 rounds scatter by 1.1 %: their own 0.7 %, the wander, the jitter."""


def child_rounds(rng: np.random.Generator, true_ns: float, child_sd: float = 0.007, jitter: float = 0.05,
                 spikes: float = 0.02, drift: float = 0.01, rounds: int = 100) -> list[float]:
    """Return one child's rounds in ns."""
    law = Law(child_sd=child_sd, jitter=jitter, spikes=spikes, drift=drift)
    return [float(x) for x in many_rounds(rng, law, true_ns, (rounds,))]


def record_rounds(rng: np.random.Generator, law: Law, true_ns: float, children: int,
                  rounds: int) -> list[list[float]]:
    """Return a record's rounds in ns, a list per child."""
    return [[float(x) for x in row] for row in many_rounds(rng, law, true_ns, (children, rounds))]


def many_rounds(rng: np.random.Generator, law: Law, true_ns: float, shape: tuple[int, ...]) -> Array:
    """Return rounds in ns of `shape` [..., rounds]: each row along the last axis is a child of its own."""
    child = law.child_sd * rng.standard_normal((*shape[:-1], 1))
    noise = law.jitter * rng.standard_normal(shape)
    spiked = np.where(rng.random(shape) < law.spikes, rng.uniform(2, 3, shape), 1.0)
    return true_ns * np.exp(child + noise + wander(rng, law.drift, law.memory, shape)) * spiked


def pair_ratios(rng: np.random.Generator, law: Law, slowdown: float, shape: tuple[int, ...]) -> Array:
    """Return ratios b/a of neighbouring rounds, `shape` [..., pairs]; b's true time is (1 + slowdown) a's.

    Two sides in one process: one child's factor and one wander for both, order random in each pair.
    """
    rounds = many_rounds(rng, law, 1.0, (*shape[:-1], 2 * shape[-1]))
    first, second = rounds[..., 0::2], rounds[..., 1::2]
    return (1 + slowdown) * np.where(rng.random(shape) < 0.5, first / second, second / first)


def wander(rng: np.random.Generator, sd: float, memory: float, shape: tuple[int, ...]) -> Array:
    """Return a first-order autoregressive series along the last axis, each value N(0, sd^2)."""
    steps = rng.standard_normal(shape)
    steps[..., 1:] *= math.sqrt(1 - memory**2)
    for i in range(1, shape[-1]):
        steps[..., i] += memory * steps[..., i - 1]
    return sd * steps
