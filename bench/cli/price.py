"""`trnbench price`: what the price book has, prices of one's own, live prices of AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from bench.catalog.prices import BASES
from bench.catalog.refresh import LIVE_BASES
from bench.cli.options import console, json_option
from bench.errors import BenchError, nearest

if TYPE_CHECKING:
    from bench.catalog.instances import Instance
    from bench.catalog.own import Kept, OnPremises
    from bench.catalog.prices import Price, PriceBook

LEFT_OUT_FIRST = ("term", "chips", "age", "USD/chip-h", "source")
NUMERIC = frozenset(("USD/h", "USD/chip-h", "age", "before"))

day_option = click.DateTime(["%Y-%m-%d"])


@click.group("price", epilog="""\b
Examples:
  trnbench price show inf2.xlarge g6.xlarge
  trnbench price set trn1.32xlarge --usd-per-hour 11.20 --note "private offer"
  trnbench price refresh --region us-east-1
""")
def command() -> None:
    """The price book: dated rates with basis, region and source; your own beside the shipped ones."""


@command.command("show", epilog="""\b
Examples:
  trnbench price show inf2.xlarge g6.xlarge
  trnbench price show --chip h100-sxm --basis spot
  trnbench price show p4d.24xlarge --history
  trnbench price show trn1.32xlarge --as-of 2025-05-31 --json
""")
@click.argument("instances", nargs=-1)
@click.option("--region", help="Only this region.")
@click.option("--basis", type=click.Choice(BASES), help="Only this basis.")
@click.option("--chip", help="Only instances with this chip.")
@click.option("--as-of", type=day_option, metavar="DATE", help="The prices of that day instead of today's.")
@click.option("--history", is_flag=True, help="Every dated price, not the newest alone.")
@click.option("--prices", type=click.Path(), help="Your own price file. Default: TRNBENCH_PRICES, or that of "
                                                  "`trnbench price set`.")
@json_option
def show(instances: tuple[str, ...], region: str | None, basis: str | None, chip: str | None,
         as_of: datetime | None, history: bool, prices: str | None, as_json: bool) -> None:
    """Show prices of INSTANCES, or all: per hour and chip-hour, basis, region, day, age, source.

    Of each instance, basis and region the newest price. A price older than 90 days (30 for spot and
    capacity blocks) is marked stale.
    """
    from bench.catalog.prices import load_book

    book, day = load_book(prices), as_of.date() if as_of else date.today()
    names = _instances_of(instances, chip)
    found = [price for price in book.prices if price.instance_type in names and basis in (None, price.basis)
             and region in (None, price.region)]
    rows = list(_history(found, as_of and day)) if history else list(_newest(book, found, day))
    shown = [_row(price, day) for price in rows]
    missing = [name for name in instances if name not in {price.instance_type for price in rows}]
    reasons = {name: book.quote(name, basis or "on-demand", region=region, as_of=day).reason or "" for name in missing}
    if as_json:
        click.echo(json.dumps({"as_of": day.isoformat(), "prices": shown, "unpriced": reasons}))
        return
    if not shown:
        told = "; ".join(reasons.values()) or "The book has no such price"
        raise BenchError(f"{told}.", fix="ask for less: `trnbench price show` shows all there are.")
    _print_rows(shown)
    _print_list("No price", list(reasons.values()))


@command.command("set", epilog="""\b
Examples:
  trnbench price set trn1.32xlarge --usd-per-hour 11.20 --note "private offer"
  trnbench price set p5.48xlarge --usd-per-hour 40 --region eu-north-1 --as-of 2026-10-01
  trnbench price set rack-1 --chip h100-sxm --chips 8 --on-prem --capex-usd 280000 --amortise-years 4 \\
      --power-kw 8 --usd-per-kwh 0.12 --pue 1.4 --utilisation 0.6 --opex-usd-per-year 20000
