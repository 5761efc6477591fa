"""Claims x records x terms x price book -> verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from bench.catalog.claims import SCOPES, Claim, Part
from bench.catalog.prices import BASES, PriceBook
from bench.claims import words
from bench.claims.answers import answer_of, together
from bench.claims.evidence import Evidence, evidence
from bench.claims.results import Results
from bench.claims.sheet import sheet, submissions
from bench.claims.verdict import (
    INSUFFICIENT,
    NOT_COMPARABLE,
    OUT,
    REFUTED,
    SUPPORTED,
    Cut,
    Elsewhere,
    LeftOut,
    PartAnswer,
    Verdict,
)
from bench.cost.terms import ATTRIBUTIONS, Terms
from bench.record import TIERS, Record

WITHOUT_PARTS = {"out": OUT, "projection": OUT, "unnamed": NOT_COMPARABLE, "untested": INSUFFICIENT}

BEST_PRECISION = ("precision_class", "quality")
"""What a comparison of each side's best number format passes over; the accuracy target goes with it."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Judged:
    """A part with its evidence and answer on certain terms."""

    part: Part
    found: Evidence
    answer: PartAnswer


def judge(claim: Claim, records: Iterable[Record], terms: Terms, book: PriceBook) -> Verdict:
    """Return the verdict on one claim; see `judge_all`."""
    return judge_all([claim], records, terms, book)[0]


def judge_all(claims: Iterable[Claim], records: Iterable[Record], terms: Terms, book: PriceBook) -> list[Verdict]:
    """Return a verdict for each claim, in order, from all the records at once.

    A part that names a basis or an attribution is judged on it, the others on `terms`; what other
    terms would say is in `elsewhere`.
    """
    return judge_on(claims, records, [terms], book)


def judge_on(claims: Iterable[Claim], records: Iterable[Record], every: Sequence[Terms],
             book: PriceBook) -> list[Verdict]:
    """Return `judge_all` on each of several terms, one after the other; the records are sorted out once."""
    asked, results = tuple(claims), Results(records, book)
    return [_verdict(claim, results, terms) for terms in every for claim in asked]


def on_terms(claim: Claim, *, basis: bool = False, attribution: bool = False) -> Claim:
    """Return the claim without a basis, or an attribution, of its own: judged on whatever terms are given."""
    parts = [dataclasses.replace(part, basis=None if basis else part.basis,
                                 attribution=None if attribution else part.attribution) for part in claim.parts]
    return dataclasses.replace(claim, parts=tuple(parts))


def _verdict(claim: Claim, results: Results, terms: Terms) -> Verdict:
    as_of = terms.day.isoformat()
    if claim.listing:
        return _listing(claim, results, as_of)
    if claim.scope != "test":
        return Verdict(claim=claim, answer=WITHOUT_PARTS[claim.scope], reason=claim.reason, as_of=as_of,
                       sentence=f"{SCOPES[claim.scope].capitalize()}. {words.capital(str(claim.reason))}.")
    judged = [_judged(part, results, _own(part, terms)) for part in claim.parts if not part.stand_in]
    answers = [one.answer for one in judged]
    answer = together(answers)
    cuts = tuple(_cuts(claim, judged, results, terms))
    elsewhere = tuple(_elsewhere(judged, answer, results, terms))
    first, pairs = answers[0], tuple(pair for one in judged for pair in one.found.pairs)
    priced = next((one.part for one in judged if one.part.metric == "usd_per_item"), None)
    verdict = Verdict(
        claim=claim, answer=answer, sentence="", tier=max((pair.tier for pair in pairs), key=TIERS.index, default=None),
        best=first.best, median=first.median, low=first.low, high=first.high, reason=first.reason, pairs=pairs,
        left_out=_left_out(judged, results), basis=_own(priced, terms).basis if priced else None, as_of=as_of,
        condition=words.condition(answers, cuts, elsewhere),
        measured=any(pair.tier == "measured" for pair in pairs), parts=tuple(answers), cuts=cuts, elsewhere=elsewhere)
    return dataclasses.replace(verdict, sentence=words.sentence(verdict, [one.part for one in judged],
                                                                [one.found for one in judged]))


def _own(part: Part, terms: Terms) -> Terms:
    """The terms on which a part is judged; a user's own hourly rate stands for any basis."""
    if terms.usd_per_hour is not None:
        return terms
    return dataclasses.replace(terms, basis=part.basis or terms.basis,
                               attribution=part.attribution or terms.attribution)


