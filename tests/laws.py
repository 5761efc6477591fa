"""Laws by which simulated rounds scatter, on the scale of a shared 2-vCPU machine.

A round lasts true_ns x (its child's own factor) x (a slow drift within the child) x (jitter) x
(now and then a spike). All but the spikes are log-normal with median 1, so `true_ns` is the median
that an endless number of undisturbed children would show; `typical_ns` adds what spikes shift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """Relative standard deviations, all on the log scale; `spikes` is the share of spiked rounds."""

    child_sd: float = 0.01  # between fresh processes
    jitter: float = 0.05  # between rounds, independent
    spikes: float = 0.02  # of rounds, each 2 to 3 times as long
    drift: float = 0.02  # slow wander within a child, first-order autoregressive
    memory: float = 0.95  # the wander's correlation from one round to the next

    def typical_ns(self, true_ns: float) -> float:
        """The median of a typical child's rounds: spikes push it to a higher quantile of the rest."""
        spread = math.hypot(self.jitter, self.drift)
        return true_ns * math.exp(spread * NormalDist().inv_cdf(0.5 / (1 - self.spikes)))


SHARED = Law()
"""Like a shared machine: 1 % between children, 5 % jitter, 2 % of rounds spiked, 2 % slow wander."""


def child_rounds(rng: np.random.Generator, true_ns: float, child_sd: float = 0.01, jitter: float = 0.05,
                 spikes: float = 0.02, drift: float = 0.02, rounds: int = 100,
                 memory: float = 0.95) -> list[float]:
    """Return one child's rounds in ns."""
    law = Law(child_sd=child_sd, jitter=jitter, spikes=spikes, drift=drift, memory=memory)
    return [float(x) for x in many_rounds(rng, law, true_ns, (1, rounds))[0]]


def record_rounds(rng: np.random.Generator, law: Law, true_ns: float, children: int,
                  rounds: int) -> list[list[float]]:
    """Return a record's rounds in ns, a list per child."""
    return [[float(x) for x in row] for row in many_rounds(rng, law, true_ns, (children, rounds))]


def many_rounds(rng: np.random.Generator, law: Law, true_ns: float,
                shape: tuple[int, ...]) -> np.ndarray:
    """Return rounds in ns of `shape` [..., rounds]: each row is a child of its own."""
    child = law.child_sd * rng.standard_normal((*shape[:-1], 1))
    noise = law.jitter * rng.standard_normal(shape)
    spiked = np.where(rng.random(shape) < law.spikes, rng.uniform(2, 3, shape), 1.0)
    return true_ns * np.exp(child + noise + wander(rng, law.drift, law.memory, shape)) * spiked


def wander(rng: np.random.Generator, sd: float, memory: float, shape: tuple[int, ...]) -> np.ndarray:
    """Return a first-order autoregressive series along the last axis, in its stationary law N(0, sd^2)."""
    steps = rng.standard_normal(shape)
    steps[..., 1:] *= math.sqrt(1 - memory**2)
    for i in range(1, shape[-1]):
        steps[..., i] += memory * steps[..., i - 1]
    return sd * steps