""")
@click.argument("instance")
@click.option("--usd-per-hour", type=float, help="What an hour of the whole instance costs you.")
@click.option("--basis", type=click.Choice(BASES), default="user", show_default=True)
@click.option("--region", help="Default: us-east-1 for AWS, on-premises with --on-prem.")
@click.option("--as-of", type=day_option, metavar="DATE", help="The day from which it holds. Default: today.")
@click.option("--note", default="", help="Kept with the price, and shown where it is used.")
@click.option("--chip", help="For a machine of your own: its chip, see `trnbench list chips`.")
@click.option("--chips", type=click.IntRange(min=1), help="For a machine of your own: how many of that chip.")
@click.option("--on-prem", is_flag=True, help="Work the rate out from the options below.")
@click.option("--capex-usd", type=float, help="Its purchase, with all that it needs to run.")
@click.option("--amortise-years", type=float, help="Years over which the purchase is written off.")
@click.option("--power-kw", type=float, help="What it draws while it works.")
@click.option("--usd-per-kwh", type=float, help="What a kWh costs.")
@click.option("--pue", type=float, help="Power of the building over that of its machines; 1 counts no cooling.")
@click.option("--utilisation", type=float, help="The share of all hours in which it works, 0 to 1.")
@click.option("--opex-usd-per-year", type=float, help="Space, staff, maintenance. Default: none.")
@json_option
def set_(instance: str, usd_per_hour: float | None, basis: str, region: str | None, as_of: datetime | None,
         note: str, chip: str | None, chips: int | None, on_prem: bool, as_json: bool, **costs: float | None) -> None:
    """Add a price of your own for INSTANCE: negotiated, or of a machine on your premises.

    It goes into your own price file (TRNBENCH_PRICES, or trnbench/prices.csv among your settings) and
    is used like a shipped one with `--basis user`, or whichever basis it was set for.
    """
    from bench.catalog.own import append_instance, append_prices
    from bench.catalog.prices import Price

    name = " ".join(instance.split())
    machine = _own_machine(name, chip, chips, on_prem)
    if on_prem:
        owned = _on_premises(usd_per_hour, costs)
        usd_per_hour, note = owned.usd_per_hour, "; ".join(filter(None, (note, owned.note)))
    elif given := [option for option, value in costs.items() if value is not None]:
        raise BenchError(f"{_flags(given)} belongs to --on-prem.", fix="add --on-prem, or leave it out.")
    if usd_per_hour is None or not 0 < usd_per_hour < float("inf"):
        raise BenchError(f"A price is a number above 0, got {usd_per_hour}.",
                         fix="pass --usd-per-hour, or --on-prem with what the machine costs.")
    price = Price(provider=machine.provider, instance_type=name, region=region or _region_for(machine, on_prem),
                  basis=basis, usd_per_hour=usd_per_hour, as_of=as_of.date() if as_of else date.today(),
                  source="set by the user", note=note, own=True)
    if machine.provider == OWN:
        append_instance(machine)
    kept = append_prices([price])
    for before, _ in kept.clashing:
        raise BenchError(f"{before.id} stands in {kept.path} with {before.usd_per_hour:g} USD per hour.",
                         fix="give the new one its own day with --as-of, or mend that line of the file.")
    if as_json:
        click.echo(json.dumps({"file": str(kept.path), "price": _facts(price), "written": bool(kept.written)}))
    else:
        click.echo(f"{price.id}: {price.usd_per_hour:.6g} USD per hour, "
                   f"{'kept in' if kept.written else 'was already in'} {kept.path}")


@command.command("refresh", epilog="""\b
Examples:
  trnbench price refresh
  trnbench price refresh --basis spot --region us-east-1 --region us-west-2
  trnbench price refresh --instance trn1.32xlarge --json
""")
@click.option("--provider", type=click.Choice(["aws"]), default="aws", show_default=True)
@click.option("--region", "regions", multiple=True, help="Default: the regions that the book has prices of.")
@click.option("--instance", "instances", multiple=True, help="Default: the instances that the book has prices of.")
@click.option("--basis", "bases", type=click.Choice(LIVE_BASES), multiple=True, help="Default: all of them.")
@json_option
def refresh(provider: str, regions: tuple[str, ...], instances: tuple[str, ...], bases: tuple[str, ...],
            as_json: bool) -> None:
    """Read today's prices from AWS into your own price file. The shipped ones stay as they are.

    With the credentials that the aws command would use. Of the price list, spot and capacity blocks,
    each is kept whole or, where a call fails, not at all. A price that is there for today stays.
    """
    from bench.catalog.own import append_prices, book_so_far
    from bench.catalog.refresh import CallFailed, aws_clients, check_regions, jumped_from, read_live, wanted

    book, now = book_so_far(), datetime.now().astimezone()
    _check_live_instances(instances, provider)
    try:
        clients = aws_clients()
        check_regions(regions)
    except BenchError as error:
        raise BenchError(f"{error.what} {_still_used(book, now.date())}", fix=error.fix) from error
    wants = wanted(book, bases or LIVE_BASES, regions=regions, instance_types=instances)
    whole: list[str] = []
    failed: list[str] = []
    left_out: list[str] = []
    kept: list[Kept] = []
    for names, found in read_live(wants, clients, now):
        if isinstance(found, CallFailed):
            failed.append(f"{', '.join(names)}: {found}")
            continue
        kept.append(append_prices(found.rows))
        whole += names
        left_out += found.left_out
        click.echo(f"{', '.join(names)}: {len(found.rows)} prices read", err=True)
    written = [(price, jumped_from(price, book)) for one in kept for price in one.written]
    if as_json:
        click.echo(json.dumps(_document(written, kept, left_out, failed)))
    else:
        _print_written(written, kept, left_out)
    if failed:
        told = f"{len(written)} prices of {', '.join(whole)} were written" if whole else "Nothing was written"
        raise BenchError(f"Not all prices could be read: {'; '.join(failed)}. {told}. {_still_used(book, now.date())}",
                         fix="see to what AWS says and run it again: prices written today stay as they are.")


OWN = "own"
"""The provider of a user's own machines."""


