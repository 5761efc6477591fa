"""Verdicts on a terminal, as Markdown and as JSON: one line a claim, or one claim with all its pairs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bench import __version__
from bench.claims.judge import same_pairs
from bench.claims.verdict import Elsewhere, Pair, PartAnswer, Verdict
from bench.report import text
from bench.report.markdown import bullets, escape, table
from bench.report.terminal import print_list, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from bench.store import Problem

SCHEMA_VERSION = "trnbench.verdicts/1"

NUMERIC = frozenset(("best", "median", "pairs", "ratio", "subject is", "baseline is"))
LEFT_OUT_FIRST = ("tier", "95 %", "on")

HOW = ("Ratio above 1: the subject is better. \"Up to\" claims are judged by the best pair and by none reversing, "
       "others by every pair; best, median and pairs are those of a claim's first part. Pairs share results, so the "
       "interval of a median says how far the pairs scatter, not how sure the answer is.")

OTHER_PAIRS = "; not the same pairs: some have no price on one of the days"

Flip = tuple[Verdict, Verdict]
"""The verdicts on one claim on two days, the earlier first."""


def render_terminal(verdicts: Sequence[Verdict], console: Console, *, full: bool, flipped: Sequence[Flip] | None = None,
                    since: str | None = None, problems: Sequence[Problem] = ()) -> None:
    """Print a line a claim with its sentence below the table; `full`: each with every pair and all left out."""
    print_table(console, [_cells(verdict) for verdict in verdicts], LEFT_OUT_FIRST, numeric=NUMERIC)
    for verdict in verdicts:
        _print_one(console, verdict, full)
    if since is not None:
        print_list(console, f"Answers that differ from those with prices as of {since}", _flips(flipped or ()))
    print_list(console, "Files passed over", _problems(problems))
    console.print(HOW, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def render_markdown(verdicts: Sequence[Verdict], *, full: bool, flipped: Sequence[Flip] | None = None,
                    since: str | None = None, problems: Sequence[Problem] = ()) -> str:
    """Return the same as one document. Texts are escaped: no name makes a table, a link or HTML."""
    parts = ["# Verdicts", table([_cells(verdict) for verdict in verdicts], NUMERIC)]
    for verdict in verdicts:
        parts += [f"## {escape(verdict.claim.id)}: {escape(verdict.claim.title)}", escape(verdict.sentence)]
        parts += _markdown_one(verdict) if full else []
    if since is not None:
        parts += [f"## Answers that differ from those with prices as of {since}",
                  bullets(map(escape, _flips(flipped or ())))]
    if problems:
        parts += ["## Files passed over", bullets(map(escape, _problems(problems)))]
    return "\n\n".join([*parts, HOW]) + "\n"


def to_json(verdicts: Sequence[Verdict], *, flipped: Sequence[Flip] | None = None, since: str | None = None,
            problems: Sequence[Problem] = ()) -> str:
    """Return {"schema_version", "tool", "verdicts", "since", "flipped", "problems"}."""
    document = {
        "schema_version": SCHEMA_VERSION, "tool": {"name": "trnbench", "version": __version__},
        "verdicts": [verdict_json(verdict) for verdict in verdicts], "since": since,
        "flipped": None if flipped is None else [
            {"claim": now.claim.id, "then": then.answer, "then_as_of": then.as_of, "now": now.answer,
             "now_as_of": now.as_of, "same_pairs": same_pairs(then, now)} for then, now in flipped],
        "problems": [{"path": problem.path, "reason": problem.reason} for problem in problems]}
    return json.dumps(document, allow_nan=False, indent=1) + "\n"


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Return one verdict with everything it rests on, as JSON values."""
    claim = verdict.claim
    return {
        "claim": {"id": claim.id, "title": claim.title, "statement": claim.statement, "source": claim.source,
                  "scope": claim.scope, "notes": list(claim.notes)},
        "answer": verdict.answer, "sentence": verdict.sentence, "condition": verdict.condition,
        "measured": verdict.measured, "tier": verdict.tier, "basis": verdict.basis, "as_of": verdict.as_of,
        "best": verdict.best, "median": verdict.median, "low": verdict.low, "high": verdict.high,
        "reason": verdict.reason, "parts": [dataclasses.asdict(part) for part in verdict.parts],
        "pairs": [_pair_json(pair) for pair in verdict.pairs],
        "beside": [{"name": cut.name, "why": cut.why, "answer": dataclasses.asdict(cut.answer),
                    "pairs": [_pair_json(pair) for pair in cut.pairs]} for cut in verdict.cuts],
        "elsewhere": [dataclasses.asdict(other) for other in verdict.elsewhere],
        "left_out": [{"run_id": run_id, "reason": reason} for run_id, reason in verdict.left_out]}


def _pair_json(pair: Pair) -> dict[str, Any]:
    return {f.name: getattr(pair, f.name) for f in dataclasses.fields(pair)} | {
        "price_ids": list(pair.price_ids), "notes": list(pair.notes), "warnings": list(pair.warnings),
        "facts": dict(pair.facts)}


