"""Verdicts and dated prices as the page tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.catalog.prices import PriceBook
from bench.report.html.texts import Texts, short, shorts

if TYPE_CHECKING:
    from bench.claims.verdict import Pair, PartAnswer, Verdict

MOST_PAIRS, MOST_NAMED = 100, 5
"""Pairs shown of a verdict, and records named of those that one reason left out; the rest is counted."""

PRICES = ("instance", "region", "basis", "date", "usd_per_hour", "source", "note")


def verdict_json(verdict: Verdict, rows: Mapping[str, int], texts: Texts) -> dict[str, Any]:
    """A verdict; `rows`: the page's rows by run id, for links."""
    claim, pairs = verdict.claim, verdict.pairs[:MOST_PAIRS]
    told = {
        "id": claim.id, "title": claim.title, "statement": texts.number(claim.statement),
        "source": texts.numbers([claim.source.get(key) for key in ("publisher", "date", "url")]),
        "answer": verdict.answer, "basis": verdict.basis, "as_of": verdict.as_of, "tier": verdict.tier,
        "best": short(verdict.best), "median": shorts(verdict.median, verdict.low, verdict.high),
        "condition": texts.number(verdict.condition), "sentence": texts.number(verdict.sentence),
        "parts": [_part(part, texts) for part in verdict.parts],
        "cuts": [[texts.number(f"{cut.name}: {cut.why}"), *_part(cut.answer, texts)] for cut in verdict.cuts],
        "elsewhere": [[texts.number(at.terms), texts.number(at.answer), at.flips] for at in verdict.elsewhere],
        "pairs": [_pair(pair, rows, texts) for pair in pairs], "pair_count": len(verdict.pairs),
        "left_out": _left_out(verdict, texts)}
    return {name: value for name, value in told.items() if value not in (None, [], "")}


def _part(part: PartAnswer, texts: Texts) -> list[Any]:
    """[part, claimed, answer, why, pairs, best, median with its bounds]."""
    return [*map(texts.number, (part.part, part.claimed, part.answer, part.why)), part.pairs, short(part.best),
            shorts(part.median, part.low, part.high)]


def _pair(pair: Pair, rows: Mapping[str, int], texts: Texts) -> dict[str, Any]:
    told = {
        "part": texts.number(pair.part), "label": texts.number(pair.label),
        "subject": rows.get(pair.subject, pair.subject), "baseline": rows.get(pair.baseline, pair.baseline),
        "ratio": shorts(pair.ratio, pair.low, pair.high), "holds": pair.holds, "unit": texts.number(pair.unit),
        "values": [short(pair.subject_value), short(pair.baseline_value)], "tier": pair.tier,
        "prices": texts.numbers(pair.price_ids), "notes": texts.numbers(pair.notes),
        "why": texts.number(pair.reason)}
    return {name: value for name, value in told.items() if value not in (None, [])}


def _left_out(verdict: Verdict, texts: Texts) -> list[list[Any]]:
    """[reason, how many, the first few run ids], commonest reason first."""
    by_reason: dict[str, list[str]] = {}
    for run_id, reason in verdict.left_out:
        by_reason.setdefault(reason, []).append(run_id)
    ranked = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    return [[texts.number(reason), len(ids), texts.number(", ".join(ids[:MOST_NAMED]))] for reason, ids in ranked]


def price_rows(book: PriceBook, texts: Texts) -> list[list[Any]]:
    """Every dated price by PRICES, oldest first."""
    ordered = sorted(book.prices, key=lambda p: (p.instance_type, p.basis, p.region, p.as_of))
    return [[texts.number(p.instance_type), texts.number(p.region), texts.number(p.basis),
             texts.number(p.as_of.isoformat()), short(p.usd_per_hour), texts.number(p.source), texts.number(p.note)]
            for p in ordered]


def sources_named(verdicts: Sequence[Verdict]) -> set[str]:
    """Run ids that the shown pairs of verdicts stand on."""
    return {run_id for verdict in verdicts for pair in verdict.pairs[:MOST_PAIRS]
            for run_id in (pair.subject, pair.baseline)}
