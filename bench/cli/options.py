"""Options that several commands share, and the two ways out: a console, and text to stdout or a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench.errors import BenchError

if TYPE_CHECKING:
    from rich.console import Console

    from bench.store import Problem

F = TypeVar("F", bound=Callable[..., Any])

RESULTS = "results"
FORMATS = ("terminal", "md", "csv", "json")


def results_option(command: F) -> F:
    """Add --results: where records are, by default `results` here or TRNBENCH_RESULTS."""
    return click.option("--results", default=RESULTS, show_default=True, envvar="TRNBENCH_RESULTS",
                        help="Where records are: a folder, or a URL such as s3://bucket/results.")(command)


def json_option(command: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True,
                        help="One JSON document on stdout and nothing else there.")(command)


def all_option(command: F) -> F:
    """Add --all."""
    return click.option("--all", "everything", is_flag=True,
                        help="Every run of a case, not its newest alone.")(command)


def format_option(command: F) -> F:
    """Add --format, None where it was not given: see `format_for`."""
    return click.option("--format", "kind", type=click.Choice(FORMATS),
                        help="Default: what the ending of --output says, else terminal.")(command)


def format_for(output: str | None) -> str:
    """The format that a file's ending asks for."""
    ending = (output or "").rpartition(".")[2]
    return ending if ending in FORMATS else "terminal"


def output_option(command: F) -> F:
    """Add -o/--output."""
    return click.option("-o", "--output", type=click.Path(dir_okay=False),
                        help="Write to this file instead of stdout.")(command)


def results_or_default(paths: Sequence[str]) -> list[str]:
    """The paths given, else TRNBENCH_RESULTS, else `results`."""
    import os

    return list(paths) or [os.environ.get("TRNBENCH_RESULTS") or RESULTS]


def console() -> Console:
    """A console on stdout that no character of a record can break."""
    from rich.console import Console

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    return Console()


def text_of(render: Callable[[Console], None]) -> str:
    """What a rendering prints, as plain text."""
    import io

    from rich.console import Console

    out = io.StringIO()
    render(Console(file=out))
    return out.getvalue()


def write(content: str | Iterable[str], output: str | None) -> None:
    """Print a text that ends in a newline (or its lines), or write it to a file; BenchError where that fails."""
    lines = [content] if isinstance(content, str) else content
    if output is None:
        sys.stdout.writelines(lines)
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as error:
        raise BenchError(f"{output} could not be written: {error.strerror}.",
                         fix="pass -o with a file that you may write.") from error
    click.echo(f"Wrote {output}", err=True)


def warn_of(problems: Sequence[Problem]) -> None:
    """Name on stderr the files that were passed over, for formats that have no place for it."""
    for problem in problems:
        click.echo(f"Passed over {problem.path}: {problem.reason}", err=True)
