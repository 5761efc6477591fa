"""`trnbench compare`: two sets of records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bench.cli.money import book_of, money_options, terms_of
from bench.cli.options import console, format_for, format_option, json_option, output_option, text_of, warn_of, write
from bench.errors import DONE, GATE_FAILED, NOTHING_VALID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.report.compare import Comparison
    from bench.report.gate import Finding
    from bench.report.money import Money
    from bench.store import Problem


@click.command("compare", epilog="""\b
Examples:
  trnbench compare results-main/ results-branch/
  trnbench compare results-main/ results-branch/ --fail-if "throughput<-5%" --fail-if "memory>10%"
  trnbench compare main/ branch/ --fail-if "usd_per_1m_inferences>+3%" --usd-per-hour 0.77
  trnbench compare s3://bucket/cpu s3://bucket/gpu -o compared.md
  trnbench compare before.json after.json --json | jq '.rows[].ratio'

\b
Exit codes: 0 every gate holds or cannot be told; 1 a gate fails; 2 wrong usage;
3 no two records are alike.
""")
@click.argument("base")
@click.argument("new")
@click.option("--fail-if", "gates", multiple=True, metavar="GATE",
              help='METRIC<PERCENT or METRIC>PERCENT, of the change from BASE to NEW: "throughput<-5%".')
@format_option
@output_option
@json_option
@money_options
@click.pass_context
def command(ctx: click.Context, base: str, new: str, gates: tuple[str, ...], kind: str | None, output: str | None,
            as_json: bool, **_: Any) -> None:
    """Hold the records of NEW against those of BASE: ratios with intervals, above 1 where NEW is better.

    BASE and NEW are folders, URLs or record files. Alike cases are compared: the same case (its newest
    valid record), else the same work on another backend or set-up where each side has it once. Every
    record left out is named with the reason.

    A gate (--fail-if) fails only where the change lies beyond the threshold and its 95 % interval
    excludes "no change". "can't tell" is no failure: the line says which difference could have been
    seen. Metrics: throughput, latency, latency_p99, ttft, tpot, memory, compile, or an exact name; of
    money usd_per_1m_inferences (images, samples, tokens) and usd_per_step, both sides priced on the
    same terms.
    """
    from bench.report.compare import compare
    from bench.report.gate import judge, parse_gate
    from bench.store import open_results

    wanted = [parse_gate(text) for text in gates]
    before, after = open_results([base]), open_results([new])
    comparison = compare(before.records, after.records)
    findings = judge(wanted, comparison, _money(ctx.params) if wanted else None)
    _print(comparison, findings, before.problems + after.problems,
           "json" if as_json else kind or format_for(output), output)
    if not comparison.rows:
        ctx.exit(NOTHING_VALID)
    ctx.exit(GATE_FAILED if any(finding.outcome == "fails" for finding in findings) else DONE)


def _money(params: dict[str, Any]) -> Money:
    from bench.report.money import Money

    return Money(terms_of(params), book_of(params))


def _print(comparison: Comparison, findings: Sequence[Finding], problems: Sequence[Problem], kind: str,
           output: str | None) -> None:
    from bench.report import comparison as view

    if kind == "json":
        write(view.to_json(comparison, findings, problems), output)
    elif kind == "md":
        write(view.render_markdown(comparison, findings, problems), output)
    elif kind == "csv":
        warn_of(problems)
        for finding in findings:
            click.echo(view.gate_line(finding), err=True)
        write(view.to_csv(comparison), output)
    elif output is None:
        view.render_terminal(comparison, console(), findings, problems)
    else:
        write(text_of(lambda out: view.render_terminal(comparison, out, findings, problems)), output)
