"""Which record of one set is held against which of another, and why others are against none."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from bench.case import WORK_FIELDS, Case
from bench.record import Record
from bench.report.cells import setup
from bench.report.frame import disturbed, noise_floor, parity_ok

Key = Callable[[Record], Hashable]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two records of the same work. `notes`: what else differs, or makes the answer weaker."""

    base: Record
    new: Record
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record that is compared with none. `side` is "BASE" or "NEW"."""

    side: str
    record: Record
    reason: str


def match(base: Sequence[Record], new: Sequence[Record]) -> tuple[list[Pair], list[LeftOut]]:
    """Pair the records of two sets.

    Of each case on each machine the newest valid record stands for its side. Pairs are made, in this
    order, of the same case on the same machine; the same case, where each side has it once; the same
    work (`Case.work_id`: another backend or set-up), where each side has that work once. Emulated
    records pair with emulated ones alone.
    """
    sides = {"BASE": _candidates(base), "NEW": _candidates(new)}
    pairs: list[tuple[Record, Record]] = []
    for key in (_same_place, _same_case, _same_work):
        taken = {id(record) for pair in pairs for record in pair}
        pairs += [pair for pair in _once_each(sides["BASE"], sides["NEW"], key)
                  if taken.isdisjoint(map(id, pair))]
    paired = {id(record) for pair in pairs for record in pair}
    left_out = [LeftOut(side, record, _why_alone(record, *others))
                for side, others in (("BASE", ("NEW", sides["NEW"])), ("NEW", ("BASE", sides["BASE"])))
                for record in sides[side] if id(record) not in paired]
    left_out += [*_not_valid("BASE", base), *_not_valid("NEW", new)]
    return [Pair(b, n, _notes(b, n, base, new)) for b, n in pairs], left_out


def _same_place(record: Record) -> Hashable:
    return record.case_id, record.machine.get("name"), record.tier == "emulated"


def _same_case(record: Record) -> Hashable:
    return record.case_id, record.tier == "emulated"


def _same_work(record: Record) -> Hashable:
    return record.case.work_id, record.tier == "emulated"


def _candidates(records: Sequence[Record]) -> list[Record]:
    """The newest valid record of each case on each machine."""
    newest: dict[Hashable, Record] = {}
    for record in sorted(records, key=lambda r: (r.started_at, r.run_id)):
        if record.status == "valid":
            newest[_same_place(record)] = record
    return list(newest.values())


def _once_each(base: Sequence[Record], new: Sequence[Record], key: Key) -> list[tuple[Record, Record]]:
    left, right = _grouped(base, key), _grouped(new, key)
    return [(left[k][0], right[k][0]) for k in left
            if len(left[k]) == 1 and len(right.get(k, ())) == 1]


def _grouped(records: Sequence[Record], key: Key) -> dict[Hashable, list[Record]]:
    groups: dict[Hashable, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _why_alone(record: Record, other_side: str, others: Sequence[Record]) -> str:
    """Why a valid record has no partner: what the nearest one on the other side has otherwise."""
    alike = [other for other in others
             if (other.case.workload, other.case.task) == (record.case.workload, record.case.task)]
    if not alike:
        return f"no alike case in {other_side}"
    nearest = min(alike, key=lambda other: (len(_differences(record.case, other.case)),
                                            (other.tier == "emulated") != (record.tier == "emulated")))
    differences = _differences(record.case, nearest.case)
    if differences:
        return f"no alike case in {other_side}: {'; '.join(differences)}"
    if (nearest.tier == "emulated") != (record.tier == "emulated"):
        return f"tier {record.tier} is not compared with tier {nearest.tier}"
    return f"several set-ups of this work, none of them in both: name one side's ({setup(record)})"


def _differences(case: Case, other: Case) -> list[str]:
    return [f"{name} differs ({getattr(case, name)} here, {getattr(other, name)} there)"
            for name in WORK_FIELDS if getattr(case, name) != getattr(other, name)]


def _not_valid(side: str, records: Sequence[Record]) -> list[LeftOut]:
    """Each case of a side without any valid record, by its newest one."""
    valid = {_same_place(r) for r in records if r.status == "valid"}
    newest = {_same_place(r): r for r in sorted(records, key=lambda r: (r.started_at, r.run_id))
              if _same_place(r) not in valid}
    return [LeftOut(side, r, f"{r.status} record: {'; '.join(r.reasons) or 'no reason kept'}")
            for r in newest.values()]


def _notes(base: Record, new: Record, all_base: Sequence[Record],
           all_new: Sequence[Record]) -> tuple[str, ...]:
    notes = _unlike(base, new)
    if noise_floor(base, new) is None:
        notes.append("no noise floor is recorded, so that intervals may be too narrow: run `trnbench doctor`")
    for side, record, records in (("BASE", base, all_base), ("NEW", new, all_new)):
        if parity_ok(record) is None:
            notes.append(f"parity not checked in {side}")
        if why := disturbed(record):
            notes.append(f"{len(why)} disturbed children in {side}: {'; '.join(why)}")
        notes += [f"a later run in {side} is {r.status} and not used ({r.run_id})" for r in records
                  if _same_place(r) == _same_place(record) and r.started_at > record.started_at]
        if (record.machine.get("noise_floor") or {}).get("stale"):
            notes.append(f"the noise floor of {side} is old: `trnbench doctor` measures it anew")
    return tuple(notes)


def _unlike(base: Record, new: Record) -> list[str]:
    """What differs between two records of the same work."""
    notes = [f"{name} differs: {before} -> {after}" for name, before, after in (
        ("machine", base.machine.get("name"), new.machine.get("name")),
        ("backend", base.case.backend, new.case.backend), ("tier", base.tier, new.tier)) if before != after]
    for label, before, after in (
            ("setting", _asked(base) | base.settings, _asked(new) | new.settings),
            ("version of", base.machine.get("software") or {}, new.machine.get("software") or {})):
        notes += [f"{label} {name} differs: {before.get(name)} -> {after.get(name)}"
                  for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return notes


def _asked(record: Record) -> dict[str, object]:
    """The parts of a case that are no work, where no setting says what came of them."""
    return {"threads": record.case.threads, "compile": record.case.compile, **record.case.backend_options}
