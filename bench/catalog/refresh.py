"""Live prices of AWS as rows of the price book. Nothing here writes: `bench.catalog.own` keeps rows.

Three calls give five bases: the Price List Query API on-demand and reserved, the spot price history
spot, and the Capacity Block offerings capacity blocks. boto3 is imported only when a call is made.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from bench.catalog.prices import Price, PriceBook
from bench.errors import BenchError, nearest

BLOCK_HOURS = 24
"""The shortest Capacity Block. Source: DescribeCapacityBlockOfferings, CapacityDurationHours."""

LEASE_HOURS = {"reserved-1yr": 365 * 24, "reserved-3yr": 3 * 365 * 24}
PRICE_LIST_BASES = ("on-demand", *LEASE_HOURS)
LIVE_BASES = (*PRICE_LIST_BASES, "spot", "capacity-block")

MARKETS = ((*PRICE_LIST_BASES, "spot"), ("capacity-block",))

JUMP = 2.0
"""A price that changed by more than this factor, either way, is written but flagged."""

PAYMENTS = {"No Upfront": "no upfront", "Partial Upfront": "partial upfront", "All Upfront": "all upfront"}
"""Ways to pay a reservation, the preferred one first: the shipped rows are without upfront."""


@dataclass(frozen=True, slots=True)
class Want:
    """A price to ask for. `region` is a region's name, or a Local Zone's (us-east-1-dfw-2a)."""

    basis: str
    region: str
    instance_type: str


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of one kind of call, and why other prices asked for have none."""

    rows: tuple[Price, ...]
    left_out: tuple[str, ...]


class CallFailed(Exception):
    """A call that AWS refused or that did not get there; `hopeless` where the next would fail as well."""

    def __init__(self, reason: str, *, hopeless: bool) -> None:
        super().__init__(reason)
        self.hopeless = hopeless


Clients = Callable[[str, str], Any]
"""(service, region) to a boto3 client."""

Reader = Callable[[Sequence[Want], Clients, datetime], Found]


def readers() -> dict[tuple[str, ...], Reader]:
    """The bases that one kind of call gives, and what makes it."""
    return {PRICE_LIST_BASES: read_price_list, ("spot",): read_spot, ("capacity-block",): read_blocks}


def read_live(wants: Sequence[Want], clients: Clients, now: datetime) -> Iterator[tuple[list[str], Found | CallFailed]]:
    """Yield the bases of each kind of call with all that it found, or with why it failed.

    A kind is whole or failed: half of its rows would look like all of them. After a failure that is
    no refusal (no network) the kinds that are left fail unasked. `now` is aware, in the user's time
    zone: its day is the rows' day.
    """
    hopeless = None
    for kind, reader in readers().items():
        part = [want for want in wants if want.basis in kind]
        if not part:
            continue
        bases = sorted({want.basis for want in part}, key=LIVE_BASES.index)
        if hopeless:
            yield bases, CallFailed("not asked, as the call before did not get through", hopeless=True)
            continue
        try:
            found: Found | CallFailed = reader(part, clients, now)
        except CallFailed as error:
            found, hopeless = error, error.hopeless
        except (KeyError, TypeError, ValueError) as error:
            found = CallFailed(f"AWS answered in a shape that this version does not know: {error!r}", hopeless=False)
        yield bases, found


def wanted(book: PriceBook, bases: Iterable[str], *, regions: Sequence[str] = (),
           instance_types: Sequence[str] = ()) -> list[Want]:
    """Return the prices of AWS to ask for.

    Types left out: those that the book has on that market, as AWS sells few types in capacity blocks
    and the others in all other ways. Regions left out: those that the book has for the type there,
    us-east-1 where it has none.
    """
    wants = []
    for market in MARKETS:
        places: dict[str, set[str]] = defaultdict(set)
        for price in book.prices:
            if price.provider == "aws" and price.basis in market:
                places[price.instance_type].add(price.region)
        wants += [Want(basis, region, name) for basis in market if basis in bases
                  for name in instance_types or sorted(places)
                  for region in regions or sorted(places.get(name, {"us-east-1"}))]
    return wants


