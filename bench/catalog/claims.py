"""Claims: what vendors and others say of chips, each with what would have to be so for it to hold.

A claim is one table of claims.toml. Its parts say which results may speak for the subject, which for
the baseline, by which metric they are held against one another, and how large the ratio has to be.
Results are chosen by what they are (chip, instance, workload, tier), never by name, so that a new
result counts without a change here. A user's own claims come in a file of the same form.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from bench.case import TASKS
from bench.catalog.alike import Likeness
from bench.catalog.chips import chips
from bench.catalog.instances import instances
from bench.catalog.prices import BASES
from bench.catalog.rows import shipped
from bench.errors import BenchError, nearest
from bench.record import TIERS

FILE = "claims.toml"

SCOPES = {
    "test": "judged by its parts",
    "listing": "answered by listing who submitted results to a benchmark",
    "out": "out of scope: no measurement can speak to it",
    "projection": "out of scope: a chip that is not released",
    "unnamed": "not comparable: the baseline or the workload is not named",
    "untested": "insufficient evidence: nothing is published, and it cannot be tested at this scale",
}
"""What can be done with a claim. All but "test" say why in `reason`."""

METRICS = ("usd_per_item", "throughput", "throughput_per_instance", "throughput_per_chip", "latency",
           "joules_per_item", "peak")
"""What a part is judged by. "peak": a number of the data sheets, where nothing is measured."""

PRECISIONS = ("fp32", "tf32", "16-bit", "fp8", "int8", "4-bit")
ITEMS = ("sample", "image", "token", "run")
PEAKS = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4")
QUANTITIES = (*PEAKS, "memory", "memory_bandwidth")
LIKENESS = tuple(f.name for f in dataclasses.fields(Likeness))
"""In what two results must be alike; a part may say which of them it does not ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which results stand on one side: all that is given must fit; of several names, one. Empty: any.

    `instances` are types ("inf1.xlarge") or families ("inf1").
    """

    chips: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One number that is claimed. `ratio`: what the subject must reach, above 1 where it is better.

    `claimed` is the wording. `up_to`: the best pair is to reach it; `average`: the mean of the pairs; else
    every pair. Empty lists of the scope (`tasks`, `workloads` as name or name:size, ...) allow any. `basis`:
    on which the part is judged where its results have no other price. `attribution`: "chips", as a result
    of "1 GPU" is priced by its share of a machine, or else the whole of one side would stand against a
    share of the other. `ignore`: likeness that the claim itself does not ask for.
    `same_instances`: only systems of equally many whole instances. `priced_as`: the instance whose price
    the baseline pays, whatever it ran on. `stand_in`: why the part is no test of the claim; it is shown and
    changes no answer. Of a "peak": `quantities`, and how many chips each side has.
    """

    name: str
    metric: str
    claimed: str
    ratio: float
    up_to: bool
    average: bool = False
    subject: Selector
    baseline: Selector
    tasks: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()
    basis: str | None = None
    attribution: str | None = "chips"
    ignore: tuple[str, ...] = ()
    same_instances: bool = False
    priced_as: str | None = None
    quantities: tuple[str, ...] = ()
    subject_count: int = 1
    baseline_count: int = 1
    stand_in: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A claim that somebody does not submit `chips` to the benchmark that `publisher` runs."""

    publisher: str
    chips: tuple[str, ...]
    submitters: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is claimed, by whom and when. `source`: publisher, url and date, as far as they are known."""

    id: str
    title: str
    statement: str
    source: dict[str, str]
    scope: str = "test"
    reason: str | None = None
    parts: tuple[Part, ...] = ()
    listing: Listing | None = None
    notes: tuple[str, ...] = field(default=())


@functools.cache
def shipped_claims() -> tuple[Claim, ...]:
    """Return the claims that come with the catalog, in order of their ids."""
    return _parse(shipped(FILE), FILE)


