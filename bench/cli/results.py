"""`trnbench results`: what can be done with a store of records as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import json_option, results_or_default
from bench.errors import BenchError, nearest

if TYPE_CHECKING:
    from bench.store.compact import Compaction


class _Group(click.Group):
    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise BenchError(f"Unknown command 'results {args[0]}'.{nearest(args[0], list(self.commands))}",
                             fix="`trnbench results --help` lists the commands.")
        return super().resolve_command(ctx, args)


@click.group("results", cls=_Group, epilog="""\b
Example:
  trnbench results compact
""")
def command() -> None:
    """Look after stored records."""


@command.command("compact", epilog="""\b
Examples:
  trnbench results compact
  trnbench results compact results/ --remove-json
  trnbench results compact s3://bucket/results -o archive/
""")
@click.argument("results", required=False)
@click.option("--keep-json/--remove-json", default=True, show_default=True,
              help="Whether the JSON files stay once their records were read back from Parquet.")
@click.option("-o", "--output", "into", metavar="DIR", help="Write the Parquet files to this folder or URL.")
@json_option
def compact(results: str | None, keep_json: bool, into: str | None, as_json: bool) -> None:
    """Gather many records in few Parquet files, and lose nothing.

    RESULTS is a folder or a URL; by default `results`, or TRNBENCH_RESULTS. Every command reads compacted
    records as it reads JSON, and a record that is in both counts once. Each record's JSON text is kept byte
    for byte. With --remove-json a JSON file is removed only after its text was read back from Parquet and
    was the same; if the command is interrupted, run it again. A file that holds no record is named and left.
    Needs pyarrow: pip install 'trnbench[report]'.
    """
    import json
    from dataclasses import asdict

    from bench.cli.progress import Progress
    from bench.store.compact import compact

    (location,) = results_or_default([results] if results else [])
    done = compact(location, into=into, remove_json=not keep_json, tell=Progress(0).line)
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        click.echo("\n".join([*done.written, _summary(done, keep_json)]))
    for problem in done.problems:
        click.echo(f"Left as it is {problem.path}: {problem.reason}", err=True)


def _summary(done: Compaction, keep_json: bool) -> str:
    parts = [f"{done.records:,} records compacted"]
    if done.records:
        parts.append(f"{done.json_bytes / 1e6:,.1f} MB of JSON in {done.parquet_bytes / 1e6:,.1f} MB")
    if done.already:
        parts.append(f"{done.already:,} JSON files were held already")
    if not keep_json:
        parts.append(f"{done.removed:,} JSON files removed")
    return "; ".join(parts) + "."
