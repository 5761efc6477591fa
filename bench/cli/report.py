"""`trnbench report`: stored records and shipped evidence, priced, as a table or a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bench.cli.money import book_of, money_options, terms_of
from bench.cli.options import (
    all_option,
    console,
    output_option,
    results_or_default,
    text_of,
    warn_of,
    write,
)
from bench.errors import BenchError
from bench.record import TIERS

if TYPE_CHECKING:
    from bench.record import Record
    from bench.report.money import Money
    from bench.store import Loaded, Problem

KINDS = ("terminal", "md", "html", "csv", "json", "parquet")


@click.command("report", epilog="""\b
Examples:
  trnbench report
  trnbench report results/ other-machine/ -o report.md
  trnbench report --usd-per-hour 1.34 --baseline cpu
  trnbench report --format html -o report.html --basis capacity-block
  trnbench report --published --baseline h100-sxm --attribution chips --as-of 2025-05-31
  trnbench report s3://bucket/results --format csv > runs.csv
  trnbench report --format json | jq '.rows[].usd_per_1m_items'
""")
@click.argument("results", nargs=-1)
@click.option("--format", "kind", type=click.Choice(KINDS),
              help="Default: what the ending of --output says, else terminal.")
@output_option
@all_option
@click.option("--published/--no-published", default=None,
              help="Published results beside the records. Default: in the html page alone.")
@click.option("--tier", "tiers", multiple=True, type=click.Choice(TIERS), help="Of this tier alone; repeatable.")
@click.option("--baseline", metavar="NAME", help="Hold all against this: a run id, an instance type, a chip, "
              "a machine or a backend.")
@money_options
@click.pass_context
def command(ctx: click.Context, results: tuple[str, ...], kind: str | None, output: str | None, everything: bool,
            published: bool | None, tiers: tuple[str, ...], baseline: str | None, **_: Any) -> None:
    """Show stored records: throughput, latency, cost per item, MFU, memory, ledger.

    RESULTS are folders, URLs or record files; by default `results`, or TRNBENCH_RESULTS. Of a case
    measured several times on one machine the newest record is shown. A record that is not valid is
    shown with its reason; a file that cannot be read is named and passed over.

    Money is worked out when a record is read, never stored: every stored record can be priced anew.
    Records of one kind of work stand cheapest first. An unknown price is a dash, and a note says why.
    """
    from bench.report.frame import latest
    from bench.report.money import Money

    kind = kind or _kind_for(output)
    with_published = published if published is not None else kind == "html"
    if kind == "csv" and everything and not with_published and not baseline:
        _stream_csv(results, tiers, Money(terms_of(ctx.params), book_of(ctx.params)), output)
        return
    loaded = _loaded(results, published=with_published, outdated=everything)
    records = list(loaded.records if everything else latest(loaded.records))
    if with_published:
        from bench.catalog.published import published_records

        records += published_records()[0]
    if tiers:
        records = [record for record in records if record.tier in tiers]
    money = Money(terms_of(ctx.params), book_of(ctx.params), baseline)
    if kind != "html" or baseline:  # the page prices only what it shows
        money.over(records)
    _render(records, loaded, money, kind, output)


def _kind_for(output: str | None) -> str:
    """The format that a file's ending asks for."""
    ending = (output or "").rpartition(".")[2]
    return ending if ending in KINDS else "terminal"


def _loaded(results: tuple[str, ...], *, published: bool, outdated: bool) -> Loaded:
    """Read the records. No folder of the default name is no error where published results are shown."""
    from pathlib import Path

    from bench.store import Loaded, open_results

    paths = results_or_default(results)
    if not results and "://" not in paths[0] and not Path(paths[0]).exists():
        if published:
            return Loaded()
        raise BenchError(f"No results at {paths[0]!r}.", fix="measure some with `trnbench run`, pass the folder that "
                         "has them, or add --published to see the results that come with trnbench.")
    return open_results(paths, samples=False, outdated=outdated)


def _stream_csv(results: tuple[str, ...], tiers: tuple[str, ...], money: Money, output: str | None) -> None:
    """Write every record's line as it is read: a compacted store may hold more than memory does."""
    from bench.report.plain import csv_lines
    from bench.store import stream_results

    problems: list[Problem] = []
    records = stream_results(results_or_default(results), problems)
    write(csv_lines((r for r in records if not tiers or r.tier in tiers), money), output)
    warn_of(problems)


def _render(records: list[Record], loaded: Loaded, money: Money, kind: str, output: str | None) -> None:
    problems = loaded.problems
    if kind == "terminal":
        from bench.report.terminal import render_terminal

        if output is None:
            render_terminal(records, console(), problems, money)
        else:
            write(text_of(lambda out: render_terminal(records, out, problems, money)), output)
    elif kind == "md":
        from bench.report.markdown import render_markdown

        write(render_markdown(records, problems, money), output)
    elif kind == "csv":
        from bench.report.plain import to_csv

        warn_of(problems)
        write(to_csv(records, money), output)
    elif kind == "json":
        from bench.report.plain import to_json

        write(to_json(records, problems, money), output)
    elif kind == "parquet":
        from bench.report.plain import write_parquet

        warn_of(problems)
        if output is None:
            raise BenchError("Parquet is no text for a terminal.", fix="pass -o runs.parquet.")
        write_parquet(records, money, output)
        click.echo(f"Wrote {output}", err=True)
    else:
        _page(records, loaded, money, output)


def _page(records: list[Record], loaded: Loaded, money: Money, output: str | None) -> None:
    """The page judges the claims under the terms given, and under each other basis that the book has prices of."""
    from dataclasses import replace

    from bench.catalog.claims import shipped_claims
    from bench.claims import judge_on
    from bench.report.html import render_html

    others = sorted({price.basis for price in money.book.prices} - {money.terms.basis})
    terms = [money.terms, *(replace(money.terms, basis=basis, usd_per_hour=None) for basis in others)]
    verdicts = judge_on(shipped_claims(), records, terms, money.book)
    write(render_html(records, book=money.book, terms=money.terms, verdicts=verdicts, problems=loaded.problems,
                      baseline=money.baseline), output)
