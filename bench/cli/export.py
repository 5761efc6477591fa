"""`trnbench export`: records in other tools' formats."""

from __future__ import annotations

import click

from bench.cli.options import all_option, output_option, results_or_default, warn_of, write
from bench.errors import NOTHING_VALID

FORMATS = ("pytest-benchmark", "csv")


@click.command("export", epilog="""\b
Examples:
  trnbench export --format pytest-benchmark -o runs.json && pytest-benchmark compare runs.json
  trnbench export results/ other/ --format csv --all -o runs.csv
""")
@click.argument("results", nargs=-1)
@click.option("--format", "kind", type=click.Choice(FORMATS), required=True)
@output_option
@all_option
@click.pass_context
def command(ctx: click.Context, results: tuple[str, ...], kind: str, output: str | None,
            everything: bool) -> None:
    """Write records for other tools.

    pytest-benchmark: times of one step, for `pytest-benchmark compare` and dashboards that read it;
    valid records only, as it knows no others; each holds our whole record, which `trnbench import`
    gives back. csv: a line a record, whatever became of it.
    """
    import json

    from bench.exchange.pytest_benchmark import can_export, export_document
    from bench.report.frame import latest
    from bench.report.plain import to_csv
    from bench.store import open_results

    loaded = open_results(results_or_default(results), samples=kind != "csv")
    warn_of(loaded.problems)
    records = loaded.records if everything else latest(loaded.records)
    if kind == "csv":
        write(to_csv(records), output)
        return
    kept = [record for record in records if can_export(record)]
    for record in records:
        if not can_export(record):
            why = "no raw times" if record.status == "valid" else f"{record.status}: {'; '.join(record.reasons)}"
            click.echo(f"Left out {record.run_id} ({record.case.label}): {why}", err=True)
    if not kept:
        click.echo("No valid record to export.", err=True)
        ctx.exit(NOTHING_VALID)
    write(json.dumps(export_document(kept), allow_nan=False, indent=1) + "\n", output)
