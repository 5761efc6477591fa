"""Verdicts as sentences. What was published is never told as though it had been measured here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.catalog.alike import likeness
from bench.catalog.claims import Claim, Part
from bench.claims.answers import against, condition_of
from bench.claims.evidence import Evidence
from bench.claims.pairs import chip_name
from bench.claims.verdict import (
    CONDITIONAL,
    INSUFFICIENT,
    REFUTED,
    SUPPORTED,
    Cut,
    Elsewhere,
    Pair,
    PartAnswer,
    Verdict,
)

PUBLISHED_ONLY = "published evidence only, nothing measured by us"
SHEETS_ONLY = "data sheets only, nothing measured by us"
MODELLED = "published and modelled evidence only, nothing measured by us"
ONE_SIDE = "published evidence on one side of every pair at least, no pair measured by us"


def times(ratio: float | None) -> str:
    """Return a ratio as text: "1.82x"."""
    return "unknown" if ratio is None else f"{ratio:.2f}x"


def cheaper(ratio: float) -> str:
    """Return what a ratio of costs means: 1.82 is "45 % cheaper", 0.81 "24 % dearer"."""
    return f"{100 * (1 - 1 / ratio):.0f} % cheaper" if ratio >= 1 else f"{100 * (1 / ratio - 1):.0f} % dearer"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def sentence(verdict: Verdict, parts: Sequence[Part], found: Sequence[Evidence]) -> str:
    """Return a verdict in full: the answer, on what evidence, each part's numbers, and what would change it."""
    told = [f"{capital(verdict.answer)} ({rests_on(verdict)})."]
    told += [_part(part, answer, one.pairs, len(parts) > 1)
             for part, answer, one in zip(parts, verdict.parts, found, strict=True)]
    told += [f"{capital(beat)}." for part, one in zip(parts, found, strict=True) if (beat := _to_beat(part, one))]
    told += [f"Beside it, {cut.name} ({cut.why}): {_cut(cut)}." for cut in verdict.cuts]
    if flipped := [f"with {other.terms}: {other.answer}" for other in verdict.elsewhere if other.flips]:
        told.append(f"On other terms the answer is another: {'; '.join(flipped)}.")
    return " ".join(told)


def rests_on(verdict: Verdict) -> str:
    """Return on what a verdict rests: pairs, tier, price basis and day."""
    count = len(verdict.pairs)
    if not count:
        evidence = "no pair of results; nothing measured by us"
    elif verdict.measured:
        measured = sum(pair.tier == "measured" for pair in verdict.pairs)
        evidence = f"{measured} of {count} pairs measured by us on both sides, weakest tier {verdict.tier}"
    else:
        pairs = f"{count} pair{'s' if count > 1 else ''}"
        evidence = f"{_not_measured(verdict.pairs)}: {pairs}, weakest tier {verdict.tier}"
    return f"{evidence}; {verdict.basis} prices as of {verdict.as_of}{_stale(verdict)}" if verdict.basis else evidence


def _stale(verdict: Verdict) -> str:
    """Whether prices are too old to be relied on, of the pairs or of what stands beside them: ids end in their day."""
    pairs = [*verdict.pairs, *(pair for cut in verdict.cuts for pair in cut.pairs)]
    days = [price.rpartition("/")[2] for pair in pairs if pair.stale for price in pair.price_ids]
    if not days:
        return ""
    unsaid = any("the day of this price is not recorded" in note for pair in pairs for note in pair.notes)
    return ", stale: of no recorded day" if unsaid else f", stale: the oldest is of {min(days)}"


def _not_measured(pairs: Sequence[Pair]) -> str:
    """What pairs are of which none was measured here on both sides."""
    if all("quantity" in pair.facts for pair in pairs):
        return SHEETS_ONLY
    if any("measured" in pair.facts.get("tiers", "") for pair in pairs):
        return ONE_SIDE
    return MODELLED if any(pair.tier == "modelled" for pair in pairs) else PUBLISHED_ONLY