def aws_clients() -> Clients:
    """Return what makes clients with the user's own credentials.

    BenchError where boto3 is not installed or no credentials are found. A call waits 3 s for a
    connection and 10 s for an answer and is tried twice, so that a machine without network knows soon.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise BenchError(f"Live prices need boto3: {error}.", fix="pip install 'trnbench[aws]'") from error
    config = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
    try:
        with _failures("looking for credentials"):
            session = boto3.Session()
            credentials = session.get_credentials()
    except CallFailed as error:
        raise BenchError(f"No AWS credentials: {error}.", fix=_CREDENTIALS) from error
    if credentials is None:
        raise BenchError("No AWS credentials were found.", fix=_CREDENTIALS)
    return lambda service, region: session.client(service, region_name=region, config=config)


_CREDENTIALS = ("`aws configure`, or set AWS_PROFILE, or run where a role is attached; it needs "
                "pricing:GetProducts, ec2:DescribeSpotPriceHistory and ec2:DescribeCapacityBlockOfferings.")


def check_regions(regions: Iterable[str]) -> None:
    """BenchError for a region that botocore has never heard of, rather than a name that does not resolve."""
    import boto3

    session = boto3.Session()
    known = [name for partition in session.get_available_partitions()
             for name in session.get_available_regions("ec2", partition_name=partition)]
    for region in regions:
        if _region_of(region) not in known:
            raise BenchError(f"Unknown AWS region {region!r}.{nearest(region, known)}",
                             fix="pass --region us-east-1, say; a region newer than boto3 needs a newer boto3.")


def jumped_from(price: Price, book: PriceBook) -> Price | None:
    """The book's price of the same type, basis and region where this one is more than JUMP times away."""
    before = book.quote(price.instance_type, price.basis, region=price.region, as_of=price.as_of).price
    if before is None:
        return None
    ratio = price.usd_per_hour / before.usd_per_hour
    return before if ratio > JUMP or ratio < 1 / JUMP else None


def read_price_list(wants: Sequence[Want], clients: Clients, now: datetime) -> Found:
    """On-demand and reserved prices of Linux on shared hardware; CallFailed where a call fails.

    Source: AWS Price List Query API, GetProducts, in us-east-1 for every region.
    """
    client = clients("pricing", "us-east-1")
    rows, left_out = [], []
    for (region, name), bases in _grouped(wants).items():
        products = _products(client, region, name)
        for basis in bases:
            priced = [row for product in products if (row := _listed(product, basis, region, name, now)) is not None]
            if len({row.usd_per_hour for row in priced}) == 1:
                rows.append(priced[0])
            else:
                shown = ", ".join(f"{row.usd_per_hour:g}" for row in priced)
                left_out.append(f"{name} {basis} {region}: " + (
                    f"the price list has several, {shown} USD per hour" if priced else "not in the price list"))
    return Found(tuple(rows), tuple(left_out))


def read_spot(wants: Sequence[Want], clients: Clients, now: datetime) -> Found:
    """The spot price now, of each region's cheapest zone; CallFailed where a call fails.

    One instance runs in one zone, so the lowest is what it can cost, and a median of zones is no price
    at all. A start in the present gives the price in force of each zone. Source: DescribeSpotPriceHistory.
    """
    newest: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for region, names in _by_region(wants).items():
        for quoted in _pages(clients("ec2", region), "describe_spot_price_history", "SpotPriceHistory",
                             InstanceTypes=names, ProductDescriptions=["Linux/UNIX"], StartTime=now):
            zone = quoted["AvailabilityZone"]
            zones = newest[quoted["InstanceType"], _place_of(zone)]
            if zone not in zones or quoted["Timestamp"] > zones[zone]["Timestamp"]:
                zones[zone] = quoted
    rows, left_out = [], []
    for want in wants:
        if quotes := newest.get((want.instance_type, want.region)):
            rows.append(_spot(want, quotes, now.date()))
        else:
            left_out.append(f"{want.instance_type} spot {want.region}: no zone quotes it")
    return Found(tuple(rows), tuple(left_out))


