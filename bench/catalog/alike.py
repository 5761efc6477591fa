"""When two results may be held against each other: what must be equal, and why it is not.

Decided here, so that every comparison decides alike:

* Unknown is never a match: a precision, sequence or batching that is not stated is a reason.
* `quality` is a benchmark's accuracy target; none on both sides is a match, none on one side is not.
* Offline and in training each side takes the batch that suits it best, so the batch is free. A server
  is driven at a number of requests at a time, which must be equal; under MLPerf's rules it is as many
  as the latency limit allows, and such rows match one another alone.
* A single stream is one query of one sample at a time. Rows that ran a replica a core beside one
  another have `streams` above 1 and never match a true single stream. Their latency is still that of
  one query, a little burdened by the others: to compare latencies alone, pass ignore=("streams",).
* Our `generation` starts all sequences together and waits for each token: with one sequence it is a
  single stream, with more an offline run of a static batch. It is never a server.
* Offline token generation depends on how requests are batched (`static`, `continuous`, or as MLPerf's
  rules allow) by more than on the chip, so that must be equal. Where nothing is said it is unknown.
* Sequences are compared as text: "128/2048" is a short prompt and a long answer, "2048/128" is not;
  "384 max" is a bound on real questions and "384" is every sequence at that length, so they differ.
* Speculative decoding is another algorithm: none matches none, a draft model only the same one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bench.case import UNSTATED, Case
from bench.record import Record

PRECISION_CLASSES = {"fp32": "fp32", "tf32": "tf32", "bf16": "16-bit", "fp16": "16-bit", "amp-bf16": "16-bit",
                     "amp-fp16": "16-bit", "fp8": "fp8", "int8": "int8", "int4": "4-bit", "fp4": "4-bit",
                     "mxfp4": "4-bit"}
"""A case's dtype -> the class in which results are comparable; an unstated dtype has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What two results must share.

    None means "not stated" in `precision_class`, `batching` and `batch_size`, and "none" elsewhere.
    `sequence` "unstated": the work has one, but its length is not known.
    """

    workload: str
    size: str
    task: str
    scenario: str
    item_definition: str
    precision_class: str | None
    sequence: str | None
    quality: str | None
    batch_size: int | None
    streams: int | None
    batching: str | None
    speculation: str | None


def likeness(record: Record) -> Likeness:
    """Return what a record, measured here or published, must share with another to be compared with it."""
    case, work = record.case, record.work
    scenario = _scenario(case)
    return Likeness(
        workload=case.workload, size=case.size, task=case.task, scenario=scenario,
        item_definition=work.get("item_definition") or _items(case, str(work.get("item") or "item")),
        precision_class=work.get("precision_class", PRECISION_CLASSES.get(case.dtype)),
        sequence=_sequence(record), quality=work.get("quality"), batch_size=work.get("batch_size", case.batch_size),
        streams=work.get("streams", 1) if scenario == "single-stream" else None,
        batching=work.get("batching", "static" if case.scenario == "generation" else None),
        speculation=work.get("speculation"))


def unlike(a: Record, b: Record, *, ignore: Collection[str] = ()) -> list[str]:
    """Return why two records are not to be compared, a reason a field of `Likeness`; empty: they are alike.

    `ignore` names fields that a comparison may pass over, knowingly.
    """
    one, other = likeness(a), likeness(b)
    checks = [
        *((name, name.replace("_", " ")) for name in ("workload", "size", "task", "scenario")),
        ("item_definition", "what is counted"), ("precision_class", "precision class"), ("sequence", "sequence"),
        ("quality", "quality target"), *_by_scenario(one, other), ("speculation", "speculative decoding")]
    reasons = []
    for field, title in checks:
        mine, theirs = getattr(one, field), getattr(other, field)
        if field in ignore:
            continue
        silent = [r.run_id for r, value in ((a, mine), (b, theirs)) if _unknown(field, value)]
        if silent:
            reasons.append(f"{title} is not stated of {' and '.join(silent)}")
        elif mine != theirs:
            reasons.append(f"{title} differs: {_told(mine)} against {_told(theirs)}")
    return reasons


def _by_scenario(one: Likeness, other: Likeness) -> list[tuple[str, str]]:
    """The fields that count in one scenario alone, where both are of it."""
    if one.scenario != other.scenario:
        return []
    if one.scenario == "server":
        return [("batching", "batching")] if one.batching or other.batching else [("batch_size", "requests at a time")]
    if one.scenario == "single-stream":
        return [("streams", "queries in flight")]
    if one.scenario == "offline" and one.item_definition.endswith("output tokens"):
        return [("batching", "batching")]
    return []


def _unknown(field: str, value: object) -> bool:
    return value == UNSTATED or (value is None and field in ("precision_class", "batching", "batch_size"))


def _told(value: object) -> str:
    return "none" if value is None else str(value)


def _scenario(case: Case) -> str:
    if case.scenario != "generation":
        return case.scenario
    return "single-stream" if case.batch_size == 1 else "offline"


def _items(case: Case, item: str) -> str:
    """What a measured record counts: generation counts the tokens it makes, training those it reads."""
    if item != "token":
        return f"{item}s"
    return "training tokens" if case.task == "training" else "output tokens"


def _sequence(record: Record) -> str | None:
    """The published text, or a measured case's prompt and new tokens; UNSTATED where it is not known."""
    case, work = record.case, record.work
    if "sequence" in work:
        return UNSTATED if work["sequence"] is None and work.get("sequence_reason") else work["sequence"]
    if case.seq_len is None:
        return None
    new = case.options.get("new_tokens") if case.scenario == "generation" else None
    return f"{case.seq_len}/{new}" if new else str(case.seq_len)
