"""The statistics, held to numbers worked out by hand and to simulated runs whose truth is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats.distributions import binomial_cdf, incomplete_beta, normal_quantile, t_cdf, t_quantile
from bench.stats.intervals import (
    children_interval,
    correlation_time,
    median_interval,
    rate_interval,
    rounds_interval,
    typical_rate_interval,
)
from bench.stats.pairs import Decision, decide, looks
from bench.stats.percentiles import floor_samples, mlperf_discards, mlperf_percentile, percentile
from bench.stats.ratio import Ratio, compare, compare_values, noise_floor, paired_children
from bench.stats.sampling import narrow_enough, steps_per_round
from bench.stats.steady import drift, steady_from
from tests.laws import SHARED, Array, Law, child_rounds, many_rounds, pair_ratios, record_rounds, wander

RUNS = 1000
CHILDREN_DIFFER = Law(child_sd=0.02, jitter=0.02, spikes=0.02, drift=0.005)
ROUNDS_SCATTER = Law(child_sd=0.001, jitter=0.08, spikes=0.03, drift=0.02, memory=0.9)
ALONE = Law(child_sd=0, drift=0)

times = st.floats(1e-3, 1e12)
several = st.lists(times, min_size=2, max_size=8)
scales = st.floats(1e-3, 1e3)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


# Distributions


def test_incomplete_beta_is_the_integral_of_its_polynomial() -> None:
    # I(x; 2, 3) = 12 * integral of t (1-t)^2 = 6x^2 - 8x^3 + 3x^4; at 1/2: 1.5 - 1 + 3/16 = 11/16
    assert incomplete_beta(0.5, 2, 3) == pytest.approx(11 / 16, abs=1e-14)
    assert incomplete_beta(0.9, 2, 3) == pytest.approx(6 * 0.81 - 8 * 0.729 + 3 * 0.6561, abs=1e-14)
    assert (incomplete_beta(0, 2, 3), incomplete_beta(1, 2, 3)) == (0, 1)


def test_binomial_cdf_counts_coins() -> None:
    # Four coins: no head 1 way, one head 4 ways, of 16
    assert binomial_cdf(1, 4, 0.5) == pytest.approx(5 / 16, abs=1e-14)
    assert binomial_cdf(4, 4, 0.5) == 1


@pytest.mark.parametrize("p", [0.6, 0.8, 0.975, 0.9999])
def test_t_quantiles_have_their_closed_forms(p: float) -> None:
    # df 1 is Cauchy: tan(pi (p - 1/2)). df 2: (2p - 1) / sqrt(2 p (1 - p)).
    # df 4: 2 sqrt(q - 1) with q = cos(acos(sqrt a) / 3) / sqrt a, a = 4 p (1 - p) (Shaw, 2006)
    a = 4 * p * (1 - p)
    assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9)
    assert t_quantile(p, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel=1e-9)
    four = 2 * math.sqrt(math.cos(math.acos(math.sqrt(a)) / 3) / math.sqrt(a) - 1)
    assert t_quantile(p, 4) == pytest.approx(four, rel=1e-9)


def test_t_quantile_is_symmetric_and_tends_to_the_normal() -> None:
    assert t_quantile(0.025, 3.3) == -t_quantile(0.975, 3.3)
    assert t_quantile(0.975, 1e7) == pytest.approx(normal_quantile(0.975), rel=1e-6)
    assert t_cdf(t_quantile(0.9, 2.5), 2.5) == pytest.approx(0.9)
    with pytest.raises(ValueError):
        t_quantile(0.975, 0)


# Percentiles


def test_floors_are_those_that_mlperf_prints() -> None:
    # LoadGen: "Processed at least 64 queries" for p90, "at least 662 queries" for p99
    assert [floor_samples(p) for p in (0.9, 0.99)] == [64, 662]


@pytest.mark.parametrize("p", [0.5, 0.9, 0.95, 0.97, 0.99, 0.999])
def test_the_floor_is_the_fewest_samples_that_meet_the_criterion(p: float) -> None:
    def at_most_one_above(n: int) -> float:
        return p**n + n * (1 - p) * p ** (n - 1)

    n = floor_samples(p)
    assert at_most_one_above(n) <= 0.01 < at_most_one_above(n - 1)


def test_a_lower_confidence_has_a_lower_floor() -> None:
    # Coins: (n + 1) / 2^n <= 0.05 first at n = 8 (9/256 = 0.035; 8/128 = 0.0625)
    assert floor_samples(0.5, confidence=0.95) == 8


def test_discards_are_those_in_published_mlperf_logs() -> None:
    # "Would discard N highest latency queries", from submitted LoadGen summaries
    assert mlperf_discards(2048, 0.9) == 172
    assert mlperf_discards(7469, 0.9) == 685
    assert mlperf_discards(1_179_125, 0.99) == 11_539


def test_a_percentile_below_its_floor_is_none() -> None:
    samples = [float(i) for i in range(63)]
    assert percentile(samples, 0.9) is None
    assert mlperf_percentile(samples, 0.9) is None
    assert percentile([*samples, 63.0], 0.9) is not None


def test_a_percentile_interpolates_between_order_statistics() -> None:
    # 0..100: the 0.9 quantile stands at 0.9 * 100 = 90 exactly; 0..101: at 0.9 * 101 = 90.9
    assert percentile([float(i) for i in range(100, -1, -1)], 0.9) == pytest.approx(90)
    assert percentile([float(i) for i in range(102)], 0.9) == pytest.approx(90.9)


def test_mlperfs_estimate_is_the_largest_sample_at_the_floor() -> None:
    assert mlperf_percentile([float(i) for i in range(64)], 0.9) == 63


def test_mlperfs_estimate_bounds_the_true_percentile_with_99_percent_confidence() -> None:
    samples = rng().exponential(size=(RUNS, 200))
    truth = -math.log(0.1)
    above = share([(mlperf_percentile(list(row), 0.9) or 0) >= truth for row in samples])
    middle = share([(percentile(list(row), 0.9) or 0) >= truth for row in samples])
    assert above >= 0.985
    assert 0.4 < middle < 0.6


@pytest.mark.parametrize("p", [0, 1, 99, -0.5])
def test_a_percentile_is_asked_for_as_a_fraction(p: float) -> None:
    with pytest.raises(ValueError, match=r"0\.99 for p99"):
        floor_samples(p)


@given(st.lists(times, min_size=64, max_size=80), scales)
def test_percentiles_scale_with_their_samples(samples: list[float], scale: float) -> None:
    found, scaled = percentile(samples, 0.9), percentile([scale * s for s in samples], 0.9)
    assert found is not None
    assert scaled == pytest.approx(scale * found)
    assert min(samples) <= found <= max(samples)


# Intervals


def test_the_interval_of_three_children_is_students() -> None:
    # Logs: ln 100 + (-d, 0, d) with d = ln(10/9) = 0.1053605; their standard deviation is d.
    # t(0.975, 2) = 4.302653; half = 4.302653 * 0.1053605 / sqrt(3) = 0.261733
    found = median_interval([[90.0], [100.0], [1000 / 9]])
    assert (found.value, found.n) == (100, 3)
    assert found.low == pytest.approx(100 * math.exp(-0.261733), rel=1e-5)
    assert found.high == pytest.approx(100 * math.exp(0.261733), rel=1e-5)


def test_each_child_counts_by_its_median() -> None:
    assert median_interval([[1, 2, 90], [2, 2, 2], [3, 1, 2]]).value == 2


def test_of_two_children_the_value_is_their_geometric_mean() -> None:
    assert children_interval([100, 121]).value == pytest.approx(110)


def test_one_disturbed_child_in_three_widens_the_interval_and_leaves_the_value() -> None:
    found = children_interval([100, 101, 300])
    assert found.value == 101
    assert found.high is not None
    assert found.high > 300


def test_equal_children_leave_no_doubt() -> None:
    found = children_interval([5, 5, 5])
    assert (found.value, found.low, found.high) == pytest.approx((5, 5, 5))


def test_the_value_lies_within_its_interval_however_skewed_the_children() -> None:
    found = children_interval([1.0] * 6 + [1000.0] * 4)
    assert found.low is not None
    assert found.low <= found.value == 1


def test_one_child_says_nothing_of_the_machine() -> None:
    assert children_interval([5.0]).low is None
    found = median_interval([[1.0, 2.0] * 10])
    assert found.low is not None
    assert found.method == "rounds of one child: says nothing of the machine"


def test_the_interval_of_one_childs_rounds_is_made_of_order_statistics() -> None:
    # 20 uncorrelated rounds: rank floor(10.5 - 1.96 sqrt(20)/2) = floor(6.12) = 6, and 21 - 6 = 15.
    # Low and high rounds alternate here: the signs' autocorrelation is negative, so tau = 1.
    rounds = [float(x) for pair in zip(range(1, 11), range(11, 21), strict=True) for x in pair]
    found = rounds_interval(rounds)
    assert (found.value, found.low, found.high) == (10.5, 6, 15)


def test_five_rounds_have_no_interval_and_six_do() -> None:
    assert rounds_interval([1, 5, 2, 4, 3]).low is None
    six = rounds_interval([1, 6, 2, 5, 3, 4])
    assert (six.low, six.high) == (1, 6)


def test_correlation_time_adds_up_the_autocorrelation_of_signs() -> None:
    # ++++----: lag 1: 3 - 1 + 3 = 5; lag 2: 2 - 2 + 2 = 2; lags 3 and 4: -1 - 4 < 0, where it ends.
    # tau = 1 + 2 (5 + 2)/8 = 2.75
    assert correlation_time([9, 8, 9, 8, 1, 2, 1, 2]) == pytest.approx(2.75)
    assert correlation_time([1, 9, 1, 9, 1, 9]) == 1
    assert correlation_time([3, 3, 3]) == 1


def test_throughput_is_all_items_over_all_time() -> None:
    # 8 items a step, 2 steps a round, rounds of 1, 1 and 4 s: 8*2*3 items in 6 s = 8/s;
    # the median round does 16 items in 1 s. All items over the mean of one step would say 48/s.
    rounds = [1e9, 1e9, 4e9]
    assert rate_interval(8, [2, 2], [rounds, rounds]).value == pytest.approx(8)
    assert typical_rate_interval(8, [2, 2], [rounds, rounds]).value == pytest.approx(16)


def test_children_may_differ_in_their_steps_per_round() -> None:
    assert rate_interval(1, [1, 2], [[1e9], [2e9]]).value == pytest.approx(1)
    with pytest.raises(ValueError):
        rate_interval(1, [1], [[1e9], [2e9]])


@pytest.mark.parametrize("bad", [[], [1.0, 0.0], [1.0, -2.0], [math.nan], [math.inf, 1.0]])
def test_what_cannot_be_a_time_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite and above 0"):
        children_interval(bad)
    with pytest.raises(ValueError, match="finite and above 0"):
        rounds_interval(bad)


@given(several, scales)
def test_intervals_scale_with_their_unit(values: list[float], scale: float) -> None:
    found, scaled = children_interval(values), children_interval([scale * v for v in values])
    assert scaled.value == pytest.approx(scale * found.value)
    assert found.low is not None
    assert scaled.low == pytest.approx(scale * found.low, rel=1e-6)


@given(several, st.randoms())
def test_the_order_of_the_children_does_not_matter(values: list[float], random: object) -> None:
    shuffled = sorted(values, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert children_interval(shuffled) == children_interval(values)


@given(several)
def test_the_interval_of_a_rate_is_the_inverse_of_that_of_its_time(values: list[float]) -> None:
    time, rate = children_interval(values), children_interval([1 / v for v in values])
    assert time.low is not None
    assert rate.value == pytest.approx(1 / time.value)
    assert rate.high == pytest.approx(1 / time.low, rel=1e-6)


@pytest.mark.parametrize("children", [2, 3, 5])
@pytest.mark.parametrize("law", [CHILDREN_DIFFER, ROUNDS_SCATTER, SHARED],
                         ids=["children differ most", "rounds scatter most", "shared machine"])
def test_intervals_cover_the_truth_in_93_to_97_percent_of_runs(law: Law, children: int) -> None:
    assert 0.93 <= _coverage(law, children) <= 0.97


def _coverage(law: Law, children: int) -> float:
    truth = law.typical_ns(1e6)
    found = [median_interval(list(run)) for run in many_rounds(rng(11), law, 1e6, (RUNS, children, 50))]
    return share([i.low <= truth <= i.high for i in found if i.low is not None and i.high is not None])


def test_a_bootstrap_of_three_children_covers_far_too_seldom() -> None:
    # Why there is none here. All 27 resamples of 3, so no chance enters but the children's own.
    medians = np.log(np.median(many_rounds(rng(), SHARED, 1.0, (RUNS, 3, 50)), axis=2))
    resamples = np.array(list(itertools.product(range(3), repeat=3)))
    low, high = np.quantile(np.median(medians[:, resamples], axis=2), [0.025, 0.975], axis=1)
    truth = math.log(SHARED.typical_ns(1.0))
    assert 0.7 < float(np.mean((low <= truth) & (truth <= high))) < 0.8


@pytest.mark.parametrize(("law", "least"), [(ALONE, 0.94), (Law(child_sd=0, drift=0.02, memory=0.8), 0.92)],
                         ids=["independent rounds", "mild wander"])
def test_the_interval_of_one_child_covers_that_childs_median(law: Law, least: float) -> None:
    truth = law.typical_ns(1.0)
    found = [rounds_interval(row) for row in many_rounds(rng(), law, 1.0, (RUNS, 100))]
    covered = share([i.low <= truth <= i.high for i in found if i.low is not None and i.high is not None])
    assert least <= covered <= 0.98


# Steady state


def exponential(noise: float, tau: float, rounds: int, seed: int) -> Array:
    """A start that is twice as slow and settles as exp(-i/tau)."""
    return (1 + np.exp(-np.arange(rounds) / tau)) * many_rounds(
        rng(seed), Law(child_sd=0, jitter=noise, drift=0), 1e6, (rounds,))


def asked_after_each_round(series: Array, few: bool = False) -> int | None:
    """How many rounds it takes until the series is called steady, as the harness asks."""
    rounds = [float(ns) for ns in series]
    return next((n for n in range(1, len(rounds) + 1) if steady_from(rounds[:n], few=few) is not None), None)


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.1, 0.2])
def test_noise_alone_is_called_steady_soon(noise: float) -> None:
    law = Law(child_sd=0, jitter=noise, drift=noise / 2)
    rounds = [asked_after_each_round(row) for row in many_rounds(rng(), law, 1e6, (200, 150))]
    assert None not in rounds
    assert np.median(rounds) <= 21  # type: ignore[arg-type]
    assert np.quantile(rounds, 0.95) <= 32  # type: ignore[arg-type]


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.1, 0.2])
def test_slow_rounds_are_called_steady_after_four_or_a_few_more(noise: float) -> None:
    law = Law(child_sd=0, jitter=noise, drift=0)
    rounds = [asked_after_each_round(row, few=True) for row in many_rounds(rng(), law, 5e9, (500, 40))]
    assert None not in rounds
    assert np.median(rounds) <= 5  # type: ignore[arg-type]
    assert np.quantile(rounds, 0.95) <= 7  # type: ignore[arg-type]


@pytest.mark.parametrize(("noise", "tau", "most"), [(0.01, 3, 0.01), (0.01, 10, 0.01), (0.01, 30, 0.01),
                                                    (0.05, 3, 0.01), (0.05, 10, 0.04)])
def test_a_slow_start_is_not_called_steady_before_it_has_settled(noise: float, tau: float,
                                                                 most: float) -> None:
    left = [math.exp(-(asked_after_each_round(exponential(noise, tau, 300, seed)) or 0) / tau)
            for seed in range(60)]
    assert np.quantile(left, 0.95) <= most


def test_one_slow_first_round_of_a_few_is_left_out() -> None:
    assert steady_from([20e9, 5e9, 5.1e9, 5e9], few=True) is None
    assert steady_from([20e9, 5e9, 5.1e9, 5e9, 5.05e9], few=True) == 1


def test_a_plain_drift_is_never_called_steady() -> None:
    # 0.5 % a round: over the last half of n rounds the halves differ by n/4 * 0.5 % of 1 + 0.5 % n
    noise = many_rounds(rng(), Law(child_sd=0, jitter=0.01, drift=0), 1e6, (200,))
    assert asked_after_each_round((1 + 0.005 * np.arange(200)) * noise) is None


def test_a_machine_that_flips_between_two_speeds_does_not_warm_up_for_ever() -> None:
    chance = rng()
    for _ in range(50):
        fast = np.cumsum(chance.random(300) < 1 / 30) % 2 == 0
        series = np.where(fast, 1.0, 2.2) * np.exp(0.05 * chance.standard_normal(300))
        assert asked_after_each_round(series) is not None


def test_a_late_compile_starts_the_count_again() -> None:
    series, compiles = [1.0] * 60, [1] * 25 + [2] * 35
    series[25] = 50.0
    assert steady_from(series[:25], compiles[:25]) == 5
    assert [steady_from(series[:n], compiles[:n]) for n in (26, 40, 45)] == [None, None, None]
    assert steady_from(series[:46], compiles[:46]) == 26


def test_spikes_are_not_taken_for_a_trend() -> None:
    series = [1.0] * 20
    series[3] = series[4] = 3.0
    assert steady_from(series) == 0


def test_counts_of_compilations_must_match_the_rounds() -> None:
    with pytest.raises(ValueError, match="1 counts of compilations for 2 rounds"):
        steady_from([1, 1], [0])


def test_nothing_yet_is_not_steady() -> None:
    assert steady_from([]) is None


def test_half_of_all_ranks_is_no_trend_and_one_standard_error_is_the_limit() -> None:
    # few: h = 2, se of U/h^2 is sqrt(5/12)/2 = 0.323. early (1, 4), late (2, 3): U = 2 of 4, no trend.
    # early (1, 3), late (2, 4): U = 1 of 4, 0.25 away: within. early (1, 2), late (3, 4): 0.5 away: a trend.
    assert steady_from([10, 40, 20, 30], few=True) == 0
    assert steady_from([10, 30, 20, 40], few=True) == 0
    assert steady_from([10, 20, 30, 40], few=True) is None


def test_drift_in_timed_rounds_is_reported_with_its_size() -> None:
    rounds = [100.0 + i % 3 for i in range(30)] + [110.0 + i % 3 for i in range(30)]
    assert drift(rounds) == pytest.approx(111 / 101 - 1)
    assert drift(rounds[:30]) is None
    assert drift([1.0]) is None


def test_drift_is_seldom_reported_where_there_is_none() -> None:
    found = [drift(row) for row in many_rounds(rng(), SHARED, 1e6, (300, 100))]
    assert share([f is not None for f in found]) <= 0.03


# How much to sample


@pytest.mark.parametrize(("step_ns", "target_ns", "steps"),
                         [(1e6, 5e6, 5), (1e6, 5.1e6, 6), (1e9, 5e6, 1), (0.5, 3, 6)])
def test_a_round_has_the_fewest_steps_that_fill_it(step_ns: float, target_ns: float, steps: int) -> None:
    assert steps_per_round(step_ns, target_ns) == steps


def test_a_step_that_takes_no_time_is_refused() -> None:
    with pytest.raises(ValueError):
        steps_per_round(0, 1e6)


def test_rounds_are_narrow_enough_when_their_interval_is() -> None:
    # 20 alternating rounds around 1000: ranks 6 and 15, 996 and 1005 about a median of 1000.5
    rounds = [float(x) for pair in zip(range(991, 1001), range(1001, 1011), strict=True) for x in pair]
    assert narrow_enough(rounds, 0.0046)
    assert not narrow_enough(rounds, 0.0044)


def test_nine_equal_rounds_are_not_enough() -> None:
    assert not narrow_enough([7.0] * 9, 0.5)
    assert narrow_enough([7.0] * 10, 0.001)


def test_correlated_rounds_need_more_of_them() -> None:
    alternating = [100.0, 101.0] * 30
    in_runs = ([100.0] * 10 + [101.0] * 10) * 3
    assert rounds_interval(alternating).high == rounds_interval(in_runs).high == 101
    assert correlation_time(in_runs) > 5 > correlation_time(alternating)


def test_stopping_when_narrow_enough_keeps_most_of_the_coverage() -> None:
    truth, covered = ALONE.typical_ns(1.0), []
    for row in many_rounds(rng(), ALONE, 1.0, (300, 600)):
        n = next((n for n in range(10, 601, 20) if narrow_enough(row[:n], 0.01)), 600)
        found = rounds_interval(row[:n])
        assert found.low is not None
        assert found.high is not None
        covered.append(found.low <= truth <= found.high)
    assert share(covered) >= 0.92


# Ratios of stored records


def spread(centre: float, d: float) -> list[float]:
    return [centre * math.exp(x) for x in (-d, 0, d)]


def test_a_ratio_has_welchs_interval() -> None:
    # Variances of the means: 1e-4/3 each, se = sqrt(2e-4/3) = 0.00816497, df = 4, t = 2.776445;
    # half = 0.0226696. 80 % power: t(0.8, 4) = 0.940965, exp(0.0226696 + 0.0076829) - 1 = 0.030818
    found = compare([[x] for x in spread(100, 0.01)], [[x] for x in spread(105, 0.01)], None)
    assert found.value == pytest.approx(1.05)
    assert found.low == pytest.approx(1.05 * math.exp(-0.0226696), rel=1e-6)
    assert found.high == pytest.approx(1.05 * math.exp(0.0226696), rel=1e-6)
    assert found.smallest_visible == pytest.approx(0.030818, abs=1e-6)
    assert found.verdict == "differs"


def test_unequal_spreads_cost_degrees_of_freedom() -> None:
    # Variances of the means 1e-4/3 and 4e-4/3: df = (1 + 4)^2 / (1/2 + 16/2) = 25/8.5
    found = compare_values(spread(100, 0.01), spread(100, 0.02), None)
    assert found.high == pytest.approx(math.exp(t_quantile(0.975, 25 / 8.5) * math.sqrt(5e-4 / 3)))


def test_a_difference_within_the_noise_floor_is_not_called_one() -> None:
    # The same children as above with a noise floor of 3 %: half = 1.959964 * 0.03 = 0.0587989
    base, new = spread(100, 0.01), spread(105, 0.01)
    found = compare_values(base, new, 0.03)
    assert found.low == pytest.approx(1.05 * math.exp(-0.0587989), rel=1e-6)
    assert found.verdict == "cant_tell"
    assert found.smallest_visible == pytest.approx(math.expm1(0.0587989 + 0.0076829), abs=1e-6)
    assert compare_values(base, new, 0.01) == compare_values(base, new, 0.005)


def test_same_means_that_a_difference_beyond_the_margin_is_ruled_out() -> None:
    base, new = spread(100, 0.01), spread(101, 0.01)
    assert compare_values(base, new, None).verdict == "same"
    assert compare_values(base, new, None, margin=0.01).verdict == "cant_tell"


def test_one_child_on_a_side_gives_no_verdict() -> None:
    found = compare([[100.0, 101.0]], [[200.0], [201.0]], 0.01)
    assert (found.verdict, found.low, found.high, found.smallest_visible) == ("cant_tell", None, None, None)
    assert found.value == pytest.approx(math.sqrt(200 * 201) / 100.5)
    assert found.reason is not None
    assert "one child says nothing" in found.reason


def test_records_without_any_spread_are_compared_as_they_stand() -> None:
    assert compare_values([5, 5], [5, 5], None).verdict == "same"
    assert compare_values([5, 5], [6, 6], None).verdict == "differs"
    assert compare_values([5, 5], [4, 4], None).verdict == "differs"


def test_neighbours_of_alternated_children_are_compared_as_pairs() -> None:
    # Ratios 1.05 exp(-0.01, 0, 0.01) though the children themselves drift by 60 %:
    # half = 4.302653 * 0.01 / sqrt(3) = 0.0248414
    a = [100.0, 130.0, 160.0]
    b = [x * r for x, r in zip(a, spread(1.05, 0.01), strict=True)]
    found = paired_children(a, b)
    assert found.value == pytest.approx(1.05)
    assert found.low == pytest.approx(1.05 * math.exp(-0.0248414), rel=1e-6)
    assert found.verdict == "differs"
    assert compare_values(a, b, None).verdict == "cant_tell"


def test_one_pair_of_children_gives_no_verdict() -> None:
    assert paired_children([1.0], [2.0]).verdict == "cant_tell"
    with pytest.raises(ValueError, match="need pairs"):
        paired_children([1.0], [2.0, 3.0])


def test_the_noise_floor_is_the_spread_of_the_logs() -> None:
    # Logs -0.02, 0, 0.02: standard deviation 0.02
    assert noise_floor(spread(7, 0.02)) == pytest.approx(0.02)
    with pytest.raises(ValueError, match="at least 2 runs"):
        noise_floor([1.0])


@given(several, several)
def test_the_other_way_round_a_ratio_is_its_inverse(base: list[float], new: list[float]) -> None:
    there, back = compare_values(base, new, 0.01), compare_values(new, base, 0.01)
    assert back.value == pytest.approx(1 / there.value, rel=1e-6)
    assert there.low is not None
    assert there.high is not None
    assert there.low <= there.value * (1 + 1e-12)
    assert there.value <= there.high * (1 + 1e-12)
    assert back.verdict == there.verdict


@given(several, several, scales)
def test_a_ratio_has_no_unit(base: list[float], new: list[float], scale: float) -> None:
    found = compare_values([scale * x for x in base], [scale * x for x in new], None)
    assert found.value == pytest.approx(compare_values(base, new, None).value, rel=1e-6)


def records(children: int, slowdown: float, *, floor_runs: int = 5, shift: float = 0.0,
            law: Law = SHARED) -> list[Ratio]:
    """RUNS comparisons of two simulated records of 100 rounds a child, with a doctor's noise floor."""
    chance = rng(21)

    def medians(true_ns: float, n: int, shifts: tuple[int, ...]) -> Array:
        own = np.median(many_rounds(chance, law, true_ns, (RUNS, n, 100)), axis=2)
        return own * np.exp(shift * chance.standard_normal(shifts))

    base, new = (medians(t, children, (RUNS, 1)) for t in (1e6, (1 + slowdown) * 1e6))
    if not floor_runs:
        return [compare_values(b, n, None) for b, n in zip(base, new, strict=True)]
    runs = medians(1e6, floor_runs, (RUNS, floor_runs))
    return [compare_values(b, n, noise_floor(r)) for b, n, r in zip(base, new, runs, strict=True)]


