"""All that the page shows, as one JSON value. Every number is made here; the page only picks, sorts and formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from bench import __version__
from bench.catalog.chips import chip, known_chip, peak_flops_per_second
from bench.catalog.prices import PriceBook
from bench.cost.normalise import amounts
from bench.cost.terms import Terms
from bench.record import PHASES, TIERS, Record
from bench.report.html.choose import Group, choose, group_of
from bench.report.html.decide import baselines, decide_all, decision_json
from bench.report.html.evidence import PRICES, price_rows, sources_named, verdict_json
from bench.report.html.money import MONEY, money_rows, price_all
from bench.report.html.rows import COLUMNS, group_json, page_row, phases, roofline
from bench.report.html.texts import Texts, short
from bench.store import Problem

if TYPE_CHECKING:
    from bench.claims.verdict import Verdict

SCHEMA_VERSION = "trnbench.page/1"


def page_data(records: Sequence[Record], *, book: PriceBook, terms: Terms, verdicts: Sequence[Verdict],
              problems: Sequence[Problem], baseline: str | None = None) -> dict[str, Any]:
    """Return the page's data. `texts` holds every text that others point at by number."""
    texts = Texts()
    shown = choose(records, sources_named(verdicts))
    groups: dict[Group, int] = {}
    numbers = [groups.setdefault(group_of(record), len(groups)) for record in shown]
    members: dict[int, list[int]] = {}
    for row, group in enumerate(numbers):
        members.setdefault(group, []).append(row)
    named = list(groups)
    money = price_all(shown, terms, book)
    base = {basis: baselines(baseline, members, shown, rows) for basis, rows in money.items()}
    decided = decide_all(named, members, shown, money)
    rows_by_run = {record.run_id: row for row, record in enumerate(shown)}
    active = money[terms.basis]
    counts = Counter(record.tier for record in records)
    return {
        "schema_version": SCHEMA_VERSION, "tool": f"trnbench {__version__}", "made": date.today().isoformat(),
        "terms": terms.to_json(), "baseline": baseline,
        "tiers": [[tier, counts[tier]] for tier in TIERS if counts[tier]],
        "columns": COLUMNS, "money_columns": MONEY, "price_columns": PRICES, "phase_names": PHASES,
        "rows": [page_row(record, group, amounts(record, own.rate), texts)
                 for record, group, own in zip(shown, numbers, active, strict=True)],
        "groups": [group_json(group, shown[members[i][0]], texts) for i, group in enumerate(named)],
        "bases": list(money),
        "money": {basis: money_rows(rows, base[basis], texts) for basis, rows in money.items()},
        "decisions": {basis: [decision_json(d, texts) for d in found] for basis, found in decided.items()},
        "roofline": _rooflines(shown), "phases": _phases(shown),
        "verdicts": [verdict_json(verdict, rows_by_run, texts) for verdict in verdicts],
        "prices": price_rows(book, texts),
        "problems": [f"{problem.path}: {problem.reason}" for problem in problems],
        "hidden": len(records) - len(shown), "texts": texts.all(),
    }


def _rooflines(records: Sequence[Record]) -> dict[str, Any]:
    """{"points": [...], "roofs": [...], "unplaced": results with FLOPs but without counted bytes}."""
    points = [{"row": row, **at} for row, record in enumerate(records) if (at := roofline(record))]
    placed = {(point["chip"], point["dtype"]) for point in points if known_chip(point["chip"])}
    unplaced = sum(1 for r in records if r.status == "valid" and r.work.get("flops_per_step")
                   and not r.work.get("bytes_per_step"))
    return {"points": points, "roofs": [_roof(*pair) for pair in sorted(placed)], "unplaced": unplaced}


def _roof(chip_id: str, dtype: str) -> dict[str, Any]:
    """A chip's dense peak in FLOP/s and its bandwidth in bytes/s, None where not published."""
    facts, (peak, source) = chip(chip_id), peak_flops_per_second(chip_id, dtype)
    gb = facts.memory_bandwidth_gb_per_second
    return {"name": facts.name, "dtype": dtype, "peak": short(peak), "source": source,
            "bytes_per_second": None if gb is None else short(gb * 1e9)}


def _phases(records: Sequence[Record]) -> list[list[Any]]:
    """[row, seconds by phase] of runs that kept a ledger, the longest first."""
    found = [[row, spent] for row, record in enumerate(records) if (spent := phases(record))]
    return sorted(found, key=lambda one: -sum(one[1]))
