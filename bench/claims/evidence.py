"""Which results speak to a part of a claim: the best of each kind on each side, paired where they are alike.

A side's results fall into cells: all that likeness asks for, the chip and, where money or instances are
compared, the instance. Offline a side may lay its work out as it likes, so one cell holds every number
of chips; under a load or in training the number of chips trades speed against cost, and each is a cell
of its own. What was measured here and what others published are never in one cell. Each cell enters
with its best result, the newest of equals.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.catalog.alike import Likeness, unlike
from bench.catalog.claims import Part
from bench.claims.pairs import pair_of, same_basis
from bench.claims.results import Results
from bench.claims.values import LATENCIES, LOWER_IS_BETTER, Value, values_of, whole_instances
from bench.claims.verdict import LeftOut, Pair
from bench.cost.terms import Terms
from bench.record import Record


@dataclass(frozen=True, slots=True)
class Side:
    """How many valid results a side has, of how many the number is known, and why not of one of the others."""

    results: int = 0
    known: int = 0
    lacks: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The pairs of a part, and why there are no more of them.

    `differences`: in what the nearest
    results of both sides are unlike, counted. `unpriced`: alike pairs that lack nothing but a price. `to_beat`:
    the baseline's best, where the subject has nothing.
    """

    pairs: tuple[Pair, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    subjects: Side = Side()
    baselines: Side = Side()
    unpriced: int = 0
    differences: Counter[str] = field(default_factory=Counter)
    to_beat: Value | None = None


def evidence(part: Part, results: Results, terms: Terms, ignore: Collection[str] = ()) -> Evidence:
    """Return the pairs of a part on the given terms.

    `ignore`: likeness that is not asked for, besides the part's own. Of latencies that is how many
    queries were in flight: a chip that answers several at once answers each none the sooner.
    """
    ignore = {*part.ignore, *ignore, *(("streams",) if part.metric == "latency" else ())}
    left_out: list[LeftOut] = []
    subjects = _usable(results.chosen(part.subject, part), left_out)
    baselines = _usable(results.chosen(part.baseline, part), left_out)
    ours = _cells(subjects, part, results, terms, ignore, None)
    theirs = _cells(baselines, part, results, terms, ignore, part.priced_as)
    found = Evidence(subjects=_side_of(subjects, ours), baselines=_side_of(baselines, theirs),
                     to_beat=_best_of(theirs, part) if not subjects and part.workloads else None)
    if not (subjects and baselines):
        return dataclasses.replace(found, left_out=_once(left_out))
    pairs, unpriced, differences = _paired(ours, theirs, part, ignore, left_out)
    return dataclasses.replace(found, pairs=tuple(pairs), left_out=_once(left_out), unpriced=unpriced,
                               differences=differences)


def _usable(records: Sequence[Record], left_out: list[LeftOut]) -> list[Record]:
    """The valid ones that a real device made; the others are left out with their reason."""
    usable = []
    for record in records:
        if record.tier == "emulated":
            left_out.append((record.run_id, "emulated: it says nothing of any chip"))
        elif record.status != "valid":
            left_out.append((record.run_id, f"{record.status} record: {'; '.join(record.reasons) or 'no reason kept'}"))
        else:
            usable.append(record)
    return usable


CellKey = tuple[Hashable, Hashable, str]
Cells = dict[CellKey, list[Value]]
_Entry = tuple[tuple[Hashable, Hashable], Value]


def _cells(records: Sequence[Record], part: Part, results: Results, terms: Terms, ignore: Collection[str],
           priced_as: str | None) -> Cells:
    cells: Cells = defaultdict(list)
    for record in records:
        alike = results.likeness(record)
        key = tuple(getattr(alike, f.name) for f in dataclasses.fields(alike)
                    if f.name not in ignore and (f.name != "batch_size" or alike.scenario == "server"))
        for value in values_of(record, part.metric, partial(results.rate, record, terms, priced_as)):
            cells[key, _side(record, alike, part, value), value.name if part.metric == "latency" else ""].append(value)
    for values in cells.values():
        values.sort(key=lambda value: (_worth(value, part), value.record.started_at, value.record.run_id), reverse=True)
    return cells


def _side(record: Record, alike: Likeness, part: Part, value: Value) -> Hashable:
    """What makes two results of a side different offers: the chip, and what `evidence` says above."""
    chip, measured = record.device.get("chip") or record.device.get("name"), record.tier == "measured"
    rented = part.metric in ("usd_per_item", "throughput_per_instance")
    return (chip, measured, value.rate.instance_type if rented and value.rate else None,
            None if alike.scenario == "offline" else record.device.get("chips"))


def _worth(value: Value, part: Part) -> tuple[bool, float]:
    """To sort by: known before unknown, then the better number."""
    if value.number is None:
        return False, 0.0
    return True, -value.number if part.metric in LOWER_IS_BETTER else value.number


def _side_of(records: Sequence[Record], cells: Cells) -> Side:
    values = [value for values in cells.values() for value in values]
    lacks = Counter(value.reason for value in values if value.number is None).most_common(1)
    return Side(len(records), sum(value.number is not None for value in values), lacks[0][0] if lacks else None)


def _best_of(cells: Cells, part: Part) -> Value | None:
    known = [value for values in cells.values() for value in values if value.number is not None]
    return max(known, key=lambda value: _worth(value, part), default=None)


def _paired(subjects: Cells, baselines: Cells, part: Part, ignore: Collection[str],
            left_out: list[LeftOut]) -> tuple[list[Pair], int, Counter[str]]:
    """Every alike pair of cells; of latencies only the first statistic that both state."""
    pairs: dict[Hashable, Pair] = {}
    unpriced, paired = 0, set[Hashable]()
    nearest: dict[Hashable, tuple[list[str], str]] = {}
    for (ours_cell, ours), (theirs_cell, theirs) in _candidates(subjects, baselines):
        why = _why_unlike(ours, theirs, part, ignore)
        for cell, other in (("s", *ours_cell), theirs), (("b", *theirs_cell), ours):
            if cell not in nearest or len(why) < len(nearest[cell][0]):
                nearest[cell] = (why, other.record.run_id)
        if why:
            continue
        paired |= {("s", *ours_cell), ("b", *theirs_cell)}
        if missing := _refused(ours, theirs):
            unpriced += all(value.unpriced or value.number is not None for value in (ours, theirs))
            left_out += missing
        else:
            pairs.setdefault((ours_cell, theirs_cell), pair_of(part, ours, theirs))
    differences = Counter[str]()
    for mark, cells in (("s", subjects), ("b", baselines)):
        for (key, side, _), values in cells.items():
            alone = f"workload differs: none of {values[0].record.case.workload} on the other side"
            why, other_id = nearest.get((mark, key, side), ([alone], ""))
            _account(values, (mark, key, side) in paired, why, other_id, left_out)
            if mark == "s" and (mark, key, side) not in paired:
                differences.update({_topic(reason) for reason in why})
    return list(pairs.values()), unpriced, differences


def _candidates(subjects: Cells, baselines: Cells) -> Iterator[tuple[_Entry, _Entry]]:
    """Each two cells of one workload and statistic with their best values; of latencies, medians first."""
    by_work: dict[Hashable, list[_Entry]] = defaultdict(list)
    for (key, side, name), values in sorted(baselines.items(), key=_order):
        by_work[_work(values[0]), name].append(((key, side), values[0]))
    for (key, side, name), values in sorted(subjects.items(), key=_order):
        for theirs in by_work.get((_work(values[0]), name), ()):
            yield ((key, side), values[0]), theirs


def _work(value: Value) -> Hashable:
    return value.record.case.workload, value.record.case.size, value.record.case.task


def _order(cell: tuple[CellKey, list[Value]]) -> tuple[int, str, str]:
    (_, _, name), values = cell
    return LATENCIES.index(name) if name in LATENCIES else 0, values[0].record.case.workload, values[0].record.run_id


def _refused(ours: Value, theirs: Value) -> list[LeftOut]:
    """Of an alike pair, the sides that have no number, or no number on the same basis."""
    missing = [(value.record.run_id, value.reason or "not known") for value in (ours, theirs) if value.number is None]
    mixed = None if missing else same_basis(ours.rate, theirs.rate)
    return missing if not mixed else [(value.record.run_id, mixed) for value in (ours, theirs)]


def _why_unlike(ours: Value, theirs: Value, part: Part, ignore: Collection[str]) -> list[str]:
    reasons = unlike(ours.record, theirs.record, ignore=ignore)
    if part.same_instances and not reasons:
        sizes = [whole_instances(value.record) for value in (ours, theirs)]
        reasons += [f"whole instances: {why}" for count, _, why in sizes if count is None and why]
        if not reasons and sizes[0][0] != sizes[1][0]:
            reasons.append(f"number of instances differs: {sizes[0][0]} against {sizes[1][0]}")
    return reasons


def _topic(reason: str) -> str:
    """What a reason is about: `precision class differs: a against b` -> `precision class`."""
    return reason.partition(" differs")[0].partition(" is not stated")[0].partition(":")[0]


def _account(values: Sequence[Value], in_pair: bool, why: Sequence[str], other_id: str,
             left_out: list[LeftOut]) -> None:
    """Say of every result of a cell that is in no pair why it is in none."""
    if not in_pair:
        best, told = values[0].record.run_id, "; ".join(why) + (f" (nearest: {other_id})" if other_id else "")
        left_out += [(value.record.run_id, told.replace(best, value.record.run_id)) for value in values]
        return
    for value in values[1:]:
        left_out.append((value.record.run_id, (value.reason or "not known") if value.number is None
                         else f"{values[0].record.run_id} is a better result of the same kind"))


def _once(left_out: list[LeftOut]) -> tuple[LeftOut, ...]:
    return tuple(dict.fromkeys(left_out))