def _instances_of(named: Sequence[str], chip: str | None) -> set[str]:
    """The types to show; BenchError with the nearest ones for a name that nobody knows."""
    from bench.catalog.chips import chip as chip_of
    from bench.catalog.instances import instance, instances

    found = [instance(name) for name in named] or instances()
    wanted = chip and chip_of(chip).id
    return {one.type for one in found if wanted in (None, one.chip)}


def _newest(book: PriceBook, prices: Sequence[Price], day: date) -> Iterator[Price]:
    """The price in force of each instance, basis and region."""
    for name, basis, region in dict.fromkeys((p.instance_type, p.basis, p.region) for p in _in_order(prices)):
        if price := book.quote(name, basis, region=region, as_of=day).price:
            yield price


def _history(prices: Sequence[Price], day: date | None) -> Iterator[Price]:
    return (price for price in _in_order(prices) if day is None or price.as_of <= day)


def _in_order(prices: Sequence[Price]) -> list[Price]:
    return sorted(prices, key=lambda p: (p.provider, p.instance_type, BASES.index(p.basis), p.region, p.as_of))


def _row(price: Price, day: date) -> dict[str, Any]:
    """All that is told of a price; its age and staleness are those at `day`."""
    from bench.catalog.instances import instance
    from bench.catalog.prices import is_stale

    machine = instance(price.instance_type)
    return _facts(price) | {
        "chip": machine.chip, "chips": machine.chips or None,
        "usd_per_chip_hour": price.usd_per_hour / machine.chips if machine.chips else None,
        "age_days": (day - price.as_of).days, "stale": is_stale(price, day), "exact_day": price.exact_day}


def _facts(price: Price) -> dict[str, Any]:
    return {"id": price.id, "provider": price.provider, "instance_type": price.instance_type, "region": price.region,
            "basis": price.basis, "term": price.term, "usd_per_hour": price.usd_per_hour,
            "as_of": price.as_of.isoformat(), "own": price.own, "source": price.source, "note": price.note}


def _print_rows(rows: Sequence[dict[str, Any]]) -> None:
    from bench.report.terminal import print_table

    sources = list(dict.fromkeys(row["source"] for row in rows))
    table = [_cells(row, sources.index(row["source"]) + 1) for row in rows]
    told = [heading for heading in table[0] if any(cells[heading] for cells in table)]
    print_table(console(), [{heading: cells[heading] for heading in told} for cells in table], LEFT_OUT_FIRST,
                numeric=NUMERIC)
    _print_list("Notes", list(dict.fromkeys(f"{row['id']}: {row['note']}" for row in rows if row["note"])))
    _print_list("Sources", [f"[{number}] {text}" for number, text in enumerate(sources, 1)])


def _cells(row: dict[str, Any], source: int) -> dict[str, str]:
    from bench.report.text import number

    if row["age_days"] < 0:
        age = f"in {-row['age_days']} d"
    else:
        age = f"{'' if row['exact_day'] else '≤ '}{row['age_days']} d"
    return {"instance": row["instance_type"], "chips": f"{row['chips']} x {row['chip']}" if row["chips"] else "",
            "basis": row["basis"], "region": row["region"], "USD/h": f"{row['usd_per_hour']:.6g}",
            "USD/chip-h": number(row["usd_per_chip_hour"]), "as of": row["as_of"], "age": age,
            "mark": " ".join(mark for mark in ("stale", "own") if row[mark]), "term": row["term"],
            "source": f"[{source}]"}


def _print_list(title: str, lines: Sequence[str]) -> None:
    from bench.report.terminal import print_list
    from bench.report.text import plain

    print_list(console(), title, [plain(line) for line in lines])


Written = Sequence[tuple["Price", "Price | None"]]
"""Rows that were written, each with the price that it jumped away from, if it did."""