def slower(found: Sequence[Ratio]) -> float:
    return share([r.verdict == "differs" and r.value > 1 for r in found])


@pytest.mark.parametrize("floor_runs", [0, 5], ids=["no noise floor", "noise floor of 5 runs"])
@pytest.mark.parametrize("children", [3, 5])
def test_equal_records_are_called_different_in_at_most_5_percent(children: int, floor_runs: int) -> None:
    found = records(children, 0.0, floor_runs=floor_runs)
    assert share([r.verdict == "differs" for r in found]) <= 0.05


@pytest.mark.parametrize("floor_runs", [0, 5], ids=["no noise floor", "noise floor of 5 runs"])
@pytest.mark.parametrize(("children", "least"), [(3, 0.90), (4, 0.95), (5, 0.98)])
def test_a_slowdown_of_5_percent_is_found(children: int, least: float, floor_runs: int) -> None:
    assert slower(records(children, 0.05, floor_runs=floor_runs)) >= least


def test_a_shift_between_records_is_held_back_by_the_noise_floor() -> None:
    # Records shift by 0.5 % as a whole, which their own children do not show
    with_floor = share([r.verdict == "differs" for r in records(5, 0.0, shift=0.005)])
    without = share([r.verdict == "differs" for r in records(5, 0.0, shift=0.005, floor_runs=0)])
    assert with_floor <= 0.055
    assert without > 0.1


