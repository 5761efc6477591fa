"""The one door: `trnbench COMMAND`. A command's file is imported only when it is asked for."""

from __future__ import annotations

import importlib
from typing import Any

import click

from bench import __version__

COMMANDS = {
    "list": ("bench.cli.list", "What there is: workloads, backends, suites, chips, instances, claims."),
    "doctor": ("bench.cli.doctor", "What this machine can run, and how well it can be timed."),
    "run": ("bench.cli.run", "Measure workloads, store a record each, print a table."),
    "compile": ("bench.cli.compile", "Compile ahead: fill the cache that a later run finds warm."),
    "ab": ("bench.cli.ab", "Tell two cases apart: both warm, alternated in one run."),
    "show": ("bench.cli.show", "One record in full: ledger, parity, environment."),
    "compare": ("bench.cli.compare", "Ratios with intervals between two sets of records."),
    "report": ("bench.cli.report", "Records with their cost: terminal, md, html, csv, json or parquet."),
    "verdict": ("bench.cli.verdict", "The claims against the evidence: supported, refuted, or on which condition."),
    "export": ("bench.cli.export", "Records to other tools' formats (pytest-benchmark, csv)."),
    "import": ("bench.cli.import_", "Other tools' results into the store."),
    "price": ("bench.cli.price", "The price book: show it, set a rate of your own, refresh it from AWS."),
    "results": ("bench.cli.results", "Look after a store: compact it."),
}


class _Commands(click.Group):
    """Commands by name, each imported on use, so that `--help` costs no more than click."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]  # `list` is here the module of that command, once it was used

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[name][0]).command
        assert isinstance(command, click.Command)
        for param in command.params:  # after the option's long name, as click would take our parameter's
            if isinstance(param, click.Option) and param.envvar is None:
                option = max(param.opts, key=len).lstrip("-")
                param.envvar = f"TRNBENCH_{name}_{option}".upper().replace("-", "_")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        from bench.errors import BenchError, nearest

        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise BenchError(f"Unknown command {args[0]!r}.{nearest(args[0], [*COMMANDS])}",
                             fix="`trnbench --help` lists the commands.")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C that it does not handle itself ends it with 130, where click says 1."""
        from bench.errors import INTERRUPTED

        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\ninterrupted", err=True)
            ctx.exit(INTERRUPTED)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; a BenchError is printed, never a stack trace of ours."""
        from bench.errors import USAGE, BenchError

        try:
            return super().main(*args, **kwargs)
        except BenchError as error:
            click.echo(f"Error: {error}", err=True)
            raise SystemExit(error.exit_code) from None
        except OSError as error:
            click.echo(f"Error: {error}\n  To fix: see to the disk, the permissions or the memory that it names; "
                       "what was stored before stays.", err=True)
            raise SystemExit(USAGE) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trnbench")
def main() -> None:
    """Measure PyTorch workloads on CPU, GPU and AWS Neuron, keep records, compare them.

    First run: `trnbench run --suite smoke`. Exit codes: 0 done, 1 a gate did not hold,
    2 wrong usage, 3 nothing valid was measured, 130 interrupted (what finished is stored).
    """
