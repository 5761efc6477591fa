"""What to buy: of each group the cheapest option, its runner-up, and what would turn them round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.record import TIERS, Record
from bench.report.html.choose import Group, option_of, unsaid
from bench.report.html.money import Priced, ratio
from bench.report.html.texts import Texts, short, shorts
from bench.report.money import is_named


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One group under one basis. Rows are numbers of the page's rows.

    `order`: each option's cheapest row, cheapest first. `times`: how many times dearer the second is.
    `flip_usd_per_hour`: the rate at which the second would cost what the first does. `tier`: the
    weaker one of the two. `unpriced`: options without a price, `why` the first one's reason.
    `cheaper`: a cheaper row of the same work in another precision class. `others`: what is cheapest
    under other bases, where that is another option.
    """

    group: int
    order: tuple[int, ...]
    times: tuple[float | None, float | None, float | None]
    flip_usd_per_hour: float | None
    tier: str
    unpriced: int
    why: str | None
    cheaper: int | None = None
    others: tuple[tuple[str, int], ...] = ()


def decide_all(groups: Sequence[Group], members: Mapping[int, Sequence[int]], records: Sequence[Record],
               money: Mapping[str, Sequence[Priced]]) -> dict[str, list[Decision]]:
    """Return the decisions by basis: most options first. Groups without a priced option have none."""
    found = {basis: _of_basis(groups, members, records, rows) for basis, rows in money.items()}
    return {basis: [replace(d, others=_others(d, basis, found, records)) for d in own.values()]
            for basis, own in found.items()}


def baselines(baseline: str | None, members: Mapping[int, Sequence[int]], records: Sequence[Record],
              rows: Sequence[Priced]) -> list[int | None]:
    """Return each row's baseline: the cheapest row of its group that is so named (as `bench.report.money`)."""
    found: list[int | None] = [None] * len(records)
    for numbers in members.values():
        named = [n for n in numbers if baseline and is_named(records[n], baseline) and _ranks(records[n])
                 and rows[n].cost.value is not None]
        if named:
            first = min(named, key=lambda n: _cost(rows[n]))
            for number in numbers:
                found[number] = first
    return found


def _ranks(record: Record) -> bool:
    """Whether a record may be held against others: valid, not emulated, and silent about nothing that matters."""
    return record.status == "valid" and record.tier != "emulated" and not unsaid(record)


def _of_basis(groups: Sequence[Group], members: Mapping[int, Sequence[int]], records: Sequence[Record],
              rows: Sequence[Priced]) -> dict[int, Decision]:
    every = {group: _decide(group, numbers, records, rows) for group, numbers in members.items()}
    found = {group: decision for group, decision in every.items() if decision}
    firsts = defaultdict(list)
    for group, decision in found.items():
        firsts[_any_precision(groups[group])].append(decision.order[0])
    for group, decision in found.items():
        cheapest = min(firsts[_any_precision(groups[group])], key=lambda n: _cost(rows[n]))
        if cheapest != decision.order[0]:
            found[group] = replace(decision, cheaper=cheapest)
    ordered = sorted(found, key=lambda g: (-len(found[g].order), groups[g].like.workload, g))
    return {group: found[group] for group in ordered}


def _any_precision(group: Group) -> Group:
    return replace(group, like=replace(group.like, precision_class=None))


def _decide(group: int, numbers: Sequence[int], records: Sequence[Record], rows: Sequence[Priced]) -> Decision | None:
    order, unpriced = _ranked(numbers, records, rows)
    if not order:
        return None
    first, second = order[0], order[1] if len(order) > 1 else None
    times = ratio(rows[first].cost, rows[second].cost) if second is not None else (None, None, None)
    at = rows[second].rate.usd_per_hour if second is not None else None
    pair = [records[n].tier for n in order[:2]]
    return Decision(group=group, order=tuple(order), times=times, tier=max(pair, key=TIERS.index),
                    flip_usd_per_hour=at / times[0] if at and times[0] else None, unpriced=len(unpriced),
                    why=rows[unpriced[0]].cost.reason if unpriced else None)


def _ranked(numbers: Sequence[int], records: Sequence[Record], rows: Sequence[Priced]) -> tuple[list[int], list[int]]:
    """Return each option's row, cheapest first, and a row of each option that has no price.

    An option stands by the best-founded evidence of it: what was measured before what was published,
    of the same tier the cheapest.
    """
    best: dict[tuple[object, ...], int] = {}
    for number in numbers:
        if _ranks(records[number]):
            key = option_of(records[number])
            best[key] = min(best.get(key, number), number,
                            key=lambda n: (TIERS.index(records[n].tier), _cost(rows[n])))
    priced = sorted((n for n in best.values() if rows[n].cost.value is not None), key=lambda n: _cost(rows[n]))
    return priced, [n for n in best.values() if rows[n].cost.value is None]


def _cost(row: Priced) -> float:
    return float("inf") if row.cost.value is None else row.cost.value


def _others(decision: Decision, basis: str, found: Mapping[str, Mapping[int, Decision]],
            records: Sequence[Record]) -> tuple[tuple[str, int], ...]:
    own = option_of(records[decision.order[0]])
    firsts = [(other, ds[decision.group].order[0]) for other, ds in found.items()
              if other != basis and decision.group in ds]
    return tuple((other, first) for other, first in firsts if option_of(records[first]) != own)


def decision_json(decision: Decision, texts: Texts) -> dict[str, Any]:
    told = {"group": decision.group, "order": list(decision.order), "times": shorts(*decision.times),
            "flip": short(decision.flip_usd_per_hour), "tier": decision.tier, "unpriced": decision.unpriced or None,
            "why": texts.number(decision.why), "cheaper": decision.cheaper,
            "others": [list(other) for other in decision.others]}
    return {name: value for name, value in told.items() if value not in (None, [])}