def test_the_smallest_visible_difference_is_found_in_some_80_percent() -> None:
    visible = records(5, 0.0, floor_runs=0)[0:200]
    typical = float(np.median([r.smallest_visible or 0 for r in visible]))
    assert 0.7 < slower(records(5, typical, floor_runs=0)) < 0.9


def test_the_interval_of_a_ratio_covers_the_true_one() -> None:
    found = records(5, 0.05, floor_runs=0)
    assert 0.93 <= share([r.low <= 1.05 <= r.high for r in found if r.low and r.high]) <= 0.97


# Pairs of two warm cases


def test_looks_grow_by_about_a_half_each() -> None:
    assert list(itertools.islice(looks(), 10)) == [15, 30, 45, 60, 90, 120, 180, 240, 360, 480]


def test_the_first_look_at_15_pairs_takes_the_third_from_either_end() -> None:
    # Level 1 - 0.05/2: z = 2.2414; rank floor(8 - 2.2414 sqrt(15)/2) = floor(3.66) = 3
    order = [1, 15, 2, 14, 3, 13, 4, 12, 5, 11, 6, 10, 7, 9, 8]
    ratios = [1 + 0.01 * x for x in order]
    found = decide(ratios, 1)
    assert (found.value, found.low, found.high) == pytest.approx((1.08, 1.03, 1.13))
    assert found.state == "differs"