def load_claims(path: str | Path) -> tuple[Claim, ...]:
    """Return the claims of a user's TOML file; BenchError names the file, the claim, the key and what is wrong."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BenchError(f"{path} could not be read: {why}.",
                         fix="name a TOML file of claims that you may read.") from None
    return _parse(text, str(path))


@dataclass(frozen=True, slots=True)
class _Table:
    """A TOML table with the place that an error names."""

    place: str
    values: dict[str, Any]

    def wrong(self, key: str, what: str, fix: str | None = None) -> NoReturn:
        raise BenchError(f"{self.place}, {key}: {what}.",
                         fix=fix or "mend that key; the claims that come with trnbench are of the same form.")

    def only(self, known: Sequence[str]) -> None:
        for key in self.values:
            if key not in known:
                self.wrong(key, f"there is no such key.{nearest(key, known)}".rstrip("."),
                           f"its keys are {', '.join(known)}.")

    def text(self, key: str) -> str:
        found = self.values.get(key)
        if not isinstance(found, str) or not found.strip():
            self.wrong(key, "a text is missing" if found is None else f"it must be a text, got {found!r}")
        return found.strip()

    def maybe_text(self, key: str) -> str | None:
        return self.text(key) if key in self.values else None

    def texts(self, key: str, known: Sequence[str] = ()) -> tuple[str, ...]:
        """A list of texts, each of them in `known` if that is given."""
        found = self.values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(name, str) and name for name in found):
            self.wrong(key, f"it must be a list of texts, got {found!r}")
        for name in found:
            if known and name not in known:
                self.wrong(key, f"{name!r} is not known.{nearest(name, known)}".rstrip("."),
                           f"choose from {', '.join(known)}." if len(known) < 20 else None)
        return tuple(found)

    def one_of(self, key: str, known: Sequence[str], default: str | None = None) -> str:
        if key not in self.values and default is not None:
            return default
        name = self.text(key)
        if name not in known:
            self.wrong(key, f"{name!r} is not known.{nearest(name, known)}".rstrip("."),
                       f"choose from {', '.join(known)}.")
        return name

    def flag(self, key: str) -> bool:
        found = self.values.get(key, False)
        if not isinstance(found, bool):
            self.wrong(key, f"it must be true or false, got {found!r}")
        return found

    def count(self, key: str) -> int:
        found = self.values.get(key, 1)
        if type(found) is not int or found < 1:
            self.wrong(key, f"it must be a whole number of at least 1, got {found!r}")
        return found

    def table(self, key: str) -> _Table:
        found = self.values.get(key)
        if not isinstance(found, dict):
            self.wrong(key, "a table is missing" if found is None else f"it must be a table, got {found!r}")
        return _Table(f"{self.place}, {key}", found)

    def tables(self, key: str) -> list[_Table]:
        found = self.values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            self.wrong(key, "it must be a list of tables")
        return [_Table(f"{self.place}, {key} {number}", item) for number, item in enumerate(found, 1)]


def _parse(text: str, file: str) -> tuple[Claim, ...]:
    try:
        top = _Table(file, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BenchError(f"{file} is not TOML: {error}.", fix=f"mend {file}.") from None
    top.only(("claims",))
    found = [_claim(table, file) for table in top.tables("claims")]
    if not found:
        raise BenchError(f"{file} has no claims.", fix="write a table [[claims]] for each.")
    ids = [claim.id for claim in found]
    for twice in sorted({name for name in ids if ids.count(name) > 1}):
        raise BenchError(f"{file}, claim {twice}: it is there twice.", fix="give each claim an id of its own.")
    return tuple(found)


def _claim(table: _Table, file: str) -> Claim:
    table = _Table(f"{file}, claim {table.values.get('id') or table.place.rsplit(' ', 1)[-1]}", table.values)
    table.only(("id", "title", "statement", "source", "scope", "reason", "parts", "listing", "notes"))
    scope = table.one_of("scope", tuple(SCOPES), "test")
    source = table.table("source")
    source.only(("publisher", "url", "date"))
    parts = tuple(_part(part) for part in table.tables("parts"))
    if (scope == "test") != bool(parts):
        table.wrong("parts", "a claim that is tested needs one" if not parts else f"scope {scope!r} has none")
    return Claim(id=table.text("id"), title=table.text("title"), statement=table.text("statement"), scope=scope,
                 source={"publisher": source.text("publisher")} | {key: source.text(key) for key in ("url", "date")
                                                                   if key in source.values},
                 reason=None if scope == "test" else table.text("reason"), parts=parts,
                 listing=_listing(table.table("listing")) if scope == "listing" else None,
                 notes=table.texts("notes"))


def _listing(table: _Table) -> Listing:
    table.only(("publisher", "chips", "submitters"))
    for key in ("chips", "submitters"):
        if not table.values.get(key):
            table.wrong(key, "it must name at least one")
    return Listing(publisher=table.text("publisher"), chips=table.texts("chips", _chip_ids()),
                   submitters=table.texts("submitters"))


_PART_KEYS = ("name", "metric", "claimed", "times", "saving_percent", "more_percent", "up_to", "average", "subject",
              "baseline", "tasks", "workloads", "items", "scenarios", "precisions", "sequences", "basis", "attribution",
              "ignore", "same_instances", "priced_as", "quantities", "subject_count", "baseline_count", "stand_in",
              "note")


def _part(table: _Table) -> Part:
    table.only(_PART_KEYS)
    part = Part(
        name=table.text("name"), metric=table.one_of("metric", METRICS), claimed=table.text("claimed"),
        ratio=_ratio(table), up_to=table.flag("up_to"), average=table.flag("average"),
        subject=_selector(table.table("subject")), baseline=_selector(table.table("baseline")),
        tasks=table.texts("tasks", TASKS), workloads=table.texts("workloads"), items=table.texts("items", ITEMS),
        scenarios=table.texts("scenarios"),
        precisions=table.texts("precisions", PRECISIONS), sequences=table.texts("sequences"),
        basis=table.one_of("basis", BASES) if "basis" in table.values else None,
        attribution=table.one_of("attribution", ("instance", "chips"), "chips"),
        ignore=table.texts("ignore", LIKENESS), same_instances=table.flag("same_instances"),
        priced_as=table.one_of("priced_as", _types()) if "priced_as" in table.values else None,
        quantities=table.texts("quantities", QUANTITIES), subject_count=table.count("subject_count"),
        baseline_count=table.count("baseline_count"), stand_in=table.maybe_text("stand_in"),
        note=table.maybe_text("note"))
    _check_peak(table, part)
    return part


def _check_peak(table: _Table, part: Part) -> None:
    """A data-sheet part names one chip on each side and what of it is meant; others name no quantity."""
    if part.metric != "peak":
        if part.quantities:
            table.wrong("quantities", "only the metric peak has them")
        return
    for key, selector in (("subject", part.subject), ("baseline", part.baseline)):
        if len(selector.chips) != 1:
            table.wrong(f"{key}.chips", "the metric peak needs exactly one chip")
    if not part.quantities:
        table.wrong("quantities", "the metric peak needs at least one", f"choose from {', '.join(QUANTITIES)}.")


_RATIOS: dict[str, Callable[[float], float]] = {
    "times": lambda times: times,
    "saving_percent": lambda percent: 1 / (1 - percent / 100),
    "more_percent": lambda percent: 1 + percent / 100,
}
"""How a claimed number becomes the ratio to reach: 40 % less cost is 1 / (1 - 0.4), 30 % more work 1.3."""


def _ratio(table: _Table) -> float:
    given = [key for key in _RATIOS if key in table.values]
    if len(given) != 1:
        table.wrong("times", "exactly one of times, saving_percent and more_percent is needed",
                    "write times = 2.3, saving_percent = 40 or more_percent = 30.")
    value = table.values[given[0]]
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        table.wrong(given[0], f"it must be a number of at least 0, got {value!r}")
    if given[0] == "saving_percent" and value >= 100:
        table.wrong(given[0], f"nobody saves {value:g} %")
    ratio = _RATIOS[given[0]](value)
    if ratio < 1:
        table.wrong(given[0], f"the ratio must be at least 1, got {ratio:g}",
                    "name the better side as the subject, so that the ratio is above 1.")
    return ratio


def _selector(table: _Table) -> Selector:
    table.only(("chips", "vendors", "instances", "tiers"))
    if not table.values:
        table.wrong("chips", "a side must be named", "give chips, vendors or instances.")
    return Selector(chips=table.texts("chips", _chip_ids()), vendors=table.texts("vendors", _vendors()),
                    instances=table.texts("instances", _types_and_families()), tiers=table.texts("tiers", TIERS))


@functools.cache
def _chip_ids() -> tuple[str, ...]:
    return tuple(chip.id for chip in chips())


@functools.cache
def _vendors() -> tuple[str, ...]:
    return tuple(sorted({chip.vendor for chip in chips()}))


@functools.cache
def _types() -> tuple[str, ...]:
    return tuple(instance.type for instance in instances())


@functools.cache
def _types_and_families() -> tuple[str, ...]:
    return (*_types(), *sorted({name.partition(".")[0] for name in _types() if "." in name}))
