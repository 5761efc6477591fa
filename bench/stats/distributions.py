"""The few quantiles that the intervals need, in plain Python: importing SciPy costs more than using them."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist


def normal_quantile(p: float) -> float:
    """Return z with P(Z <= z) = p for a standard normal Z, 0 < p < 1."""
    return NormalDist().inv_cdf(p)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for X the successes of `n` independent trials of probability `p`.

    Source: P(X <= k) = I(1-p; n-k, k+1), I the regularised incomplete beta function.
    """
    return 1.0 if k >= n else incomplete_beta(1 - p, n - k, k + 1)


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """Return t with P(T <= t) = p for Student's T of `df` > 0 degrees of freedom (any real), 0 < p < 1."""
    if not (0 < p < 1 and df > 0):
        raise ValueError(f"need 0 < p < 1 and df > 0, got p={p}, df={df}")
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def t_cdf(t: float, df: float) -> float:
    """Return P(T <= t). Source: P(T > t) = I(df/(df+t^2); df/2, 1/2) / 2 for t >= 0."""
    tail = incomplete_beta(df / (df + t * t), df / 2, 0.5) / 2
    return 1 - tail if t >= 0 else tail


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I(x; a, b), 0 <= x <= 1 and a, b > 0.

    Source: the continued fraction of NIST DLMF 8.17.22, https://dlmf.nist.gov/8.17#v, which
    converges fast for x < (a+1)/(a+b+2); above that, I(x; a, b) = 1 - I(1-x; b, a).
    """
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    log_front = (math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
                 + a * math.log(x) + b * math.log1p(-x))
    return math.exp(log_front) / a / _beta_fraction(x, a, b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Return 1 + d1/(1 + d2/(1 + ...)) with the d of DLMF 8.17.23, by Lentz's method."""
    tiny = 1e-300  # stands for a zero denominator, as Lentz's method asks
    value, c, d = 1.0, 1.0, 0.0
    for i in range(1, 100_000):
        m = i // 2
        if i % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / ((1 + term * d) or tiny)
        c = (1 + term / c) or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            return value
    raise ArithmeticError(f"incomplete beta did not converge at x={x}, a={a}, b={b}")
