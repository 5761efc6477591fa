"""One record's money in full: every normalised number or why not, the ledger priced, job length, a rival."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench.catalog.prices import BASES
from bench.cost import ledger
from bench.cost.amortise import Job, crossover
from bench.cost.breakeven import BreakEven, break_even
from bench.cost.normalise import items_name, throughput
from bench.cost.rate import rate
from bench.record import Record
from bench.report import text
from bench.report.cells import Cells
from bench.report.money import Money
from bench.report.terminal import print_list, print_table

if TYPE_CHECKING:
    from rich.console import Console

JOBS_S = {"1 minute": 60.0, "10 minutes": 600.0, "1 hour": 3600.0, "1 day": 86400.0, "30 days": 2592000.0}


def render_costs(record: Record, money: Money, console: Console, rival: Record | None = None) -> None:
    """Print a record's money on the terms given, and against a rival where one is named."""
    print_list(console, "Price", _rate_lines(record, money))
    print_table(console, _amounts(record, money), ("source",), title="Per item, per chip, per dollar",
                numeric=frozenset(("value", "low", "high")))
    phases, why = ledger.priced(record, money.of(record).rate)
    print_list(console, "The ledger in USD", [why or "unknown"] if why else
               [f"{phase}: {text.number(usd)}" for phase, usd in phases.items()] +
               [f"wall time: {text.number(sum(usd for phase, usd in phases.items() if phase != 'idle'))}"])
    jobs = _jobs(record, money)
    if jobs:
        print_table(console, jobs, (), title="USD per million, by the length of the job, starting included",
                    numeric=frozenset(jobs[0]) - {"job"})
    if rival is not None:
        print_list(console, f"Against {rival.run_id}", against(record, rival, money))


def _rate_lines(record: Record, money: Money) -> list[str]:
    """The rate under the terms, then under every other basis."""
    own = money.of(record).rate
    lines = [f"{own.basis}: {text.number(own.usd_per_hour)} USD/h"
             f" ({own.instances or 1} x {own.instance_type or 'your machine'}, {own.price_id})"
             if own.usd_per_hour is not None else f"{own.basis}: not known: {own.reason}"]
    if own.share is not None and own.share < 1:
        lines.append(f"{own.share * 100:.3g} % of the chips were used; the whole bill is "
                     f"{text.number(own.whole_usd_per_hour)} USD/h (--attribution instance)")
    lines += [*([own.assumption] if own.assumption else []), *own.notes,
              *(["too old to be relied on: `trnbench price refresh`"] if own.stale else [])]
    for basis in BASES:
        if basis in ("user", own.basis):
            continue
        other = rate(record, replace(money.terms, basis=basis, usd_per_hour=None), money.book)
        if other.usd_per_hour is not None:
            lines.append(f"{basis}: {text.number(other.usd_per_hour)} USD/h ({other.price_id}"
                         f"{', stale' if other.stale else ''})")
    return list(map(text.plain, lines))


def _amounts(record: Record, money: Money) -> list[Cells]:
    return [{"number": text.plain(a.name), "value": text.number(a.value), "low": text.number(a.low),
             "high": text.number(a.high), "unit": text.plain(a.unit),
             "source": text.plain((a.reason if a.value is None else a.source) or "")}
            for a in money.of(record).amounts.values()]


def _job(record: Record, money: Money, cache: str) -> Job | None:
    own, tp = money.of(record).rate, throughput(record)
    fixed_s, _ = ledger.fixed_seconds(record, cache)
    if record.status != "valid" or own.usd_per_hour is None or not tp or not tp.value or fixed_s is None:
        return None
    return Job(usd_per_hour=own.usd_per_hour, fixed_s=fixed_s, items_per_second=tp.value)


def _jobs(record: Record, money: Money) -> list[Cells]:
    """A row a length of job: what a million items cost when the compiler's cache is cold and when it is warm."""
    jobs = {cache: _job(record, money, cache) for cache in ("cold", "warm")}
    if not any(jobs.values()):
        return []
    rows = []
    for name, length_s in JOBS_S.items():
        row = {"job": name}
        for cache, job in jobs.items():
            made = (length_s - job.fixed_s) * job.items_per_second if job else 0
            row[f"{cache} cache"] = text.number(job.usd_per_million(made)) if job and made >= 1 else text.UNKNOWN
        rows.append(row)
    return rows


def against(record: Record, rival: Record, money: Money) -> list[str]:
    """Return what holds a record against a rival: cost ratio, what flips it, and from which job length on."""
    found = break_even(record, rival, money.terms, money.book)
    lines = _flips(found) if found.ratio is not None else [f"no ratio: {found.reason}"]
    if not found.by_basis:
        return list(map(text.plain, lines))
    lines += [f"{basis}: {ratio:.3f}" if ratio is not None else f"{basis}: not known: {why}"
              for basis, ratio, why in found.by_basis]
    for cache in ("cold", "warm"):
        mine, theirs = _job(record, money, cache), _job(rival, money, cache)
        if mine and theirs:
            lines.append(f"with a {cache} compile cache: {_by_length(record, rival, mine, theirs)}")
    return list(map(text.plain, lines))


def _flips(found: BreakEven) -> list[str]:
    assert found.ratio is not None
    assert found.utilisation is not None
    bounds = (f" (95 %: {found.low:.3f} to {found.high:.3f})" if found.low is not None and found.high is not None
              else " (no interval: one side has none)")
    price = f"{text.number(found.usd_per_hour)} USD/h"
    if found.usd_per_hour_low is not None and found.usd_per_hour_high is not None:
        price += f" ({text.number(found.usd_per_hour_low)} to {text.number(found.usd_per_hour_high)})"
    used = (f"it must be busy {text.in_percent(found.utilisation)} of its paid hours to cost no more, the rival always"
            if found.utilisation <= 1 else "it costs more even when it is always busy")
    return [f"the rival's cost per item over this one's: {found.ratio:.3f}{bounds}; above 1 this one is cheaper",
            f"both cost the same at {price} for this one", used]


def _by_length(record: Record, rival: Record, mine: Job, theirs: Job) -> str:
    found = crossover(mine, theirs)
    named = {"first": record.run_id, "second": rival.run_id}
    if found.items is None:
        return f"{named[found.above]} is cheaper at any length of job"
    return (f"{named[found.below]} is cheaper below {text.number(found.items)} {items_name(record)}, "
            f"{named[found.above]} above")