def read_blocks(wants: Sequence[Want], clients: Clients, now: datetime) -> Found:
    """The lowest rate of a one-day Capacity Block of one instance; CallFailed where a call fails.

    USD per hour = upfront fee / (hours x instances). Source: DescribeCapacityBlockOfferings.
    """
    rows, left_out = [], []
    for want in wants:
        try:
            offers = _offers(clients("ec2", _region_of(want.region)), want.instance_type)
        except _NotOffered as error:
            left_out.append(f"{want.instance_type} capacity-block {want.region}: {error}")
            continue
        here = [offer for offer in offers if _place_of(offer["AvailabilityZone"]) == want.region]
        if here:
            rows.append(_block(want, min(here, key=_block_rate), now.date()))
        else:
            left_out.append(f"{want.instance_type} capacity-block {want.region}: no block of {BLOCK_HOURS} h "
                            "is on offer")
    return Found(tuple(rows), tuple(left_out))


class _NotOffered(Exception):
    """AWS sells no Capacity Block of that type there."""


def _products(client: Any, region: str, name: str) -> list[dict[str, Any]]:
    """Products of the price list that are the plain instance.

    The list also has each type as a Capacity Block, at 0 USD; only `marketoption` tells them apart.
    """
    asked = {"instanceType": name, "regionCode": region, "operatingSystem": "Linux", "tenancy": "Shared",
             "preInstalledSw": "NA", "capacitystatus": "Used"}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in asked.items()]
    products = [json.loads(text) for text in _pages(client, "get_products", "PriceList", ServiceCode="AmazonEC2",
                                                    Filters=filters)]
    return [product for product in products
            if product["product"]["attributes"].get("marketoption", "OnDemand") == "OnDemand"]


def _listed(product: dict[str, Any], basis: str, region: str, name: str, now: datetime) -> Price | None:
    """A product's price on one basis as a row; None where it has none above 0 in USD."""
    terms = product["terms"].get("OnDemand" if basis == "on-demand" else "Reserved", {}).values()
    term = note = ""
    if basis == "on-demand":
        hourly = next((_hourly(one, None) for one in terms), None)
    else:
        lease = basis.removeprefix("reserved-")
        fitting = {one["termAttributes"]["PurchaseOption"]: one for one in terms
                   if one["termAttributes"].get("LeaseContractLength") == lease
                   and one["termAttributes"].get("OfferingClass") == "standard"}
        payment = next((way for way in PAYMENTS if way in fitting), None)
        if payment is None:
            return None
        term = f"{lease} standard, {PAYMENTS[payment]}"
        hourly = _hourly(fitting[payment], LEASE_HOURS[basis])
        note = _upfront_note(fitting[payment], LEASE_HOURS[basis])
    if not hourly:
        return None
    source = (f"AWS Price List Query API, SKU {product['product']['sku']}, published "
              f"{product.get('publicationDate', 'on a day not given')[:10]}")
    return Price(provider="aws", instance_type=name, region=region, basis=basis, term=term, usd_per_hour=hourly,
                 as_of=now.date(), source=source, note=note, own=True)


def _hourly(term: dict[str, Any], hours: int | None) -> float | None:
    """USD per hour of a term, an upfront fee spread over its `hours`; None where a part is not in USD."""
    total = 0.0
    for part in term["priceDimensions"].values():
        usd = part["pricePerUnit"].get("USD")
        if usd is None:
            return None
        if part["unit"] == "Quantity":
            assert hours, "an upfront fee without a term"
            total += float(usd) / hours
        else:
            total += float(usd)
    return round(total, 9)


def _upfront_note(term: dict[str, Any], hours: int) -> str:
    """What the upfront fee adds to each hour; "" where there is none."""
    fee = sum(float(part["pricePerUnit"]["USD"]) for part in term["priceDimensions"].values()
              if part["unit"] == "Quantity" and "USD" in part["pricePerUnit"])
    return f"upfront fee of {fee:,.2f} USD spread over {hours:,} h: {fee / hours:.6g} USD of each hour" if fee else ""