def test_later_looks_ask_for_more() -> None:
    ratios = [1 + 0.01 * x for x in (1, 15, 2, 14, 3, 13, 4, 12, 5, 11, 6, 10, 7, 9, 8)]
    lows = [decide(ratios, look).low or 0 for look in (1, 2, 8)]
    assert lows == pytest.approx([1.03, 1.02, 1.01])


def test_a_difference_within_the_margin_is_the_same() -> None:
    ratios = [1.003, 1.004] * 20
    assert decide(ratios, 1).state == "same"
    assert decide(ratios, 1, margin=0.002).state == "differs"


def test_too_few_pairs_ask_for_more() -> None:
    assert decide([1.5, 1.6, 1.7], 1) == Decision(1.6, None, None, "continue")
    with pytest.raises(ValueError, match="counted from 1"):
        decide([1.5], 0)


def judged(law: Law, slowdown: float, *, most: int = 480, margin: float = 0.01) -> list[tuple[str, int]]:
    """300 trials of `ab`: the state each ends in, and after how many pairs."""
    ends: list[tuple[str, int]] = []
    for ratios in pair_ratios(rng(31), law, slowdown, (300, most)):
        for look, pairs in enumerate(itertools.takewhile(lambda n: n <= most, looks()), start=1):
            state = decide(ratios[:pairs], look, margin=margin).state
            if state != "continue":
                break
        ends.append((state, pairs))
    return ends