def _part(part: Part, answer: PartAnswer, pairs: Sequence[Pair], named: bool) -> str:
    lead = f"{capital(part.name)}: {answer.answer}. " if named else ""
    if answer.best is None or answer.median is None:
        return f"{lead}{capital(answer.why)}."
    cost = part.metric == "usd_per_item"
    best, middle = (times(n) + (f", {cheaper(n)}" if cost else "") for n in (answer.best, answer.median))
    spread = (f" (95 % interval of their mean on a log scale: {times(answer.low)} to {times(answer.high)})"
              if answer.low and answer.high else "")
    number = f"best {best}" if answer.pairs == 1 else f"best {best}; median {middle}{spread} of {answer.pairs} pairs"
    rivals = ", ".join(sorted({pair.facts["baseline"] for pair in pairs}))
    text = f"{lead}Claimed {part.claimed} (met from {times(part.ratio)} on): {number} against {rivals}; {answer.why}."
    if answer.condition:
        text += f" It {answer.condition}."
    top = max(pairs, key=lambda pair: pair.ratio or 0)
    if part.metric != "peak" and (part.up_to or top.warnings):
        text += _best(top)
    return text + (f" ({capital(part.note)}.)" if part.note else "")


def _best(best: Pair) -> str:
    """The best pair, on which an "up to" claim stands or falls, with all that its publishers say against it."""
    warned = f" ({'; '.join(best.warnings)})" if best.warnings else ""
    return f" The best pair is {best.subject} against {best.baseline}{warned}."


def _to_beat(part: Part, found: Evidence) -> str | None:
    """Where the subject has no results: the cost it would have to stay below."""
    value = found.to_beat
    if value is None or value.number is None or part.metric != "usd_per_item":
        return None
    items, price = value.name.rpartition("_")[2], value.rate and value.rate.price_id
    alike, old = likeness(value.record), ", a stale price" if value.rate and value.rate.stale else ""
    return (f"to hold it must cost less than ${value.number / part.ratio:.3f} per million {items}: "
            f"{chip_name(value.record)} in {alike.precision_class or 'a precision not stated'} costs "
            f"${value.number:.3f} per million {alike.item_definition} ({value.record.run_id}, {price}{old})")


def _cut(cut: Cut) -> str:
    count = len(cut.pairs)
    ratios = sorted(pair.ratio for pair in cut.pairs if pair.ratio is not None)
    span = times(ratios[0]) if len(ratios) == 1 else f"{times(ratios[0])} to {times(ratios[-1])}"
    return f"{span} in {count} pair{'s' if count > 1 else ''}; it {_outcome(cut.pairs)}"


def _outcome(pairs: Sequence[Pair]) -> str:
    """What holds and fails among pairs, also where all do the same."""
    return condition_of(pairs) or against(pairs)


def condition(answers: Sequence[PartAnswer], cuts: Sequence[Cut], elsewhere: Sequence[Elsewhere]) -> str | None:
    """Return under what the answer holds and fails, and what would flip it; None where nothing does."""
    told = []
    if len(answers) == 1:
        told += [answers[0].condition] if answers[0].condition else []
    elif len({one.answer for one in answers}) > 1 or any(one.condition for one in answers):
        told += [f"{one.part}: {_brief(one)}" for one in answers]
    told += [f"with {cut.name} it {_outcome(cut.pairs)}" for cut in cuts if _changes(cut, answers)]
    told += [f"with {other.terms} it is {other.answer}" for other in elsewhere if other.flips]
    return "; ".join(told) or None


def _brief(answer: PartAnswer) -> str:
    best = f" (best {times(answer.best)})" if answer.best is not None else ""
    return f"{answer.answer}{best}" + (f", {answer.condition}" if answer.condition else "")


def _changes(cut: Cut, answers: Sequence[PartAnswer]) -> bool:
    """Whether a cut says anything else than its part; a stand-in has no part and always does."""
    own = next((one for one in answers if one.part == cut.answer.part), None)
    return own is None or own.answer != cut.answer.answer or own.answer == CONDITIONAL


def listing(claim: Claim, answer: str, total: int, by: Counter[str]) -> str:
    """Return the sentence of a claim that is answered by listing."""
    assert claim.listing is not None
    if answer == INSUFFICIENT:
        return f"Insufficient evidence: there is no result of {claim.listing.publisher} here."
    who = ", ".join(f"{name} ({count})" for name, count in by.most_common()) or "nobody"
    lead = {SUPPORTED: "none of them by", REFUTED: "some of them by"}[answer]
    return (f"{capital(answer)} (a listing of published results, nothing measured by us). Of {total} results of "
            f"{claim.listing.publisher} kept here, which are a selection, {sum(by.values())} are on these chips, "
            f"submitted by {who}: {lead} {' or '.join(claim.listing.submitters)}.")


