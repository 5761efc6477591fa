"""The records that all parts of all claims choose from: the best of each kind, with the rates looked up once."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from operator import attrgetter

from bench.catalog.alike import Likeness, likeness
from bench.catalog.chips import chips, known_chip
from bench.catalog.claims import LIKENESS, Part, Selector
from bench.catalog.instances import known_instance
from bench.catalog.prices import PriceBook
from bench.claims.values import LATENCIES
from bench.claims.verdict import LeftOut
from bench.cost.normalise import throughput
from bench.cost.rate import Rate, rate
from bench.cost.terms import Terms
from bench.record import Record

_FIELDS = attrgetter(*(name for name in LIKENESS if name != "batch_size"))


class Results:
    """Records by chip. Of those that differ in nothing but their numbers, such as repeated runs of a case, only the
    best by each number can enter any pair, so the others are set aside once (`set_aside`) and not for every claim.
    A chip's records are looked at when a claim first asks for the chip: of most chips none does.
    """

    def __init__(self, records: Iterable[Record], book: PriceBook) -> None:
        self._book = book
        self.all = tuple(records)
        self._likeness: dict[str, Likeness] = {}
        self._rates: dict[tuple[str, str | None, Terms], Rate] = {}
        self._set_aside: dict[str, list[LeftOut]] = {}
        self._by_chip: dict[str | None, list[Record]] = defaultdict(list)
        self._best: dict[str | None, list[Record]] = {}
        for record in self.all:
            self._by_chip[record.device.get("chip")].append(record)

    def _of(self, chip: str | None) -> list[Record]:
        """The records of a chip that can enter a pair."""
        if chip not in self._best:
            self._best[chip] = []
            for kind in self._kinds(self._by_chip.get(chip, ())):
                best = _best_by_each_number(kind)
                self._best[chip] += best
                kept = {record.run_id for record in best}
                self._set_aside[best[0].run_id] = [
                    (record.run_id, f"{best[0].run_id} is a better result of the same kind")
                    for record in kind if record.run_id not in kept]
        return self._best[chip]

    def _kinds(self, records: Iterable[Record]) -> Iterable[list[Record]]:
        """Records that are alike in everything, on as many chips of one instance; each unusable one is its own kind."""
        kinds: dict[Hashable, list[Record]] = defaultdict(list)
        for record in records:
            facts = record.machine.get("instance") or {}
            alike = self.likeness(record)
            usable = record.status == "valid" and record.tier != "emulated"
            kinds[_FIELDS(alike), alike.batch_size if alike.scenario == "server" else None, record.tier,
                  record.work.get("item"), record.device.get("name"),
                  record.device.get("chips"), facts.get("type"), facts.get("count"), facts.get("region"),
                  None if usable else record.run_id].append(record)
        return kinds.values()

    def chosen(self, selector: Selector, part: Part) -> list[Record]:
        """Return the records that a side's selector and the part's scope let in, whatever their state."""
        ids = selector.chips or tuple(one.id for one in chips() if one.vendor in selector.vendors)
        names: Collection[str | None] = ids if selector.chips or selector.vendors else self._by_chip
        return [record for name in names for record in self._of(name)
                if _selected(selector, record) and _in_scope(part, self.likeness(record), record)]

    def set_aside(self, run_ids: Iterable[str]) -> list[LeftOut]:
        """Return the records that these stand for, each with its reason."""
        return [item for run_id in run_ids for item in self._set_aside.get(run_id, ())]

    def likeness(self, record: Record) -> Likeness:
        found = self._likeness.get(record.run_id)
        if found is None:
            found = self._likeness[record.run_id] = likeness(record)
        return found

    def rate(self, record: Record, terms: Terms, priced_as: str | None) -> Rate:
        """Return what an hour costs; `priced_as`: as though it had run on so many chips of that instance."""
        if terms.usd_per_hour is not None:
            return Rate(basis=terms.basis, reason="one rate was given for all: a ratio of costs needs each instance's "
                        "own, which `trnbench price set` keeps")
        key = (record.run_id, priced_as, terms)
        if key not in self._rates:
            self._rates[key] = rate(_on(record, priced_as) if priced_as else record, terms, self._book)
        return self._rates[key]


def _best_by_each_number(kind: Sequence[Record]) -> list[Record]:
    """The best by throughput, by each latency and by energy, the newest of equals; the newest where none is known."""
    if len(kind) == 1:
        return list(kind)
    best: dict[str, tuple[float, Record]] = {}
    for record in sorted(kind, key=lambda record: (record.started_at, record.run_id)):
        done = throughput(record)
        lower = [record.metric(name) for name in (*LATENCIES, f"joules_per_{record.work.get('item')}")]
        for metric, sign in ((done, 1), *((metric, -1) for metric in lower)):
            if metric and metric.value and (metric.name not in best or sign * metric.value >= best[metric.name][0]):
                best[metric.name] = sign * metric.value, record
    kept = {record.run_id: record for _, record in best.values()} or {kind[-1].run_id: kind[-1]}
    return list(kept.values())


def _selected(selector: Selector, record: Record) -> bool:
    instance = str((record.machine.get("instance") or {}).get("type") or "")
    named = not selector.instances or any(instance == name or instance.startswith(f"{name}.")
                                          for name in selector.instances)
    chip = known_chip(record.device.get("chip"))
    vendor = (not selector.vendors or record.device.get("kind") in selector.vendors
              or (chip is not None and chip.vendor in selector.vendors))
    return named and vendor and (not selector.tiers or record.tier in selector.tiers)


def _in_scope(part: Part, alike: Likeness, record: Record) -> bool:
    asked: list[tuple[tuple[str, ...], Collection[object]]] = [
        (part.tasks, (alike.task,)), (part.workloads, (alike.workload, f"{alike.workload}:{alike.size}")),
        (part.items, (record.work.get("item"),)), (part.scenarios, (alike.scenario,)),
        (part.precisions, (alike.precision_class,)), (part.sequences, (alike.sequence,))]
    return all(not allowed or not set(allowed).isdisjoint(have) for allowed, have in asked)


def _on(record: Record, instance_type: str) -> Record:
    """The record as though it had used as many chips of an instance that it did not run on."""
    known = known_instance(instance_type)
    used = record.device.get("chips")
    count = -(-int(used) // known.chips) if known and known.chips and used else 1
    instance = {"provider": known.provider if known else None, "type": instance_type, "region": None, "count": count}
    return dataclasses.replace(record, machine=record.machine | {"instance": instance})
