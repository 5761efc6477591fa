"""`trnbench import`: other tools' results as records."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from bench.case import DTYPES, PUBLISHED_DTYPES
from bench.cli.choices import Pair
from bench.cli.options import json_option, results_option
from bench.errors import NOTHING_VALID, BenchError

if TYPE_CHECKING:
    from bench.exchange import Given, Imported
    from bench.store import Store

FORMATS = ("mlperf", "vllm", "optimum-benchmark", "neuronperf", "pytest-benchmark")


@click.command("import", epilog="""\b
Examples:
  vllm bench serve ... --save-result --save-detailed && trnbench import openai-*.json \\
      --instance-type inf2.xlarge --chips 1 --workload llama --size 8b --dtype bf16
  trnbench import mlperf_log_summary.txt --date 2025-04-02 --chip l4 --chips 1 --workload bert --size large
  trnbench import summary.csv
  trnbench import neuronperf.csv --date 2024-09-16 --instance-type inf1.xlarge --workload bert --size base \\
      --seq-len 128 --dtype fp32
  pytest --benchmark-json=runs.json && trnbench import runs.json --results s3://bucket/results
""")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Default: what the file's content says.")
@click.option("--chip", metavar="ID", help="The chip that did the work: see `trnbench list chips`.")
@click.option("--chips", type=int, help="How many of them were used.")
@click.option("--instance-type", metavar="TYPE", help="The instance: see `trnbench list instances`.")
@click.option("--workload", metavar="NAME", help="Our name of the model, where it is the same: `trnbench list`.")
@click.option("--size", metavar="NAME", help="Its size, with --workload.")
@click.option("--dtype", type=click.Choice((*DTYPES, *PUBLISHED_DTYPES)), help="The number format.")
@click.option("--seq-len", metavar="TOKENS", help="Tokens: 128, or prompt/output: 1024/128.")
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="When it was measured, where no file says.")
@click.option("--label", "labels", type=Pair(text=True), multiple=True, help="k=v, kept in the records.")
@results_option
@json_option
@click.pass_context
def command(ctx: click.Context, **params: Any) -> None:
    """Store other tools' results as records, for reports, prices and verdicts.

    Reads MLPerf Inference (mlperf_log_summary.txt, tables of published results), vLLM `bench serve`
    JSON, optimum-benchmark reports, NeuronPerf CSV and pytest-benchmark JSON. Each result becomes a
    record of tier "published": parity and clock were not checked here. Rates and latencies are kept
    by our definitions; what a file states by another one is converted where its parts are known,
    else unknown with the reason. The options say what no file can, and hold for all files given.

    Importing a file again changes nothing. A result or a file that cannot be read is named and
    passed over; exit 3 where nothing is left.
    """
    import json

    from bench.store import Store

    given = _given(params)
    store = Store(params["results"])
    store.check_writable()
    stored: list[str] = []
    already: list[str] = []
    problems: list[str] = []
    for file in params["files"]:
        imported = _imported(file, params["kind"], given, problems)
        for record in imported.records if imported else ():
            if store.holds(record):
                already.append(record.run_id)
            else:
                stored.append(_save(store, record))
    if params["as_json"]:
        click.echo(json.dumps({"stored": stored, "already": already, "problems": problems}))
    else:
        click.echo("\n".join([*stored, f"{len(stored)} stored, {len(already)} were there already"]))
    for problem in problems:
        click.echo(f"Passed over {problem}", err=True)
    ctx.exit(0 if stored or already else NOTHING_VALID)


def _given(params: dict[str, Any]) -> Given:
    from bench.exchange import Given

    day: datetime | None = params["day"]
    said = {name: params[name] for name in ("chip", "chips", "instance_type", "workload", "size", "dtype", "seq_len")}
    given = Given(**said, labels=dict(params["labels"]), day=day.date() if day else None)
    if given.workload:
        _name_workload(given)
    return given


def _name_workload(given: Given) -> None:
    """BenchError for a size that a workload of ours has not; a line on stderr for a name that is none of ours."""
    from bench.errors import nearest
    from bench.registry import load_workload, workload_names

    assert given.workload
    if given.workload not in workload_names():
        click.echo(f"{given.workload!r} is no workload of trnbench's: its results match only others of that name."
                   f"{nearest(given.workload, workload_names())}", err=True)
        return
    sizes = list(load_workload(given.workload).sizes)
    if given.size not in sizes:
        raise BenchError(f"Workload {given.workload} has no size {given.size!r}.{nearest(given.size or '', sizes)}",
                         fix=f"pass --size with one of {', '.join(sizes)}.")


def _imported(file: str, kind: str | None, given: Given, problems: list[str]) -> Imported | None:
    """A file's records; what gave none is added to `problems`. BenchError for a file that is not there."""
    from bench.exchange import Unusable, import_file

    try:
        with open(file, "rb") as opened:
            content = opened.read()
    except OSError as error:
        raise BenchError(f"{file} cannot be read: {error.strerror}.", fix="pass a result file.") from error
    try:
        found = import_file(content, file, given, kind)
    except Unusable as error:
        problems.append(f"{file}: {error}")
        return None
    problems += [f"{file}: {text}" for text in found.problems]
    return found


def _save(store: Store, record: Any) -> str:
    try:
        return store.save(record)
    except BenchError as error:
        raise BenchError(error.what, fix="it was imported before with other options: delete that record, or pass "
                                         "--results with another place.") from error
