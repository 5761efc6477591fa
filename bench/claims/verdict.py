"""What a verdict is: an answer, the pairs it rests on, and all that was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.catalog.claims import Claim

SUPPORTED, REFUTED, CONDITIONAL = "supported", "refuted", "conditional"
NOT_COMPARABLE, INSUFFICIENT, OUT = "not comparable", "insufficient evidence", "out of scope"
ANSWERS = (SUPPORTED, REFUTED, CONDITIONAL, NOT_COMPARABLE, INSUFFICIENT, OUT)

LeftOut = tuple[str, str]
"""A result's run_id and why it took no part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two results held against one another. `ratio` above 1: the subject is better.

    `subject` and `baseline` are run ids (chip ids of a data sheet). `low`, `high`: the ratio between
    the extremes of both sides' 95 % intervals; None where one published none, and `reason` says so.
    `holds`: whether the claimed ratio is reached, None where the interval spans it. `facts`: what the
    pair is, by dimension (workload, precision, subject, baseline, ...): conditions are told in these.
    `price_ids`: the rows of the price book it rests on, `stale`: one of them is too old to be relied
    on. `tier`: the weaker one of the two sides.
    `warnings`: what speaks against the results themselves; `notes`: these, and all else that weakens the pair.
    """

    part: str
    label: str
    subject: str
    baseline: str
    ratio: float | None
    low: float | None = None
    high: float | None = None
    holds: bool | None = None
    subject_value: float | None = None
    baseline_value: float | None = None
    unit: str = ""
    tier: str = "published"
    price_ids: tuple[str, ...] = ()
    stale: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    reason: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAnswer:
    """The answer of one part of a claim. `low`, `high`: the 95 % interval of the median, or None and `reason`."""

    part: str
    claimed: str
    ratio: float
    up_to: bool
    answer: str
    why: str
    pairs: int
    best: float | None = None
    median: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    condition: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Pairs that are not what the claim says, shown beside it: `why` tells what they are. They change no answer."""

    name: str
    why: str
    answer: PartAnswer
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """The answer under other terms: another price basis or another share of the bill. `flips`: it differs.

    `terms` reads after "with": "spot prices", "whole instances charged".
    """

    terms: str
    answer: str
    best: float | None
    median: float | None
    pairs: int
    flips: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A claim judged. `best`, `median`, `low`, `high` are of its first part, `parts` has each one's.

    `tier`: the weakest among the pairs, None without any. `measured`: whether any pair was measured
    by this harness on both sides. `condition`: what splits the pairs that hold from those that fail.
    """

    claim: Claim
    answer: str
    sentence: str
    tier: str | None = None
    best: float | None = None
    median: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    pairs: tuple[Pair, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    basis: str | None = None
    as_of: str = ""
    condition: str | None = None
    measured: bool = False
    parts: tuple[PartAnswer, ...] = ()
    cuts: tuple[Cut, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()
