"""The options that say on what terms records are priced, shared by `report`, `verdict` and `compare`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.catalog.prices import PriceBook
    from bench.cost.terms import Terms

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = [
    click.option("--basis", metavar="BASIS", help="on-demand (default), spot, reserved-1yr, reserved-3yr, "
                 "capacity-block or user."),
    click.option("--usd-per-hour", type=float, metavar="USD", help="Your own rate for the machines that were "
                 "measured; basis user."),
    click.option("--region", help="Prices of this region. Default: the record's own, else the book's first."),
    click.option("--as-of", metavar="DATE", help="Prices as they stood on a day, e.g. 2025-05-31."),
    click.option("--attribution", type=click.Choice(("instance", "chips")), default="instance", show_default=True,
                 help="Charge the whole machine, or the share of its chips in use."),
    click.option("--prices", type=click.Path(), help="A price file of your own, instead of the one that "
                 "`trnbench price` keeps."),
]


def money_options(command: F) -> F:
    """Add --basis, --usd-per-hour, --region, --as-of, --attribution and --prices."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def terms_of(params: Mapping[str, Any]) -> Terms:
    """Return the terms that the options name; BenchError for those that cannot be."""
    from bench.cost.terms import Terms

    basis = params.get("basis") or ("user" if params.get("usd_per_hour") is not None else "on-demand")
    return Terms(basis=basis, region=params.get("region"), as_of=_day(params.get("as_of")),
                 usd_per_hour=params.get("usd_per_hour"), attribution=params.get("attribution") or "instance")


def book_of(params: Mapping[str, Any]) -> PriceBook:
    """Return the shipped prices with the user's own."""
    from bench.catalog.prices import load_book

    return load_book(params.get("prices"))


def _day(text: str | None) -> Any:
    from datetime import date

    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BenchError(f"--as-of {text!r} is no day.", fix="write it as 2025-05-31.") from None
