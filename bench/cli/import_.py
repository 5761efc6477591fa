"""`trnbench import`: other tools' results as records."""

from __future__ import annotations

import click

from bench.cli.options import json_option, results_option
from bench.errors import NOTHING_VALID, BenchError


@click.command("import", epilog="""\b
Examples:
  pytest --benchmark-json=runs.json && trnbench import --format pytest-benchmark runs.json
  trnbench import --format pytest-benchmark .benchmarks/*/0001_main.json --results s3://bucket/results
""")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--format", "kind", type=click.Choice(("pytest-benchmark",)), required=True)
@results_option
@json_option
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], kind: str, results: str, as_json: bool) -> None:
    """Store other tools' results as records.

    pytest-benchmark: a benchmark becomes a record of tier "published", as its parity and clock were
    not checked; one that `trnbench export` wrote becomes the record it was. Importing a file again
    changes nothing. A benchmark that cannot be read is named and passed over.
    """
    import json

    from bench.report.pytest_benchmark import import_document
    from bench.store import Store

    store = Store(results)
    store.check_writable()
    stored, already, problems = [], [], []
    for file in files:
        records, wrong = import_document(_read(file))
        problems += [f"{file}: {text}" for text in wrong]
        for record in records:
            if store.holds(record):
                already.append(record.run_id)
            else:
                stored.append(store.save(record))
    if as_json:
        click.echo(json.dumps({"stored": stored, "already": already, "problems": problems}))
    else:
        click.echo("\n".join([*stored, f"{len(stored)} stored, {len(already)} were there already"]))
    for problem in problems:
        click.echo(f"Passed over {problem}", err=True)
    ctx.exit(0 if stored or already else NOTHING_VALID)


def _read(file: str) -> object:
    from bench.report.pytest_benchmark import parse

    try:
        with open(file, encoding="utf-8") as opened:
            return parse(opened.read())
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{file} cannot be read: {error}.", fix="pass a JSON file of pytest-benchmark's.") from error
    except BenchError as error:
        raise BenchError(f"{file}: {error.what}", fix=error.fix) from error