def _cells(verdict: Verdict) -> dict[str, str]:
    return {"claim": verdict.claim.id, "answer": verdict.answer, "best": _times(verdict.best),
            "median": _times(verdict.median), "95 %": _span(verdict.low, verdict.high),
            "pairs": str(verdict.parts[0].pairs if verdict.parts else len(verdict.pairs)),
            "tier": verdict.tier or text.UNKNOWN,
            "on": f"{verdict.basis} {verdict.as_of}" if verdict.basis else text.UNKNOWN,
            "title": text.plain(verdict.claim.title)}


def _times(ratio: float | None) -> str:
    return text.UNKNOWN if ratio is None else f"{ratio:.2f}x"


def _span(low: float | None, high: float | None) -> str:
    return text.UNKNOWN if low is None or high is None else f"{low:.2f} to {high:.2f}"


def _print_one(console: Console, verdict: Verdict, full: bool) -> None:
    from rich.text import Text

    console.print(Text(f"\n{verdict.claim.id}  {text.plain(verdict.claim.title)}", style="bold"), soft_wrap=True)
    console.print(Text(text.plain(verdict.sentence)), soft_wrap=not console.is_terminal)
    if not full:
        return
    console.print(Text(f"Source: {_source(verdict)}"), soft_wrap=True)
    for title, why, pairs in _tables(verdict):
        console.print(Text(f"\n{title}", style="bold"), soft_wrap=True)
        if why:
            console.print(Text(why), soft_wrap=True)
        print_table(console, [_pair_cells(pair) for pair in pairs], (), numeric=NUMERIC)
    for title, lines in _lists(verdict):
        print_list(console, title, lines)


def _markdown_one(verdict: Verdict) -> list[str]:
    parts = [f"Source: {escape(_source(verdict))}"]
    for title, why, pairs in _tables(verdict):
        parts += [f"### {escape(title)}", *([escape(why)] if why else []),
                  table([_pair_cells(pair) for pair in pairs], NUMERIC)]
    for title, lines in _lists(verdict):
        parts += [f"### {title}", bullets(map(escape, lines))] if lines else []
    return parts


def _source(verdict: Verdict) -> str:
    source = verdict.claim.source
    return text.plain(", ".join(source[key] for key in ("publisher", "date", "url") if key in source))


def _tables(verdict: Verdict) -> Iterable[tuple[str, str | None, Sequence[Pair]]]:
    """The pairs of each part, then those beside the claim, each with its title and what they are."""
    by_part: dict[str, list[Pair]] = {}
    for pair in verdict.pairs:
        by_part.setdefault(pair.part, []).append(pair)
    for name, pairs in by_part.items():
        answer = next((part for part in verdict.parts if part.part == name), None)
        yield text.plain(f"{name}: {_claimed(answer)}" if answer else name), None, pairs
    for cut in verdict.cuts:
        yield text.plain(f"Beside the claim: {cut.name}"), text.plain(cut.why), cut.pairs


def _claimed(answer: PartAnswer) -> str:
    return f"claimed {answer.claimed} ({answer.ratio:.2f}x), {answer.answer}"


def _pair_cells(pair: Pair) -> dict[str, str]:
    named = {"pair": pair.label, "ratio": _times(pair.ratio), "95 %": _span(pair.low, pair.high),
             "holds": {True: "yes", False: "no", None: text.UNKNOWN}[pair.holds],
             "subject is": text.number(pair.subject_value), "baseline is": text.number(pair.baseline_value),
             "unit": pair.unit, "tier": pair.tier, "subject": pair.subject, "baseline": pair.baseline,
             "prices": ", ".join(pair.price_ids) or text.UNKNOWN}
    return {heading: text.plain(cell) for heading, cell in named.items()}


def _lists(verdict: Verdict) -> Iterable[tuple[str, list[str]]]:
    yield "On other terms", [_other(other) for other in verdict.elsewhere]
    yield "Notes of the claim", [text.plain(note) for note in verdict.claim.notes]
    every = [*verdict.pairs, *(pair for cut in verdict.cuts for pair in cut.pairs)]
    yield "Notes of the pairs", list(dict.fromkeys(text.plain(note) for pair in every for note in pair.notes))
    yield f"Left out ({len(verdict.left_out)})", [text.plain(f"{run_id}: {why}") for run_id, why in verdict.left_out]


def _other(other: Elsewhere) -> str:
    flips = ": the answer flips" if other.flips else ""
    return text.plain(f"{other.terms}: {other.answer}, best {_times(other.best)}, median {_times(other.median)} "
                      f"of {other.pairs} pairs{flips}")


def _flips(flipped: Sequence[Flip]) -> list[str]:
    lines = []
    for then, now in flipped:
        medians = f"median {_times(then.median)}, then {_times(now.median)}"
        lines.append(text.plain(f"{now.claim.id}: {then.answer} as of {then.as_of}, {now.answer} as of {now.as_of} "
                                f"({medians}{'' if same_pairs(then, now) else OTHER_PAIRS})"))
    return lines or ["none"]


def _problems(problems: Sequence[Problem]) -> list[str]:
    return [text.plain(f"{problem.path}: {problem.reason}") for problem in problems]