def _document(written: Written, kept: Sequence[Kept], left_out: Sequence[str], failed: Sequence[str]) -> dict[str, Any]:
    """What a refresh did, for machines."""
    return {"file": str(kept[0].path) if kept else None, "failed": failed, "left_out": left_out, "stays": _stays(kept),
            "written": [_facts(price) | {"jumped_from": before.usd_per_hour if before else None}
                        for price, before in written],
            "there_already": [price.id for one in kept for price in one.there]}


def _stays(kept: Sequence[Kept]) -> list[str]:
    return [f"{before.id} stays at {before.usd_per_hour:g}, now {price.usd_per_hour:g}"
            for one in kept for before, price in one.clashing]


def _print_written(written: Written, kept: Sequence[Kept], left_out: Sequence[str]) -> None:
    from bench.report.terminal import print_table

    if written:
        print_table(console(), [
            {"instance": price.instance_type, "basis": price.basis, "region": price.region,
             "USD/h": f"{price.usd_per_hour:.6g}", "before": f"{before.usd_per_hour:.6g}" if before else "",
             "mark": f"{price.usd_per_hour / before.usd_per_hour:.2g} times that of {before.as_of}" if before else ""}
            for price, before in written], (), numeric=NUMERIC)
    there = sum(len(one.there) for one in kept)
    if kept:
        click.echo(f"{len(written)} prices written to {kept[0].path}, {there} were there already")
    _print_list("Kept earlier today, and left as it is", _stays(kept))
    _print_list("No price", left_out)


def _check_live_instances(names: Sequence[str], provider: str) -> None:
    from bench.catalog.instances import instance

    for name in names:
        if instance(name).provider != provider:
            raise BenchError(f"{name} is not of {provider}.",
                             fix=f"`trnbench price set {name}` takes its price by hand.")


def _still_used(book: PriceBook, day: date) -> str:
    """What goes on being used where nothing new came."""
    shipped = max((price.as_of for price in book.prices if not price.own and price.as_of <= day), default=None)
    if shipped is None:
        return "The shipped prices are all of later days."
    return f"The shipped prices go on being used: newest of {shipped}, {(day - shipped).days} days old."


def _own_machine(name: str, chip: str | None, chips: int | None, on_prem: bool) -> Instance:
    """The instance that is priced: of the catalog, or a machine of the user's own; BenchError for neither."""
    from bench.catalog.chips import chip as chip_of
    from bench.catalog.instances import Instance, instances, known_instance

    known = known_instance(name)
    if known is None and chip is None and not on_prem:
        raise BenchError(f"Unknown instance {name!r}.{nearest(name, [one.type for one in instances()])}",
                         fix="`trnbench list instances` lists them; a machine of your own has --chip l4 --chips 1, "
                             "say, or --on-prem.")
    if (chip is None) != (chips is None):
        raise BenchError("--chip and --chips belong together.", fix="pass both: --chip h100-sxm --chips 8.")
    if known and chip and (known.chip, known.chips) != (chip, chips):
        raise BenchError(f"{name} has {known.chips} x {known.chip or 'no chip'}.",
                         fix="leave --chip and --chips out, or choose another name for a machine of your own.")
    return known or Instance(
        provider=OWN, type=name, vcpus=None, memory_gib=None, chip=chip and chip_of(chip).id, chips=chips or 0,
        cores_per_chip=None, accelerator_memory_gib=None, network_gbps=None, as_of=date.today(),
        source="set by the user", notes="")


def _region_for(machine: Instance, on_prem: bool) -> str:
    if on_prem or machine.provider == OWN:
        return "on-premises"
    if machine.provider == "aws":
        return "us-east-1"
    raise BenchError(f"In which region of {machine.provider} does that price hold?", fix="pass --region.")


def _on_premises(usd_per_hour: float | None, costs: dict[str, float | None]) -> OnPremises:
    from bench.catalog.own import OnPremises

    if usd_per_hour is not None:
        raise BenchError("--on-prem works the rate out, and --usd-per-hour gives it.", fix="pass one of the two.")
    given = {name: value for name, value in costs.items() if value is not None}
    if missing := [name for name in costs if name not in given and name != "opex_usd_per_year"]:
        raise BenchError(f"--on-prem needs {_flags(missing)} too.",
                         fix="pass what you know of it; --pue 1 counts no cooling, --utilisation 1 no idle hour.")
    try:
        return OnPremises(**given)
    except ValueError as error:
        raise BenchError(f"{error}.", fix="mend that option.") from error


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)
