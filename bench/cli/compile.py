"""`trnbench compile`: fill the compilers' caches ahead, without measuring."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from bench.cli.choices import backend_of, case_options, plan_from
from bench.cli.config import config_option
from bench.cli.options import json_option
from bench.errors import DONE, INTERRUPTED, NOTHING_VALID, BenchError

if TYPE_CHECKING:
    from bench.suites import Planned


@click.command("compile")
@case_options
@click.option("--timeout", type=float, default=7200.0, show_default=True,
              help="Wall seconds after which a process counts as hung.")
@json_option
@config_option()
@click.pass_context
def command(ctx: click.Context, as_json: bool, **params: Any) -> None:
    """Compile WORKLOADS (or a suite) into a cache that is kept, and measure nothing.

    Then the same words of `run` with --compile and --backend-option cache=warm start without
    compiling: what is measured is the same, and `compile_s` of the record is a warm one. A case
    compiles in a process of its own, up to a first step. The cache is the user's own
    (~/.cache/trnbench), or `--backend-option cache=FOLDER`, which may be on a shared disk.

    On Neuron this is what takes minutes to hours, and a machine without the device cannot do it.
    AWS's own `neuron_parallel_compile COMMAND` (XLA flavour) does the same for other programs,
    several graphs at once; what a run prints under it is no measurement.

    \b
    trnbench compile bert --size large --batch-size 1,8
    trnbench run bert --size large --batch-size 1,8 --compile --backend-option cache=warm
    """
    from bench.case import Effort
    from bench.cli.progress import Progress
    from bench.runner import Session, compile_case

    planned, cache = _plan(params)
    progress = Progress(len(planned))
    session = Session(effort=Effort(timeout_s=params["timeout"]), instance_type="none", tell=progress)
    results: list[dict[str, Any]] = []
    with session.stop:
        for item in planned:
            try:
                found = compile_case(item.case, session)
            except KeyboardInterrupt:
                progress.line(f"interrupted: {item.case.label} and what comes after it are not compiled")
                break
            progress.done(f"{item.case.label}: {_told(found)}")
            results.append({"case": item.case.to_json(), "case_id": item.case.id, "status": found["status"],
                            "reason": found["reason"], "compile": found.get("compile"),
                            "phases_s": found.get("phases_s")})
    if as_json:
        click.echo(json.dumps({"cache": cache, "cases": results}))
    else:
        click.echo(f"{sum(one['status'] == 'valid' for one in results)} of {len(planned)} cases compiled; "
                   f"run them with --compile --backend-option cache={cache}")
    ctx.exit(_exit_code(results, planned))


def _plan(params: Mapping[str, Any]) -> tuple[list[Planned], str]:
    """The cases, compiling and with a cache that is kept; and that cache as the user would name it."""
    backend = backend_of(params["backend"])
    if "cache" not in backend.options:
        raise BenchError(f"Backend {backend.name!r} keeps nothing that it compiles.",
                         fix="choose a backend with an option `cache`: cpu, say.")
    given = [text for text in params["backend_options"] if text.startswith("cache=")]
    wanted = dict(params) | {"backend": backend.name}
    if not given:
        wanted["backend_options"] = (*params["backend_options"], "cache=warm")
    if params["compiling"] is None and not params["compile_mode"]:
        wanted["compiling"] = True
    planned, _ = plan_from(wanted)
    cache = str(planned[0].case.backend_options["cache"])
    if cache == "cold":
        raise BenchError("With cache=cold nothing would be kept.", fix="leave it out, or pass cache=FOLDER.")
    return planned, cache


def _told(found: Mapping[str, Any]) -> str:
    """Such as "3 graphs in 41.0 s, warm cache", or why it failed."""
    if found["status"] != "valid":
        return f"{found['status']}: {found['reason']}"
    about = found["compile"]
    if about["seconds"] is None:
        return "nothing to compile"
    graphs = f"{about['graphs']} graph{'s' if about['graphs'] != 1 else ''}"
    return f"{graphs} in {about['seconds']:.1f} s, {about.get('cache') or 'unknown'} cache"


def _exit_code(results: Sequence[Mapping[str, Any]], planned: Sequence[Planned]) -> int:
    if len(results) < len(planned):
        return INTERRUPTED
    return DONE if any(one["status"] == "valid" for one in results) else NOTHING_VALID
