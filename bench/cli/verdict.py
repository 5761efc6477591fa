"""`trnbench verdict`: the claims against the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from bench.cli.money import book_of, money_options, terms_of
from bench.cli.options import console, format_for, json_option, output_option, text_of, write
from bench.errors import GATE_FAILED, BenchError, nearest

if TYPE_CHECKING:
    from bench.catalog.claims import Claim
    from bench.record import Record
    from bench.report.verdicts import Flip
    from bench.store import Problem

KINDS = ("terminal", "md", "json")
EXPECTED = ("supported", "refuted", "conditional", "not comparable", "insufficient evidence", "out of scope")


@click.command("verdict", epilog="""\b
Examples:
  trnbench verdict
  trnbench verdict C01
  trnbench verdict C05 --as-of 2025-05-31
  trnbench verdict --since 2025-05-31
  trnbench verdict C01 --results results/ --no-published --expect supported
  trnbench verdict --claims my-claims.toml --json | jq '.verdicts[] | {(.claim.id): .answer}'

\b
Exit codes: 0 done; 1 --expect did not hold; 2 wrong usage, an unknown claim included.
""")
@click.argument("claims", nargs=-1)
@click.option("--results", multiple=True, metavar="PATH",
              help="Records: folders, URLs or files. Default: `results` where it is there, or TRNBENCH_RESULTS.")
@click.option("--claims", "claims_file", type=click.Path(), help="A TOML file of claims, instead of the shipped ones.")
@click.option("--no-published", is_flag=True, help="Only the records of --results, none of the published results.")
@click.option("--expect", type=click.Choice(EXPECTED), metavar="ANSWER",
              help="Exit 1 unless every verdict shown is this answer.")
@click.option("--since", metavar="DATE", help="Name the answers that differ from those with prices as of that day.")
@money_options
@click.option("--format", "kind", type=click.Choice(KINDS),
              help="Default: what the ending of --output says, else terminal.")
@output_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, claims: tuple[str, ...], results: tuple[str, ...], claims_file: str | None,
            no_published: bool, expect: str | None, since: str | None, kind: str | None, output: str | None,
            as_json: bool, **money: Any) -> None:
    """Judge CLAIMS (all by default) by published results and the records in --results.

    A claim is supported, refuted, conditional, not comparable, without sufficient evidence, or out of
    scope. Only alike results are held against one another, on one price basis; all that was left out
    is named with its reason. One claim by name shows every pair. A verdict on published results says
    so: nothing of it was measured here.
    """
    from bench.claims import flips, judge_all, on_terms

    kind = _kind(kind, output, as_json)

    chosen = _chosen(claims, claims_file)
    asked = ctx.get_parameter_source("attribution") is not click.core.ParameterSource.DEFAULT
    chosen = [on_terms(claim, basis=money["basis"] is not None, attribution=asked) for claim in chosen]
    terms, book = terms_of(money), book_of(money)
    records, problems = _records(results, no_published)
    verdicts = judge_all(chosen, records, terms, book)
    flipped = None
    if since is not None:
        flipped = flips(judge_all(chosen, records, replace(terms, as_of=_day(since)), book), verdicts)
    _print(kind, output, verdicts, flipped=flipped, since=since, problems=problems, full=len(claims) == 1)
    if expect and (missed := [v for v in verdicts if v.answer != expect]):
        told = ", ".join(f"{verdict.claim.id} is {verdict.answer}" for verdict in missed)
        click.echo(f"Expected {expect}, but {told}.", err=True)
        ctx.exit(GATE_FAILED)


def _kind(kind: str | None, output: str | None, as_json: bool) -> str:
    kind = "json" if as_json else kind or format_for(output)
    if kind not in KINDS:
        raise BenchError(f"Verdicts are not written as {kind}.", fix=f"pass --format with one of {', '.join(KINDS)}.")
    return kind


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BenchError(f"--since {text!r} is no day.", fix="write it as 2025-05-31.") from None


def _print(kind: str, output: str | None, verdicts: Sequence[Any], *, full: bool, flipped: Sequence[Flip] | None,
           since: str | None, problems: Sequence[Problem]) -> None:
    from bench.report import verdicts as view

    if kind == "json":
        write(view.to_json(verdicts, flipped=flipped, since=since, problems=problems), output)
    elif kind == "md":
        write(view.render_markdown(verdicts, full=full, flipped=flipped, since=since, problems=problems), output)
    elif output is None:
        view.render_terminal(verdicts, console(), full=full, flipped=flipped, since=since, problems=problems)
    else:
        write(text_of(lambda out: view.render_terminal(verdicts, out, full=full, flipped=flipped, since=since,
                                                       problems=problems)), output)


def _chosen(names: Sequence[str], claims_file: str | None) -> list[Claim]:
    """The claims of those names, in the order of the file; BenchError for one that is not there."""
    from bench.catalog.claims import load_claims, shipped_claims

    found = load_claims(claims_file) if claims_file else shipped_claims()
    known = {claim.id.lower(): claim for claim in found}
    for name in names:
        if name.lower() not in known:
            raise BenchError(f"Unknown claim {name!r}.{nearest(name.upper(), [claim.id for claim in found])}",
                             fix="`trnbench list claims` lists those that are shipped.")
    wanted = {name.lower() for name in names}
    return [claim for claim in found if not wanted or claim.id.lower() in wanted]


def _records(paths: Sequence[str], no_published: bool) -> tuple[list[Record], tuple[Problem, ...]]:
    """The user's records, where there are any, and the published ones; of an id that both have, the user's."""
    import os

    from bench.cli.options import RESULTS
    from bench.store import open_results

    named = list(paths) or ([os.environ["TRNBENCH_RESULTS"]] if os.environ.get("TRNBENCH_RESULTS") else [])
    if not named and os.path.isdir(RESULTS):
        named = [RESULTS]
    loaded = open_results(named, samples=False)
    records = {record.run_id: record for record in loaded.records}
    if not no_published:
        from bench.catalog.published import published_records

        records = {record.run_id: record for record in published_records()[0]} | records
    return list(records.values()), loaded.problems
