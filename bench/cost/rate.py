"""What an hour of a record's machine costs: one rate with its price, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from bench.catalog.instances import Instance, hosts_for, known_instance, largest_hosts
from bench.catalog.prices import PriceBook, Quote
from bench.cost.terms import Terms
from bench.errors import BenchError
from bench.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """USD per hour of all that a record ran on. None: not known, and `reason` says why.

    `usd_per_hour` is what is charged under the terms' attribution, `whole_usd_per_hour` the whole
    bill; `share` (0-1) is the part of the chips that was used, None where that is not known.
    `assumption`: what was taken for granted about which machine it was. `price_id`: the row of the
    price book; `stale`: it is too old to be relied on.
    """

    basis: str
    usd_per_hour: float | None = None
    whole_usd_per_hour: float | None = None
    share: float | None = None
    attribution: str = "instance"
    region: str | None = None
    price_id: str | None = None
    price_as_of: str | None = None
    stale: bool = False
    provider: str | None = None
    instance_type: str | None = None
    instances: int | None = None
    chips_used: int | None = None
    chips_billed: int | None = None
    assumption: str | None = None
    notes: tuple[str, ...] = ()
    reason: str | None = None


def rate(record: Record, terms: Terms, book: PriceBook) -> Rate:
    """Return what an hour of a record's machines costs under the terms.

    A record of a named instance pays that instance's price. A result of chips without an instance
    ("1 GPU") is priced as the same share of the smallest host with that chip that has a price;
    `assumption` says so. Emulated devices cost nothing that could be compared, and have no rate.
    """
    bare = Rate(basis=terms.basis, attribution=terms.attribution)
    if record.tier == "emulated":
        return replace(bare, reason="emulated: no such device is sold")
    facts = record.machine.get("instance") or {}
    used = record.device.get("chips") if record.device.get("chip") else None
    if terms.usd_per_hour is not None:
        return _own_rate(bare, record, terms.usd_per_hour, facts, used)
    if facts.get("type"):
        return _of_instance(bare, facts, used, terms, book)
    if record.device.get("chip") and used:
        return _of_chips(bare, str(record.device["chip"]), facts, used, terms, book)
    return replace(bare, reason=_no_machine(record, facts))


def _own_rate(bare: Rate, record: Record, usd_per_hour: float, facts: dict[str, Any], used: int | None) -> Rate:
    """The user's rate is of the machine that was measured here, not of what others published."""
    if record.source:
        return replace(bare, reason="--usd-per-hour prices measured records alone, and this result is published: "
                                    "`trnbench price set` gives an instance a price of your own")
    known = known_instance(str(facts.get("type") or ""))
    count = int(facts.get("count") or 1)
    return _charged(replace(bare, price_id="--usd-per-hour", instance_type=facts.get("type"), instances=count,
                            provider=known.provider if known else None, chips_used=used),
                    usd_per_hour, count, known.chips if known else None)


def _of_instance(bare: Rate, facts: dict[str, Any], used: int | None, terms: Terms, book: PriceBook) -> Rate:
    name = str(facts["type"])
    known = known_instance(name)
    each = known.chips if known else None
    count = int(facts.get("count") or (math.ceil(used / each) if used and each else 1))
    bare = replace(bare, instance_type=name, instances=count, chips_used=used,
                   provider=known.provider if known else None)
    if used and each and used > each * count:
        return replace(bare, reason=f"{used} chips are said to have been used, but {count} {name} has {each * count}")
    bare = replace(bare, share=used / (each * count) if used and each else None)
    quote = book.quote(name, terms.basis, region=terms.region or facts.get("region"), as_of=terms.day)
    if quote.price is None:
        return replace(bare, reason=quote.reason)
    return _charged(_priced(bare, quote), quote.price.usd_per_hour, count, each)


def _of_chips(bare: Rate, chip: str, facts: dict[str, Any], used: int, terms: Terms, book: PriceBook) -> Rate:
    """The share of the smallest priced host; where none is large enough, of several of the largest."""
    bare = replace(bare, chips_used=used, attribution="chips")
    try:
        hosts = hosts_for(chip, used) or largest_hosts(chip)
    except BenchError as error:
        return replace(bare, reason=error.what)
    if not hosts:
        return replace(bare, reason=f"the catalog has no instance with {chip}: name one with --instance-type, "
                                    "or give a rate with `trnbench price set`")
    quotes = [(host, book.quote(host.type, terms.basis, region=terms.region, as_of=terms.day)) for host in hosts]
    found = next(((host, quote) for host, quote in quotes if quote.price), None)
    if found is None:
        return replace(bare, reason=f"no {terms.basis} price of any instance with {chip}: {quotes[0][1].reason}")
    host, quote = found
    assert quote.price is not None
    count = math.ceil(used / host.chips)
    rated = _charged(_priced(replace(bare, instance_type=host.type, instances=count, provider=host.provider), quote),
                     quote.price.usd_per_hour, count, host.chips)
    return replace(rated, assumption=_assumption(facts, host, used, count))


def _assumption(facts: dict[str, Any], host: Instance, used: int, count: int) -> str:
    of = f"{used} of {host.chips * count} chips of {'' if count == 1 else f'{count} '}{host.type}"
    why = facts.get("reason") or "the result names no instance"
    size = "smallest" if host.chips >= used else "largest"
    return f"{why}: priced as {of}, the {size} host of that chip with such a price"


def _priced(bare: Rate, quote: Quote) -> Rate:
    assert quote.price is not None
    return replace(bare, region=quote.price.region, price_id=quote.price.id, notes=quote.notes, stale=quote.stale,
                   price_as_of=quote.price.as_of.isoformat())


def _charged(bare: Rate, each_usd_per_hour: float, count: int, chips_each: int | None) -> Rate:
    """The rate with its bill: the whole of `count` instances, or the share of chips in use."""
    whole, used = each_usd_per_hour * count, bare.chips_used
    share = used / (chips_each * count) if used and chips_each else None
    bare = replace(bare, whole_usd_per_hour=whole, share=share,
                   chips_billed=chips_each * count if chips_each else None)
    if bare.attribution == "instance":
        return replace(bare, usd_per_hour=whole)
    if share is None and (chips_each == 0 or chips_each is used is None):
        return replace(bare, usd_per_hour=whole, attribution="instance",
                       notes=(*bare.notes, "charged whole: it has no accelerator chips to take a share of"))
    if share is None:
        return replace(bare, reason="the chips in use, or those of the instance, are not known: no share to charge")
    return replace(bare, usd_per_hour=whole * share, chips_billed=used)


def _no_machine(record: Record, facts: dict[str, Any]) -> str:
    known = facts.get("reason") or "the record names no instance"
    if record.source:
        return f"{known}, and its chip or how many were used is not known"
    return f"{known}: measure with --instance-type, or pass --usd-per-hour"
