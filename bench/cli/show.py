"""`trnbench show`: one record in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bench.cli.options import console, json_option, results_option

if TYPE_CHECKING:
    from bench.record import Record


@click.command("show", epilog="""\b
Examples:
  trnbench show 20260101T120000-57eef0039e75-1a2b
  trnbench show 20260101T12                    (as much of it as is needed)
  trnbench show results/here/bert/RUN.json --json | jq .metrics
""")
@click.argument("run_id")
@results_option
@json_option
def command(run_id: str, results: str, as_json: bool) -> None:
    """Print one record in full: numbers, ledger, parity, settings, machine.

    RUN_ID is a run's id, the beginning of one, or a record's file. `trnbench report --format csv` lists
    run ids. --json prints the record as it is stored, raw samples included.
    """
    record = _find(run_id, results)
    if as_json:
        click.echo(record.dumps(), nl=False)
        return
    from bench.report.detail import render_record

    render_record(record, console())


def _find(run_id: str, results: str) -> Record:
    from pathlib import Path

    from bench.store import Store

    if Path(run_id).is_file():
        return Store(run_id).find("")
    return Store(results).find(run_id)
