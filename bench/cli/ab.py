"""`trnbench ab`: two cases alternated, so that what disturbs the machine disturbs both alike."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from bench.cli.choices import case_options, effort_options, plan_from
from bench.errors import INTERRUPTED, NOTHING_VALID, BenchError

if TYPE_CHECKING:
    from bench.case import Case


@click.command(context_settings={"help_option_names": []})
@case_options
def _side(**params: Any) -> dict[str, Any]:
    """One side's words, read as `run` reads its own."""
    return params


@click.command("ab")
@click.argument("a")
@click.argument("b")
@effort_options(None, 60.0)
@click.option("--margin", type=float, default=0.01, show_default=True,
              help="Differences up to this share count as none: 0.01 is 1 %.")
@click.option("--separate", is_flag=True, help="Processes of their own, alternated A B B A, in place of one for both.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else there.")
@click.pass_context
def command(ctx: click.Context, a: str, b: str, repeats: int | None, max_seconds: float, timeout: float,
            margin: float, separate: bool, as_json: bool) -> None:
    """Tell A and B apart: each the words of `run` in quotes, or a workload file.

    Both are kept warm in one process and timed in pairs, the order random within each, until the
    median of the pair ratios is clearly beyond the margin, clearly within it, or time is up.
    Looking again and again is paid for: a false alarm has a chance of 5 % at most in all. One
    thread and no compiler unless said otherwise: here two things are told apart, not made fast.

    \b
    trnbench ab "bert --size base" "bert --size base --option ..." --max-seconds 120
    trnbench ab "bert --dtype fp32" "bert --dtype bf16"
    trnbench ab model_before.py model_after.py
    """
    from bench.case import Effort

    cases = [_case(text) for text in (a, b)]
    effort = Effort(repeats=3 if repeats is None else repeats, max_seconds=max_seconds, timeout_s=timeout)
    if not 0 < margin < 1:
        raise BenchError(f"--margin must lie between 0 and 1, got {margin}.", fix="pass 0.01 for 1 %.")
    from bench.cli.progress import Progress
    from bench.pairing import compare_cases

    try:
        result = compare_cases(cases, effort, margin=margin, separate=separate, tell=(progress := Progress(1)))
    except KeyboardInterrupt:
        progress.line("interrupted: no answer")
        ctx.exit(INTERRUPTED)
    progress.line(f"{result['status']} after {result.get('pairs', 0)} pairs")
    if as_json:
        click.echo(json.dumps(result))
    else:
        for line in _told(cases, result):
            click.echo(line)
    ctx.exit(0 if result["status"] == "valid" else NOTHING_VALID)


def _case(text: str) -> Case:
    """One side's case; BenchError where the words make none, or several."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise BenchError(f"{text!r} cannot be read as words: {error}.", fix="close the quotation.") from None
    if words and words[0].endswith(".py"):
        words = ["--workload-file", *words]
    context = _side.make_context("ab side", words, resilient_parsing=False)
    planned, _ = plan_from(context.params)
    if len(planned) != 1:
        raise BenchError(f"{text!r} makes {len(planned)} cases; a side is one.", fix="give one value to each option.")
    if planned[0].refused:
        raise BenchError(f"{text!r} is impossible here: {planned[0].refused}", fix="choose another case.")
    case = planned[0].case
    return dataclasses.replace(case, threads=1 if case.threads == "auto" else case.threads,
                               compile="off" if case.compile == "auto" else case.compile)


def _told(cases: Sequence[Case], result: dict[str, Any]) -> list[str]:
    lines = [f"{side}  {case.label} on {case.backend}" for side, case in zip("AB", cases, strict=True)]
    if result["status"] != "valid":
        return [*lines, f"{result['status']}: {'; '.join(result['reasons'])}"]
    ratio = result["ratio"]
    bounds = "" if ratio["low"] is None else f" [{ratio['low']:.4f}, {ratio['high']:.4f}]"
    lines.append(f"B takes {ratio['value']:.4f}{bounds} times A's time a {result['per']}: {result['answer']} "
                 f"({result['pairs']} pairs, {result['method']})")
    return lines + [f"warning: {text}" for text in result["warnings"]]
