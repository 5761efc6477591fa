"""Percentiles, and the number of samples below which there are none.

Source of the floor: MLPerf Inference rules, appendix "Early Stopping Criterion",
https://github.com/mlcommons/inference_policies/blob/master/inference_rules.adoc#appendix-early_stopping
and its implementation in LoadGen (loadgen/early_stopping.cc, PerformanceSummary::EarlyStopping), read
2026-11; LoadGen prints "Processed at least 64 queries" for p90 and 662 for p99.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bench.stats.distributions import binomial_cdf

CONFIDENCE = 0.99
"""MLPerf's: c = 0.99 with tolerance d = 0."""


def floor_samples(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest samples from which a percentile (0.99 for p99) may be estimated at all.

    It is the smallest n with BinomialCDF(1; n, 1 - percentile) <= 1 - confidence: from there on, that
    at most t = 1 sample lies above the true percentile is a 1 % accident, and the largest sample is a
    safe bound of it. 11 for p50, 64 for p90, 130 for p95, 662 for p99, 6636 for p99.9.
    """
    return _fewest(_fraction(percentile), _fraction(confidence))


def percentile(samples: Sequence[float], p: float) -> float | None:
    """Return the p-quantile (0 < p < 1) of `samples` in their unit, or None below the floor.

    Estimator: linear interpolation between order statistics (Hyndman and Fan's type 7, NumPy's and
    pandas' default), because it is what the tools print that our numbers are held against, and it
    is nearly unbiased. MLPerf's own estimate is a 99 % upper bound: see `mlperf_percentile`.
    """
    if len(samples) < floor_samples(p):
        return None
    return float(np.quantile(np.asarray(samples, dtype=float), p))


def mlperf_percentile(samples: Sequence[float], p: float) -> float | None:
    """Return MLPerf's early-stopping estimate of the p-quantile, or None below the floor.

    With t the largest count such that BinomialCDF(t; n, 1-p) <= 0.01, the t - 1 highest samples are
    discarded and the highest that is left is reported: at least the true percentile with 99 %
    confidence. LoadGen discards 172 of 2048 and 685 of 7469 samples for p90 (its published logs).
    """
    discard = mlperf_discards(len(samples), p)
    if discard is None:
        return None
    return float(np.sort(np.asarray(samples, dtype=float))[len(samples) - 1 - discard])


def mlperf_discards(n: int, p: float) -> int | None:
    """Return how many of the highest of `n` samples MLPerf would discard; None below the floor."""
    if n < floor_samples(p):
        return None
    low, high = 1, n  # BinomialCDF(low) <= 0.01 < BinomialCDF(high)
    while high - low > 1:
        middle = (low + high) // 2
        enough = binomial_cdf(middle, n, 1 - p) <= 1 - CONFIDENCE
        low, high = (middle, high) if enough else (low, middle)
    return low - 1


@lru_cache
def _fewest(percentile: float, confidence: float) -> int:
    low, high = 1, 2  # the CDF falls as n grows: double until it is small enough, then halve
    while binomial_cdf(1, high, 1 - percentile) > 1 - confidence:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        enough = binomial_cdf(1, middle, 1 - percentile) <= 1 - confidence
        low, high = (low, middle) if enough else (middle, high)
    return high


def _fraction(value: float) -> float:
    if not 0 < value < 1:
        raise ValueError(f"give a fraction between 0 and 1 (0.99 for p99), got {value}")
    return value
