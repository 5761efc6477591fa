"""From children's raw times to metrics with intervals. Plain numbers, no torch: the parent does this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.case import Case
from bench.record import Metric, partly_used
from bench.stats.intervals import (
    Interval,
    children_interval,
    median_interval,
    rate_interval,
    typical_rate_interval,
    typical_round,
)
from bench.stats.percentiles import floor_samples, percentile

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
MOST_MFU = 1.1
"""A peak measured on a shared machine can be a little low. Up to 1.1 the ratio is withheld, above it
one of the two numbers is wrong and the record is invalid."""

Child = dict[str, Any]


def metrics_of(case: Case, children: Sequence[Child]) -> tuple[list[Metric], list[str]]:
    """Return the metrics of a case's measured children, and why they are impossible (empty: they are not).

    An exchange of all ranks has no throughput per chip or rank.

    Throughput and step time are those of the median round, as a stall on a shared machine says little
    of the device; `..._sustained` counts all items over all timed seconds, stalls included.
    """
    work = children[0]["work"]
    item, items = work["item"], work["items_per_step"]
    steps = [child["steps_per_round"] for child in children]
    samples = [child["samples_ns"] for child in children]
    rate = typical_rate_interval(items, steps, samples, _streams(children))
    metrics = [
        _metric(f"{item}s_per_second", rate, f"{item}s/s"),
        _metric(f"{item}s_per_second_sustained", rate_interval(items, steps, samples), f"{item}s/s"),
        *([] if work.get("bus_bytes_per_step") else [_per_chip(item, rate, children), *_per_rank(case, item, rate)]),
        _metric("step_time_ms", _scaled_steps(samples, steps, _streams(children)), "ms"),
    ]
    if case.scenario == "single-stream":
        metrics += _percentiles("latency_ms", samples)
    series = {name: [child["series_ns"].get(name, []) for child in children] for name in ("ttft", "itl")}
    if all(series["ttft"]):
        metrics += _percentiles("ttft_ms", series["ttft"])
        metrics += _tpot(children)
    if all(series["itl"]):
        metrics += _percentiles("itl_ms", series["itl"])
    rates, impossible = _rates(work, children)
    metrics += rates + _bus(work, steps, samples)
    metrics += _energy(item, children)
    metrics += _compile(children)
    return metrics, impossible


def _metric(name: str, found: Interval, unit: str, method: str | None = None) -> Metric:
    return Metric(name=name, value=found.value, unit=unit, low=found.low, high=found.high, n=found.n,
                  method=method or found.method)


def _unknown(name: str, unit: str, reason: str) -> Metric:
    return Metric(name=name, value=None, unit=unit, reason=reason)


def _streams(children: Sequence[Child]) -> list[Sequence[int]]:
    """How many of its rounds each of a child's streams has; empty where it has but the one."""
    return [child.get("streams", ()) for child in children]


def _scaled_steps(samples: Sequence[Sequence[float]], steps: Sequence[int],
                  streams: Sequence[Sequence[int]]) -> Interval:
    if any(streams):
        return children_interval([typical_round(rounds, each) / s / 1e6
                                  for rounds, s, each in zip(samples, steps, streams, strict=True)])
    return median_interval([[ns / s / 1e6 for ns in rounds] for rounds, s in zip(samples, steps, strict=True)])


def _per_chip(item: str, rate: Interval, children: Sequence[Child]) -> Metric:
    name, unit = f"{item}s_per_second_per_chip", f"{item}s/s"
    device = children[0].get("device", {})
    chips, why = device.get("chips"), partly_used(device)
    if not chips or why:
        return _unknown(name, unit, why or "the number of chips is unknown")
    return _over(name, rate, chips, unit, f"over {chips} chip(s)")


def _per_rank(case: Case, item: str, rate: Interval) -> list[Metric]:
    """Of several processes each one's share: a GPU's, a NeuronCore's."""
    if case.ranks == 1:
        return []
    return [_over(f"{item}s_per_second_per_rank", rate, case.ranks, f"{item}s/s", f"over {case.ranks} ranks")]


def _over(name: str, rate: Interval, parts: float, unit: str, how: str) -> Metric:
    return Metric(name=name, value=rate.value / parts, unit=unit, low=rate.low and rate.low / parts,
                  high=rate.high and rate.high / parts, n=rate.n, method=f"{how}; {rate.method}")


def _percentiles(name: str, children_ns: Sequence[Sequence[float]]) -> list[Metric]:
    """Percentiles of all children's samples together; None where there are too few to say."""
    pooled = [ns / 1e6 for child in children_ns for ns in child]
    found = []
    for label, p in PERCENTILES.items():
        value, floor = percentile(pooled, p), floor_samples(p)
        if value is None:
            found.append(_unknown(f"{name}_{label}", "ms", f"{len(pooled)} samples; {label} needs {floor}"))
            continue
        interval = None
        if len(children_ns) > 1 and min(map(len, children_ns)) >= floor:
            own = [percentile([ns / 1e6 for ns in child], p) for child in children_ns]
            interval = children_interval([v for v in own if v is not None])
        found.append(Metric(name=f"{name}_{label}", value=value, unit="ms", n=len(pooled),
                            low=min(interval.low, value) if interval and interval.low is not None else None,
                            high=max(interval.high, value) if interval and interval.high is not None else None,
                            method="all children's samples" + (f"; interval: {interval.method}" if interval else "")))
    return found


