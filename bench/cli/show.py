"""`trnbench show`: one record in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bench.cli.money import book_of, money_options, terms_of
from bench.cli.options import console, json_option, results_option
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.record import Record


@click.command("show", epilog="""\b
Examples:
  trnbench show 20260101T120000-57eef0039e75-1a2b
  trnbench show 20260101T12                    (as much of it as is needed)
  trnbench show results/here/bert/RUN.json --json | jq .metrics
  trnbench show neuron-inf2-002 --rival trt-demobert-003 --basis on-demand
""")
@click.argument("run_id")
@results_option
@json_option
@click.option("--rival", metavar="RUN_ID", help="Hold its cost against another record: break-even, job length.")
@money_options
@click.pass_context
def command(ctx: click.Context, run_id: str, results: str, as_json: bool, rival: str | None, **_: Any) -> None:
    """Print one record in full: numbers, ledger, parity, settings, machine, money.

    RUN_ID is a run's id, the beginning of one, a record's file, or the id of a published result.
    `trnbench report --format csv` lists run ids. --json prints the record as it is stored, raw samples
    included, and no money, as that is never stored.
    """
    record = _find(run_id, results)
    if as_json:
        click.echo(record.dumps(), nl=False)
        return
    from bench.report.detail import render_record

    render_record(record, console())
    from bench.report.costs import render_costs
    from bench.report.money import Money

    money = Money(terms_of(ctx.params), book_of(ctx.params))
    render_costs(record, money, console(), _find(rival, results) if rival else None)


def _find(run_id: str, results: str) -> Record:
    """A record's file, a published result by its whole id, else a record of the store."""
    from pathlib import Path

    from bench.store import Store

    if Path(run_id).is_file():
        return Store(run_id).find("")
    try:
        return Store(results).find(run_id)
    except BenchError:
        from bench.catalog.published import published_records

        found = next((record for record in published_records()[0] if record.run_id == run_id), None)
        if found is None:
            raise
        return found