def _spot(want: Want, zones: dict[str, dict[str, Any]], today: date) -> Price:
    ranked = sorted(zones.values(), key=lambda quoted: (float(quoted["SpotPrice"]), quoted["AvailabilityZone"]))
    best, others = ranked[0], ranked[1:]
    note = f"lowest zone {best['AvailabilityZone']}, in force since {best['Timestamp']:%Y-%m-%d %H:%M} UTC"
    if others:
        note += "; " + ", ".join(f"{one['AvailabilityZone']} {float(one['SpotPrice']):g}" for one in others)
    return Price(provider="aws", instance_type=want.instance_type, region=want.region, basis="spot", term="",
                 usd_per_hour=float(best["SpotPrice"]), as_of=today, own=True, note=note,
                 source="AWS EC2 DescribeSpotPriceHistory, Linux/UNIX")


def _offers(client: Any, name: str) -> list[dict[str, Any]]:
    """Offerings in USD of one instance, or one UltraServer, for BLOCK_HOURS."""
    what = ({"UltraserverType": name, "UltraserverCount": 1} if name.startswith("u-") else
            {"InstanceType": name, "InstanceCount": 1})
    try:
        offers = list(_pages(client, "describe_capacity_block_offerings", "CapacityBlockOfferings",
                             CapacityDurationHours=BLOCK_HOURS, **what))
    except CallFailed as error:
        if re.match(r"(InvalidParameter|InvalidInstanceType|Unsupported)", str(error)):
            raise _NotOffered(str(error)) from error
        raise
    return [offer for offer in offers if offer.get("CurrencyCode") == "USD"]


def _block_rate(offer: dict[str, Any]) -> float:
    """USD per instance (or UltraServer) and hour."""
    hours: float = offer["CapacityBlockDurationHours"] + (offer.get("CapacityBlockDurationMinutes") or 0) / 60
    count: int = offer.get("UltraserverCount") or offer["InstanceCount"]
    return float(offer["UpfrontFee"]) / (hours * count)


def _block(want: Want, offer: dict[str, Any], today: date) -> Price:
    note = (f"{offer['AvailabilityZone']}, from {offer['StartDate']:%Y-%m-%d %H:%M} UTC: "
            f"{float(offer['UpfrontFee']):,.2f} USD for {offer['CapacityBlockDurationHours']} h")
    return Price(provider="aws", instance_type=want.instance_type, region=want.region, basis="capacity-block", term="",
                 usd_per_hour=round(_block_rate(offer), 9), as_of=today, own=True, note=note,
                 source=f"AWS EC2 DescribeCapacityBlockOfferings, {BLOCK_HOURS} h, lowest offer")


def _region_of(place: str) -> str:
    """The region of a region's, zone's or Local Zone's name: us-east-1-dfw-2a is in us-east-1."""
    found = re.match(r"[a-z]+(-[a-z]+)+-\d+", place)
    return found.group() if found else place


def _place_of(zone: str) -> str:
    """Where a zone's price belongs: its region, but a Local Zone has prices of its own."""
    region = _region_of(zone)
    return region if re.fullmatch(r"[a-z]?", zone.removeprefix(region)) else zone


def _grouped(wants: Sequence[Want]) -> dict[tuple[str, str], list[str]]:
    """(region, type) to the bases wanted of it."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for want in wants:
        groups[want.region, want.instance_type].append(want.basis)
    return groups


def _by_region(wants: Sequence[Want]) -> dict[str, list[str]]:
    """Region to the types wanted in it or in its Local Zones, each once."""
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for want in wants:
        groups[_region_of(want.region)][want.instance_type] = None
    return {region: list(names) for region, names in groups.items()}


def _pages(client: Any, operation: str, key: str, **asked: Any) -> Iterator[Any]:
    """Every item of every page; CallFailed where a call fails."""
    with _failures(operation):
        for page in client.get_paginator(operation).paginate(**asked):
            yield from page[key]


@contextmanager
def _failures(doing: str) -> Iterator[None]:
    """What botocore raises, as CallFailed with one line. Only a refusal leaves hope for another call."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        text = " ".join(str(told.get("Message", "")).split())
        raise CallFailed(f"{told.get('Code', 'refused')} from {doing}: {text}", hopeless=False) from error
    except (BotoCoreError, ResponseParserError) as error:  # the second: a proxy that answers in AWS's place
        raise CallFailed(f"{type(error).__name__} from {doing}: {' '.join(str(error).split())}",
                         hopeless=True) from error