def _judged(part: Part, results: Results, terms: Terms) -> _Judged:
    found = sheet(part) if part.metric == "peak" else evidence(part, results, terms)
    return _Judged(part, found, answer_of(part, found.pairs, found))


def _left_out(judged: Sequence[_Judged], results: Results) -> tuple[LeftOut, ...]:
    """What took no part in any pair of the claim, and what is wanting in the pairs that there could be."""
    left_out = [item for one in judged for item in one.found.left_out]
    seen = [run_id for run_id, _ in left_out]
    seen += [run_id for one in judged for pair in one.found.pairs for run_id in (pair.subject, pair.baseline)]
    return tuple(dict.fromkeys([*left_out, *results.set_aside(dict.fromkeys(seen))]))


def _cuts(claim: Claim, judged: Sequence[_Judged], results: Results, terms: Terms) -> Iterable[Cut]:
    """The stand-ins of the claim, and each side's best precision where a part says nothing of precision."""
    stand_ins = [_judged(part, results, _own(part, terms)) for part in claim.parts if part.stand_in]
    for one in stand_ins:
        if one.found.pairs:
            yield Cut(name=one.part.name, why=str(one.part.stand_in), answer=one.answer, pairs=one.found.pairs)
    for one in (*judged, *stand_ins):
        if one.part.metric == "peak" or one.part.precisions or "precision_class" in one.part.ignore:
            continue
        found = evidence(one.part, results, _own(one.part, terms), BEST_PRECISION)
        alike = {(pair.subject, pair.baseline) for pair in one.found.pairs}
        pairs = tuple(pair for pair in found.pairs if (pair.subject, pair.baseline) not in alike)
        if pairs:
            why = [one.part.stand_in] if one.part.stand_in else []
            yield Cut(name=f"{one.part.name} at each side's best precision", answer=answer_of(one.part, pairs, found),
                      pairs=pairs, why="; ".join([*why, "number formats or accuracy targets differ"]))


def _elsewhere(judged: Sequence[_Judged], answer: str, results: Results, terms: Terms) -> Iterable[Elsewhere]:
    """The answer on every other basis and on the other share of the bill, wherever that gives a pair of costs."""
    priced = next((one for one in judged if one.part.metric == "usd_per_item"), None)
    if priced is None or terms.usd_per_hour is not None:
        return
    own = _own(priced.part, terms)
    others = [(f"{basis} prices", dataclasses.replace(own, basis=basis)) for basis in BASES if basis != own.basis]
    other = next(name for name in ATTRIBUTIONS if name != own.attribution)
    told = {"chips": "only the chips in use charged", "instance": "whole instances charged"}[other]
    for name, on in (*others, (told, dataclasses.replace(own, attribution=other))):
        again = [_judged(one.part, results, on) if one.part.metric == "usd_per_item" else one for one in judged]
        costs = next(one for one in again if one.part is priced.part)
        if not costs.found.pairs or costs.found.pairs == priced.found.pairs:
            continue
        new = together([one.answer for one in again])
        yield Elsewhere(terms=name, answer=new, best=costs.answer.best, median=costs.answer.median,
                        pairs=costs.answer.pairs, flips=new != answer)


def _listing(claim: Claim, results: Results, as_of: str) -> Verdict:
    """A claim that nobody submits: refuted by one result that they did, supported by others' results alone."""
    assert claim.listing is not None
    pairs, total, by, theirs = submissions(claim.listing, results.all)
    answer = INSUFFICIENT if not total else REFUTED if theirs else SUPPORTED
    return Verdict(claim=claim, answer=answer, pairs=tuple(pairs), as_of=as_of, reason="a listing has no ratio",
                   tier=max((pair.tier for pair in pairs), key=TIERS.index, default=None),
                   sentence=words.listing(claim, answer, total, by))


def same_pairs(then: Verdict, now: Verdict) -> bool:
    """Return whether two verdicts rest on the same pairs, so that prices alone can have moved the answer."""
    sides = [{(pair.part, pair.subject, pair.baseline) for pair in verdict.pairs} for verdict in (then, now)]
    return sides[0] == sides[1]


def flips(then: Sequence[Verdict], now: Sequence[Verdict]) -> list[tuple[Verdict, Verdict]]:
    """Return the verdicts of two days that differ in their answer, as (then, now), by claim.

    See `same_pairs`: where a price was not known on one of the days, the answers rest on other pairs.
    """
    before = {verdict.claim.id: verdict for verdict in then}
    return [(before[verdict.claim.id], verdict) for verdict in now
            if verdict.claim.id in before and before[verdict.claim.id].answer != verdict.answer]


