"""From pairs to an answer. The default is "insufficient evidence"; every other answer needs pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from bench.catalog.claims import Part, Selector
from bench.claims.evidence import Evidence
from bench.claims.verdict import CONDITIONAL, INSUFFICIENT, NOT_COMPARABLE, REFUTED, SUPPORTED, Pair, PartAnswer
from bench.stats.intervals import children_interval

LEAST_PAIRS = 3
"""From so many pairs on their median has an interval."""

DIMENSIONS = ("quantity", "baseline", "subject", "instance", "workload", "precision", "scenario", "sequence",
              "requests at a time", "chips")
"""What may split the pairs that hold from those that fail, in the order in which a split is looked for."""


def answer_of(part: Part, pairs: Sequence[Pair], found: Evidence) -> PartAnswer:
    """Return the answer of one part.

    "On average": by the mean of the ratios. Flat claims: supported where every pair reaches the ratio
    (its interval's low end, where it has one), refuted where none does. "Up to": supported where the
    best pair does and none reverses (ratio below 1), refuted where not even the best does. All else with
    pairs is conditional, and so is what only holds as far as there are prices: an alike pair without one
    might fail.
    The median of an even number of ratios is the geometric mean of the middle two; its 95 %
    interval is Student's t on the logarithms over the pairs, and so that of their geometric mean.
    """
    ratios = [pair.ratio for pair in pairs if pair.ratio is not None]
    if not ratios:
        answer, why = _without_pairs(part, found)
        return PartAnswer(part=part.name, claimed=part.claimed, ratio=part.ratio, up_to=part.up_to, answer=answer,
                          why=why, pairs=0, reason="no pairs")
    judge = _average if part.average else _up_to if part.up_to else _flat
    answer, why = judge(pairs, part.ratio)
    middle = children_interval(ratios)
    few = None if len(ratios) >= LEAST_PAIRS else f"fewer than {LEAST_PAIRS} pairs give no interval"
    condition = condition_of(pairs)
    if found.unpriced:
        lacking = f"{found.unpriced} alike pairs have no price"
        why = f"{why}; {lacking}"
        if answer == SUPPORTED:
            answer, condition = CONDITIONAL, f"{condition or against(pairs)}; {lacking}"
    return PartAnswer(part=part.name, claimed=part.claimed, ratio=part.ratio, up_to=part.up_to, answer=answer, why=why,
                      pairs=len(ratios), best=max(ratios), median=middle.value, low=None if few else middle.low,
                      high=None if few else middle.high, reason=few, condition=condition)


def _average(pairs: Sequence[Pair], claimed: float) -> tuple[str, str]:
    ratios = [pair.ratio for pair in pairs if pair.ratio is not None]
    mean = sum(ratios) / len(ratios)
    return (SUPPORTED if mean >= claimed else REFUTED), f"their mean is {mean:.2f}x"


def _flat(pairs: Sequence[Pair], claimed: float) -> tuple[str, str]:
    outcomes = [pair.holds for pair in pairs]
    if all(outcomes):
        return SUPPORTED, "every pair reaches it"
    if not any(outcome is not None for outcome in outcomes):
        return INSUFFICIENT, "the intervals span it"
    if not any(outcome is not False for outcome in outcomes):
        return REFUTED, "no pair reaches it"
    return CONDITIONAL, f"{sum(map(bool, outcomes))} of {len(outcomes)} pairs reach it"


def _up_to(pairs: Sequence[Pair], claimed: float) -> tuple[str, str]:
    ratios = [pair.ratio for pair in pairs if pair.ratio is not None]
    reversed_ = sum(ratio < 1 for ratio in ratios)
    if any(pair.holds for pair in pairs):
        if not reversed_:
            return SUPPORTED, "the best pair reaches it and none reverses"
        return CONDITIONAL, f"the best pair reaches it, but {reversed_} of {len(ratios)} reverse"
    if all(pair.holds is False for pair in pairs):
        return REFUTED, "not even the best pair reaches it"
    return INSUFFICIENT, "the interval of the best pair spans it"


def _without_pairs(part: Part, found: Evidence) -> tuple[str, str]:
    """Why there is no pair: a side without results, alike results without a number, or none alike."""
    sides = [(found.subjects, f"of the subject ({_named(part.subject)})"),
             (found.baselines, f"of the baseline ({_named(part.baseline)})")]
    for side, named in sides:
        if not side.results:
            return INSUFFICIENT, f"no valid result {named}"
    if found.unpriced:
        return INSUFFICIENT, (f"{found.unpriced} alike pairs, none of them with prices on both sides: "
                              f"{found.subjects.lacks or found.baselines.lacks}")
    for side, named in sides:
        if not side.known:
            return INSUFFICIENT, f"no result {named} has the number: {side.lacks}"
    most = sorted(found.differences.items(), key=lambda item: (-item[1], item[0]))[:4]
    told = ", ".join(f"{topic} ({count})" for topic, count in most)
    return NOT_COMPARABLE, (f"{found.subjects.results} results against {found.baselines.results}, none alike; "
                            f"they differ in {told}")


def _named(selector: Selector) -> str:
    return ", ".join(selector.chips or selector.vendors or selector.instances)


def together(parts: Sequence[PartAnswer]) -> str:
    """Return the answer of a claim: that of its parts where they agree, else conditional.

    Where the first part has no pairs the claim has none of its own, whatever the others say.
    """
    first = parts[0].answer
    if first in (NOT_COMPARABLE, INSUFFICIENT) or all(part.answer == first for part in parts):
        return first
    return CONDITIONAL


def condition_of(pairs: Sequence[Pair]) -> str | None:
    """Return what splits the pairs that hold from those that fail, None where all are alike.

    The fewest dimensions that tell them apart cleanly, at most two; else the two that stand first
    among those that differ, and the mixed ones are told as such.
    """
    judged = [pair for pair in pairs if pair.holds is not None]
    if len({pair.holds for pair in judged}) < 2:
        return None
    varied = [name for name in DIMENSIONS if len({pair.facts.get(name) for pair in judged}) > 1]
    tried = [*((name,) for name in varied), *combinations(varied, 2)]
    clean = [names for names in tried if _clean(judged, names)]
    names = min(clean, key=lambda names: (len(names), len(_split(judged, names)))) if clean else tuple(varied[:2])
    return _told(_split(judged, names), names)


def against(pairs: Sequence[Pair]) -> str:
    """Return by baseline and precision what pairs of one outcome do: "fails against L4 (16-bit against int8)"."""
    names = ("quantity",) if "quantity" in pairs[0].facts else ("baseline", "precision")
    return _told(_split(pairs, names), names)


Split = dict[tuple[str, ...], list[Pair]]


def _split(pairs: Sequence[Pair], names: Sequence[str]) -> Split:
    groups: Split = {}
    for pair in pairs:
        groups.setdefault(tuple(pair.facts.get(name, "") for name in names), []).append(pair)
    return groups


def _clean(pairs: Sequence[Pair], names: Sequence[str]) -> bool:
    return all(len({pair.holds for pair in group}) == 1 for group in _split(pairs, names).values())


def _told(groups: Split, names: Sequence[str]) -> str:
    """What each group does: "holds for inf1.xlarge against T4, L4 and inf2.xlarge against T4; fails against ..."."""
    outcomes: dict[str, dict[str, list[str]]] = {"holds": {}, "fails": {}, "is mixed": {}}
    for values, group in groups.items():
        lead, rival = _ends(dict(zip(names, values, strict=True)))
        kept = sum(bool(pair.holds) for pair in group)
        word = "holds" if kept == len(group) else "is mixed" if kept else "fails"
        tail = "" if kept == len(group) else f" ({kept} of {len(group)})" if kept else _reversal(group)
        outcomes[word].setdefault(lead if rival else "", []).append((rival or lead) + tail)
    against_ = "against" if "baseline" in names else "for"
    parts = []
    for word, by_lead in outcomes.items():
        texts = [f"{lead} against {', '.join(sorted(ends))}" if lead else ", ".join(sorted(ends))
                 for lead, ends in sorted(by_lead.items())]
        if texts:
            parts.append(f"{word} {'for' if any(by_lead) else against_} {' and '.join(texts)}")
    return "; ".join(parts)


def _ends(values: dict[str, str]) -> tuple[str, str]:
    """A group as what is held against what: its baseline with the precisions, and all else."""
    baseline, precision = values.pop("baseline", ""), values.pop("precision", "")
    lead = " ".join(filter(None, values.values()))
    if not baseline:
        return " in ".join(filter(None, (lead, precision))), ""
    return lead, f"{baseline} ({precision})" if precision else baseline


def _reversal(group: Sequence[Pair]) -> str:
    """Whether the pairs of a group do not merely miss the ratio but favour the baseline."""
    below = sum(pair.ratio is not None and pair.ratio < 1 for pair in group)
    return "" if not below else " (reverses)" if below == len(group) else f" ({below} of {len(group)} reverse)"
