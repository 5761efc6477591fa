"""`--fail-if "throughput<-5%"`: a comparison as a yes or no for a script, never on a guess."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import BenchError, nearest
from bench.report.children import PERCENTILES
from bench.report.compare import Change, Comparison, change, main_name
from bench.report.cost_change import cost_change, is_cost
from bench.report.match import Pair
from bench.report.money import Money
from bench.report.text import in_percent

GRAMMAR = re.compile(r"\s*([a-z][a-z0-9_]*)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*%\s*")

ALIASES = {f"latency_{p}": f"latency_ms_{p}" for p in PERCENTILES} | {
    "ttft": "ttft_ms_p50", "tpot": "tpot_ms_p50", "itl": "itl_ms_p50", "memory": "peak_memory_bytes",
    "compile": "compile_s"}
SHORT = ("throughput", "latency", *ALIASES)


@dataclass(frozen=True, slots=True)
class Gate:
    """Fails a change of `metric` by less (or more) than `threshold`, a share: -0.05 is -5 %."""

    text: str
    metric: str
    below: bool
    threshold: float

    def passed_by(self, relative: float) -> bool:
        """Whether a change lies beyond the threshold."""
        return relative < self.threshold if self.below else relative > self.threshold


@dataclass(frozen=True, slots=True)
class Finding:
    """What a gate says of one pair: `outcome` is "fails", "holds" or "cant_tell"."""

    gate: Gate
    pair: Pair
    change: Change
    outcome: str
    text: str


def parse_gate(text: str) -> Gate:
    """Return the gate that METRIC < or > SIGNED PERCENT names; BenchError for anything else."""
    found = GRAMMAR.fullmatch(text)
    if not found:
        raise BenchError(f"--fail-if {text!r} is not METRIC<PERCENT or METRIC>PERCENT.",
                         fix='write it like "throughput<-5%" or "latency_p99>10%", in quotes; '
                             f"metrics: {', '.join(SHORT)}, usd_per_1m_<items>, usd_per_step, "
                             "or a metric's exact name.")
    metric, sign, percent = found.groups()
    threshold = float(percent) / 100
    if (threshold > 0) if sign == "<" else (threshold < 0):
        likely = f"{metric}{sign}{'-' if sign == '<' else ''}{percent.lstrip('+-')}%"
        raise BenchError(f"--fail-if {text!r} would fail where nothing has changed.",
                         fix=f'did you mean "{likely}"?')
    return Gate(text.strip(), metric, sign == "<", threshold)


def judge(gates: Sequence[Gate], comparison: Comparison, money: Money | None = None) -> list[Finding]:
    """Return what each gate says of each pair; BenchError for a metric that no pair has.

    `money` prices both sides on one set of terms, for gates on `usd_per_...`.

    A gate fails where the change lies beyond its threshold and its 95 % interval excludes "no change".
    It holds where that whole interval lies on the near side of the threshold. Else it says "can't
    tell", which is no failure.
    """
    findings = []
    for gate in gates:
        own = [_find(gate, row.pair, money) for row in comparison.rows]
        if own and not is_cost(gate.metric) and all(f.change.base is None and f.change.new is None for f in own):
            _refuse_unknown(gate.metric, [row.pair for row in comparison.rows])
        findings += own
    return findings


def _refuse_unknown(metric: str, pairs: Sequence[Pair]) -> None:
    found = {m.name for pair in pairs for record in (pair.base, pair.new) for m in record.metrics}
    names = [*SHORT, *sorted(found), "peak_memory_bytes"]
    if metric not in names:
        raise BenchError(f"No record here has a metric {metric!r}.{nearest(metric, names)}",
                         fix=f"name one of: {', '.join(names)}.")


def _find(gate: Gate, pair: Pair, money: Money | None) -> Finding:
    if money is not None and is_cost(gate.metric):
        found = cost_change(pair.base, pair.new, gate.metric, money)
    else:
        found = change(pair.base, pair.new, _exact(gate.metric, pair))
    outcome, text = _outcome(gate, found)
    return Finding(gate, pair, found, outcome, text)


def _outcome(gate: Gate, found: Change) -> tuple[str, str]:
    if found.relative is None:
        return "cant_tell", found.reason or "not known"
    said = f"{found.metric} changed by {found.relative * 100:+.2f} %"
    if gate.passed_by(found.relative) and found.verdict in ("better", "worse"):
        return "fails", said
    least = found.relative_low if gate.below else found.relative_high
    if least is None:
        return "cant_tell", f"{said}, but whether it is real is not known: {found.reason or found.method}"
    if gate.passed_by(found.relative) or gate.passed_by(least):
        visible = found.smallest_visible
        return "cant_tell", said + (", within its interval" if visible is None else
                                    f", but the smallest difference visible here is {in_percent(visible)}")
    return "holds", said


def _exact(name: str, pair: Pair) -> str:
    """A short name as a metric's own; `latency` is a step's time where single queries were not timed."""
    if name == "throughput":
        return f"{pair.base.work.get('item')}s_per_second"
    if name == "latency":
        main = main_name(pair)
        return main if main.startswith("latency") else "step_time_ms"
    return ALIASES.get(name, name)