def _tpot(children: Sequence[Child]) -> list[Metric]:
    """Time per output token, (end-to-end - TTFT) / (output tokens - 1), of each whole generation."""
    values = []
    for child in children:
        gaps, generations = len(child["series_ns"]["itl"]), len(child["series_ns"]["ttft"])
        each = gaps // generations
        if each == 0:
            return [_unknown("tpot_ms_p50", "ms", "one output token has no time per further token")]
        values.append([(end - first) / each / 1e6 for end, first in
                       zip(child["samples_ns"], child["series_ns"]["ttft"], strict=True)])
    return [_metric("tpot_ms_p50", median_interval(values), "ms")]


def _rates(work: dict[str, Any], children: Sequence[Child]) -> tuple[list[Metric], list[str]]:
    """FLOP/s and GB/s of the median round, MFU and MBU against the peaks measured in the same child."""
    steps = [child["steps_per_round"] for child in children]
    samples = [child["samples_ns"] for child in children]
    metrics, impossible = [], []
    for part, name, unit, share, scale in (("flops_per_step", "flops_per_second", "FLOP/s", "mfu", 1.0),
                                           ("bytes_per_step", "gb_per_second", "GB/s", "mbu", 1e-9)):
        amount = work[part]
        if amount is None:
            reason = f"this workload states no {part.split('_')[0]} a step"
            metrics += [_unknown(name, unit, reason), _unknown(share, "1", reason)]
            continue
        own = [typical_rate_interval(amount * scale, [s], [rounds], [each]).value
               for s, rounds, each in zip(steps, samples, _streams(children), strict=True)]
        metrics.append(_metric(name, children_interval(own), unit))
        peaks = [child["canary"].get(name) for child in children]
        if None in peaks:
            metrics.append(_unknown(share, "1", f"no peak {unit} was measured beside it"))
            continue
        of_peak = children_interval([rate / peak for rate, peak in zip(own, peaks, strict=True)])
        source = children[0]["canary"][f"{name}_source"]
        if of_peak.value > 1:
            reason = f"{share.upper()} {of_peak.value:.3g} is above 1 against the peak measured in the same process"
            metrics.append(_unknown(share, "1", reason))
            if share == "mfu" and of_peak.value > MOST_MFU:
                impossible.append(reason)
        else:
            metrics.append(_metric(share, of_peak, "1", f"peak_source: {source}; {of_peak.method}"))
    return metrics, impossible


def _bus(work: dict[str, Any], steps: Sequence[int], samples: Sequence[Sequence[float]]) -> list[Metric]:
    """Bus bandwidth of the median round, decimal GB/s, where a step has any."""
    if work.get("bus_bytes_per_step") is None:
        return []
    rate = typical_rate_interval(work["bus_bytes_per_step"] / 1e9, steps, samples)
    return [_metric("bus_gb_per_second", rate, "GB/s")]


def _energy(item: str, children: Sequence[Child]) -> list[Metric]:
    """Joules an item, of all rounds that they were spent on: of streams side by side fewer count for their speed."""
    name = f"joules_per_{item}"
    joules = [child["energy"].get("joules") for child in children]
    if None in joules:
        return [_unknown(name, "J", children[0]["energy"].get("reason") or "no energy counter")]
    items = [child["energy"]["rounds"] * child["steps_per_round"] * child["work"]["items_per_step"]
             for child in children]
    each = [j / n for j, n in zip(joules, items, strict=True)]
    if min(each) <= 0:
        return [_unknown(name, "J", "the counter did not move during the timed part")]
    return [_metric(name, children_interval(each), "J", children[0]["energy"].get("method"))]


def _compile(children: Sequence[Child]) -> list[Metric]:
    """`compile_s` of the children that found the cache as the first did (cold, where nobody compiled before
    it: what a first user waits for), and `compile_warm_s` of the others.
    """
    seconds = [child["compile"].get("seconds") for child in children]
    if None in seconds:
        return [_unknown("compile_s", "s", "nothing was compiled")]
    if min(seconds) <= 0:
        return [_unknown("compile_s", "s", "too quick to be seen")]
    metrics = []
    first = children[0]["compile"].get("cache")
    for name, alike in (("compile_s", True), ("compile_warm_s", False)):
        own = [child["compile"] for child in children if (child["compile"].get("cache") == first) == alike]
        if own:
            found = children_interval([child["seconds"] for child in own])
            metrics.append(_metric(name, found, "s", f"{own[0].get('cache') or 'unknown'} cache; {found.method}"))
    return metrics


def per_item(a: dict[str, Any], b: dict[str, Any]) -> tuple[str, float]:
    """What a ratio of two cases' step times is taken over, and the factor that makes it so.

    Where both count the same items the ratio is per item; else nothing but a step is common to both.
    """
    if a["item"] != b["item"]:
        return "step", 1.0
    return str(a["item"]), a["items_per_step"] / b["items_per_step"]
