"""Parts that no measurement decides: ratios of data sheets, and who submitted results to a benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bench.catalog.chips import Chip
from bench.catalog.chips import chip as chip_of
from bench.catalog.claims import Listing, Part
from bench.claims.evidence import Evidence, Side
from bench.claims.pairs import reaches
from bench.claims.verdict import LeftOut, Pair
from bench.record import Record

UNITS = {"memory": "GiB", "memory_bandwidth": "GB/s"}


def sheet(part: Part) -> Evidence:
    """Return the ratios of two chips' data sheets: dense peaks, memory, bandwidth. Nothing of it was measured."""
    ours, theirs = chip_of(part.subject.chips[0]), chip_of(part.baseline.chips[0])
    pairs: list[Pair] = []
    left_out: list[LeftOut] = []
    for quantity in part.quantities:
        ends = _number(ours, quantity), _number(theirs, quantity)
        left_out += [(chip.id, f"no {_told(quantity)} is published")
                     for chip, number in zip((ours, theirs), ends, strict=True) if number is None]
        if ends[0] is not None and ends[1] is not None:
            pairs.append(_pair(part, quantity, (ours, theirs), ends[0] * part.subject_count,
                               ends[1] * part.baseline_count))
    known = Side(1, len(pairs), left_out[0][1] if left_out else None)
    return Evidence(pairs=tuple(pairs), left_out=tuple(left_out), subjects=known, baselines=known)


def _number(chip: Chip, quantity: str) -> float | None:
    if quantity == "memory":
        return chip.memory_gib
    if quantity == "memory_bandwidth":
        return chip.memory_bandwidth_gb_per_second
    return chip.peak_flops_per_second.get(quantity)


def _told(quantity: str) -> str:
    return quantity.replace("_", " ") if quantity in UNITS else f"{quantity} dense peak"


def _pair(part: Part, quantity: str, chips: tuple[Chip, Chip], our_number: float, their_number: float) -> Pair:
    (ours, theirs), told = chips, _told(quantity)
    names = [chip.name if count == 1 else f"{count} {chip.name}"
             for chip, count in ((ours, part.subject_count), (theirs, part.baseline_count))]
    ratio = our_number / their_number
    return Pair(part=part.name, label=f"{told}: {names[0]} against {names[1]}", subject=ours.id, baseline=theirs.id,
                ratio=ratio, holds=reaches(ratio, None, None, part.ratio), subject_value=our_number,
                baseline_value=their_number, unit=UNITS.get(quantity, "FLOP/s"), tier="vendor",
                notes=(f"{ours.name}: {ours.source}", f"{theirs.name}: {theirs.source}"),
                reason="data sheets: nothing was measured",
                facts={"quantity": told, "subject": ours.name, "baseline": theirs.name})


def submissions(listing: Listing, records: Iterable[Record]) -> tuple[list[Pair], int, Counter[str], int]:
    """Return the benchmark's results on the listed chips, how many results there are in all, who submitted those
    on the chips, and how many of them come from the listed submitters."""
    pairs, total, by = [], 0, Counter[str]()
    theirs = 0
    for record in sorted(records, key=lambda record: record.run_id):
        publisher = str(record.source.get("publisher") or "")
        if not publisher.startswith(listing.publisher):
            continue
        total += 1
        if record.device.get("chip") not in listing.chips:
            continue
        submitter = publisher.partition("submitted by ")[2] or "a submitter that is not named"
        by[submitter] += 1
        own = any(name.lower() in submitter.lower() for name in listing.submitters)
        theirs += own
        pairs.append(Pair(part="submissions", label=f"{record.case.label}, submitted by {submitter}",
                          subject=record.run_id, baseline="", ratio=None, holds=not own, tier=record.tier,
                          reason="a listing: who submitted it, not how fast it was"))
    return pairs, total, by, theirs