@pytest.mark.parametrize(("jitter", "drift_sd", "pairs"),
                         [(0.02, 0.02, 60), (0.03, 0.03, 120), (0.05, 0.05, 480)])
def test_a_planted_3_percent_is_found(jitter: float, drift_sd: float, pairs: int) -> None:
    ends = judged(Law(jitter=jitter, drift=drift_sd), 0.03)
    assert share([state == "differs" for state, _ in ends]) >= 0.95
    assert np.quantile([n for _, n in ends], 0.95) <= pairs


@pytest.mark.parametrize(("jitter", "drift_sd"), [(0.02, 0.02), (0.03, 0.03), (0.05, 0.05)])
def test_equal_cases_are_told_apart_in_at_most_5_percent(jitter: float, drift_sd: float) -> None:
    assert share([state == "differs" for state, _ in judged(Law(jitter=jitter, drift=drift_sd), 0.0)]) <= 0.05


def test_looking_often_does_not_raise_false_alarms_even_without_a_margin() -> None:
    ends = judged(Law(jitter=0.03, drift=0.03), 0.0, margin=0.0)
    assert share([state == "differs" for state, _ in ends]) <= 0.05


def test_a_difference_well_within_the_margin_is_seldom_called_one() -> None:
    # Two copies of one model can truly differ by some 0.3 %, by where their memory lies
    ends = judged(Law(jitter=0.01, drift=0.02), 0.003)
    assert share([state == "differs" for state, _ in ends]) <= 0.05
    assert share([state == "same" for state, _ in ends]) >= 0.9


# The laws themselves


def test_the_laws_have_the_medians_and_spreads_they_state() -> None:
    medians = np.median(many_rounds(rng(), SHARED, 1e6, (4000, 100)), axis=1)
    assert np.median(medians) == pytest.approx(SHARED.typical_ns(1e6), rel=1e-3)
    assert np.log(medians).std() == pytest.approx(0.011, abs=0.001)
    series = wander(rng(), 0.03, 0.95, (4000, 30))
    assert series.std() == pytest.approx(0.03, rel=0.03)
    assert np.corrcoef(series[:, 10], series[:, 11])[0, 1] == pytest.approx(0.95, abs=0.01)


def test_whole_records_compare_as_their_childrens_medians_do() -> None:
    base, new = (record_rounds(rng(seed), SHARED, ns, 5, 100) for seed, ns in ((1, 1e6), (2, 1.1e6)))
    before, after = ([float(np.median(child)) for child in record] for record in (base, new))
    assert compare(base, new, 0.01) == compare_values(before, after, 0.01)
    assert compare(base, new, 0.01).verdict == "differs"


def test_a_seed_decides_a_childs_rounds() -> None:
    assert child_rounds(rng(5), 1e6, rounds=3) == child_rounds(rng(5), 1e6, rounds=3)
