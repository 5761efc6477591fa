"""`trnbench run`: plan, measure, store, print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from bench.cli.choices import Pair, case_options, effort_options, plan_from
from bench.cli.config import config_option
from bench.errors import DONE, INTERRUPTED, NOTHING_VALID, USAGE, BenchError

if TYPE_CHECKING:
    from bench.case import Effort
    from bench.cli.progress import Progress
    from bench.record import Record
    from bench.store import Store
    from bench.suites import Planned


@click.command("run")
@case_options
@effort_options(None, None)
@click.option("--instance-type", help="The cloud instance this is, e.g. trn2.48xlarge, for the records. Default: the "
              "cloud is asked; `none` asks nobody.")
@click.option("--label", "labels", type=Pair(text=True), multiple=True, help="k=v, kept in the records.")
@click.option("--results", default="results", show_default=True, envvar="TRNBENCH_RESULTS",
              help="Where records go: a folder, or a URL such as s3://bucket/results.")
@click.option("--dry-run", is_flag=True, help="Say what would run, for how long, and what cannot; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else there.")
@config_option()
@click.pass_context
def command(ctx: click.Context, **params: Any) -> None:
    """Measure WORKLOADS (or a suite), store a record for each case, print a table.

    Every case runs in fresh processes, its output checked against a float32 reference. What `auto`
    leaves open (threads, compiler, layout) is decided by a short trial and recorded. Options also
    stand in a YAML file (--config) or in variables: TRNBENCH_RUN_BATCH_SIZE=8.

    \b
    trnbench run --suite quick
    trnbench run bert --size base,large --batch-size 1,8,32 --dtype bf16
    trnbench run gpt2 --option new_tokens=128 --weights ./my-gpt2
    trnbench run --workload-file my_model.py --dry-run
    """
    from bench.case import Effort
    from bench.store import Store

    planned, suggested = plan_from(params)
    wanted = {key: params[key] for key in ("repeats", "max_seconds") if params[key] is not None}
    effort = Effort(**{**suggested, **wanted, "timeout_s": params["timeout"]})
    if params["dry_run"]:
        _say_plan(planned, effort, as_json=params["as_json"])
        return
    store = Store(params["results"])
    store.check_writable()
    records, code = _measure(planned, effort, params, store)
    _print(records, as_json=params["as_json"])
    ctx.exit(code)


def _measure(planned: Sequence[Planned], effort: Effort, params: Mapping[str, Any],
             store: Store) -> tuple[list[Record], int]:
    """Run every case in turn and store its record at once; return the records and the exit code.

    Ctrl-C or a record that cannot be stored ends the run; what was not run is named.
    """
    from bench.cli.progress import Progress
    from bench.runner import Interrupted, Session, run_case
    from bench.scaling import newest_in

    progress = Progress(len(planned))
    session = Session(effort=effort, labels=dict(params["labels"]),
                      instance_type=params["instance_type"], tell=progress)
    session.find = newest_in(store, session.machine["name"])
    records: list[Record] = []
    kept = True
    with session.stop as stop:
        for item in planned:
            if stop.wanted or not kept:
                progress.line(f"not run: {item.case.label}")
                continue
            try:
                records.append(run_case(item.case, session, item.refused))
            except Interrupted as stopped:
                records.append(stopped.record)
            kept = _keep(records[-1], store, progress)
    if not kept:
        return records, USAGE
    if len(records) < len(planned) or records[-1].status == "interrupted":
        return records, INTERRUPTED
    return records, DONE if any(record.status == "valid" for record in records) else NOTHING_VALID


def _keep(record: Record, store: Store, progress: Progress) -> bool:
    """Store a record and say how it went; False where it could not be stored: then its text is on stderr."""
    try:
        path = store.save(record)
    except BenchError as error:
        click.echo(f"Error: {error}\nThe record itself, so that it is not lost:\n{record.dumps()}", err=True, nl=False)
        return False
    from bench.report.frame import main_metric

    found = main_metric(record) if record.status == "valid" else None
    told = f"{found.value:.4g} {found.unit}" if found and found.value is not None else "; ".join(record.reasons)
    progress.done(f"{record.case.label}: {record.status}: {told}  {path}")
    for text in _choices(record):
        progress.line(f"      {text}")
    return True


def _choices(record: Record) -> list[str]:
    """What `auto` decided, for the eyes of who runs it."""
    trials, notes = record.tuning.get("trials", []), record.tuning.get("notes", [])
    if not any("step_ns" in trial for trial in trials):
        return [*notes]
    settings = ", ".join(f"{key}={value}" for key, value in record.settings.items())
    return [f"auto chose {settings} ({len(trials)} tried)", *notes]


def _say_plan(planned: Sequence[Planned], effort: Effort, *, as_json: bool) -> None:
    """Print the cases, why any is impossible, and the longest that the possible ones can take."""
    import json

    possible = [item for item in planned if item.refused is None]
    children = len(possible) * (effort.repeats + 1)  # the scout is one more
    at_most = {"timed_s": len(possible) * effort.repeats * effort.max_seconds, "wall_s": children * effort.timeout_s}
    if as_json:
        click.echo(json.dumps({"cases": [{"case": item.case.to_json(), "case_id": item.case.id,
                                          "refused": item.refused} for item in planned], "at_most": at_most}))
        return
    for item in planned:
        click.echo(f"{item.case.label}" + (f"  IMPOSSIBLE: {item.refused}" if item.refused else ""))
    click.echo(f"{len(possible)} of {len(planned)} cases would run, in {children} processes: "
               f"timed for at most {at_most['timed_s'] / 60:.1f} min (preparing and warming up come on top), "
               f"stopped after {at_most['wall_s'] / 60:.0f} min by --timeout at the very latest.")


def _print(records: Sequence[Record], *, as_json: bool) -> None:
    if as_json:
        from bench.report.plain import to_json

        click.echo(to_json(records), nl=False)
        return
    from rich.console import Console

    from bench.report.terminal import render_terminal

    render_terminal(records, Console())
