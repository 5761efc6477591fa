"""`trnbench report`: stored records as a table."""

from __future__ import annotations

import click

from bench.cli.options import (
    all_option,
    console,
    format_for,
    format_option,
    output_option,
    results_or_default,
    text_of,
    warn_of,
    write,
)


@click.command("report", epilog="""\b
Examples:
  trnbench report
  trnbench report results/ other-machine/ -o report.md
  trnbench report s3://bucket/results --format csv > runs.csv
  trnbench report --format json | jq '.rows[].throughput_per_second'
""")
@click.argument("results", nargs=-1)
@format_option
@output_option
@all_option
def command(results: tuple[str, ...], kind: str | None, output: str | None, everything: bool) -> None:
    """Show stored records: throughput, latency, MFU, memory, compile seconds, ledger.

    RESULTS are folders, URLs or record files; by default `results`, or TRNBENCH_RESULTS. Of a case
    measured several times on one machine the newest record is shown. A record that is not valid is
    shown with its reason; a file that cannot be read is named and passed over.
    """
    from bench.report.frame import latest
    from bench.store import open_results

    loaded = open_results(results_or_default(results), samples=False)
    records = loaded.records if everything else latest(loaded.records)
    kind = kind or format_for(output)
    if kind == "terminal":
        from bench.report.terminal import render_terminal

        if output is None:
            render_terminal(records, console(), loaded.problems)
        else:
            write(text_of(lambda out: render_terminal(records, out, loaded.problems)), output)
    elif kind == "csv":
        from bench.report.plain import to_csv

        warn_of(loaded.problems)
        write(to_csv(records), output)
    elif kind == "json":
        from bench.report.plain import to_json

        write(to_json(records, loaded.problems), output)
    else:
        from bench.report.markdown import render_markdown

        write(render_markdown(records, loaded.problems), output)
