"""Two cases held against one another in one run: in one process where they can share it, else A B B A."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.case import Case, Effort
from bench.measure.summarise import per_item
from bench.parallel import refuse
from bench.registry import load_backend
from bench.runner import Session, Tell, ask, scratch_folder
from bench.stats.intervals import typical_round
from bench.stats.ratio import paired_children


def compare_cases(cases: Sequence[Case], effort: Effort, *, margin: float, separate: bool = False,
                  tell: Tell) -> dict[str, Any]:
    """Return {"status", "reasons", "ratio", "answer", "per", "pairs", "method", "parity", "warnings", "a", "b"}.

    `ratio` is B's time over A's, {"value", "low", "high"}; `a` and `b` are the raw ns, pair by pair.
    Of two tiers it is refused.
    """
    tiers = {load_backend(case.backend).tier for case in cases}
    if len(tiers) > 1:
        return {"status": "unsupported", "reasons": ["emulated times are held against emulated ones alone, and the "
                                                     "other side is measured"]}
    session = Session(effort=effort, tell=tell)
    settings = [load_backend(case.backend).fixed(case) for case in cases]
    refused = [reason for case in cases for backend in [load_backend(case.backend)]
               if (reason := backend.refuse(case) or refuse(case, backend))]
    if refused:
        return {"status": "unsupported", "reasons": refused}
    with scratch_folder() as scratch:
        told = _alternated if not separate and _can_share(cases, settings, scratch) else _abba
        found = told(cases, settings, session, scratch, margin)
    if found["status"] == "valid":
        unchecked = [name for name, check in zip("AB", found["parity"], strict=True) if check["status"] == "unchecked"]
        found["warnings"] += [f"parity of {' and '.join(unchecked)} is unchecked: this host made no float32 reference"
                              ] if unchecked else []
        found["warnings"] += ["emulated: this says nothing of any device"] if tiers == {"emulated"} else []
    return found


def _can_share(cases: Sequence[Case], settings: Sequence[dict[str, Any]], scratch: str) -> bool:
    """One process has one device family, one task (gradients on or off), one environment, and is no rank."""
    if max(case.ranks for case in cases) > 1:
        return False
    environments = [load_backend(case.backend).environment(case, chosen, scratch)
                    for case, chosen in zip(cases, settings, strict=True)]
    return (cases[0].backend, cases[0].task) == (cases[1].backend, cases[1].task) and environments[0] == environments[1]


def _alternated(cases: Sequence[Case], settings: Sequence[dict[str, Any]], session: Session, scratch: str,
                margin: float) -> dict[str, Any]:
    request = {"role": "ab", "cases": [case.to_json() for case in cases], "settings": list(settings), "margin": margin}
    found = ask(request, cases[0], session, settings[0], scratch, "A and B")
    if found["status"] != "valid":
        return {"status": found["status"], "reasons": [found["reason"]]}
    decision = found["decision"]
    seen = found["disturbance"]
    return {"status": "valid", "reasons": [], "per": found["per"], "pairs": len(found["a"]),
            "ratio": {key: decision[key] for key in ("value", "low", "high")},
            "answer": _answer(decision["state"], decision["value"], decision["low"], decision["high"], margin),
            "method": "alternated in one process, random order", "parity": found["parity"],
            "warnings": [f"disturbed: {why}" for why in seen["why"]],
            "a": found["a"], "b": found["b"], "steps_per_round": found["steps_per_round"]}


def _abba(cases: Sequence[Case], settings: Sequence[dict[str, Any]], session: Session, scratch: str,
          margin: float) -> dict[str, Any]:
    """Children of their own in the order A B B A A B ...: two of each for each repeat."""
    times: tuple[list[float], list[float]] = ([], [])
    works: list[dict[str, Any]] = [{}, {}]
    checks: list[dict[str, Any]] = [{}, {}]
    warnings = []
    for case, chosen in zip(cases, settings, strict=True):
        failed = _left_reference(case, chosen, session, _folder(scratch, case))
        if failed:
            return failed
    for pair in range(2 * session.effort.repeats):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            case = cases[side]
            request = {"role": "measure", "case": case.to_json(), "settings": settings[side], "full": False}
            name = f"{'AB'[side]} {pair + 1} of {2 * session.effort.repeats}"
            found = ask(request, case, session, settings[side], str(_folder(scratch, case)), name, index=pair)
            if found["status"] != "valid":
                return {"status": found["status"], "reasons": [f"{name}: {found['reason']}"]}
            if found["canary"]["reasons"]:
                return {"status": "invalid", "reasons": [f"{name}: {found['canary']['reasons'][0]}"]}
            if found["parity"]["status"] == "failed":
                return {"status": "invalid", "reasons": [f"{name}: parity: {found['parity']['reason']}"]}
            times[side].append(typical_round(found["samples_ns"], found.get("streams", ())) / found["steps_per_round"])
            works[side], checks[side] = found["work"], found["parity"]
            warnings += [f"{name} was disturbed: {why}" for why in found["disturbance"]["why"]]
    per, scale = per_item(works[0], works[1])
    ratio = paired_children(times[0], [ns * scale for ns in times[1]], margin=margin)
    state = "continue" if ratio.verdict == "cant_tell" else ratio.verdict
    return {"status": "valid", "reasons": [], "per": per, "pairs": len(times[0]),
            "ratio": {"value": ratio.value, "low": ratio.low, "high": ratio.high},
            "answer": _answer(state, ratio.value, ratio.low, ratio.high, margin), "method": ratio.method,
            "parity": checks, "warnings": warnings, "a": times[0], "b": times[1], "steps_per_round": 1}


def _folder(scratch: str, case: Case) -> Path:
    """Of the sides that do the same work, in which they find the same reference."""
    return Path(scratch, case.work_id)


def _left_reference(case: Case, settings: dict[str, Any], session: Session, folder: Path) -> dict[str, Any] | None:
    """Have a side's float32 reference left in its folder, unless the other side's is there; the result if it fails."""
    if folder.exists():
        return None
    folder.mkdir()
    request = {"role": "scout", "case": case.to_json(), "settings": settings}
    found = ask(request, case, session, settings, str(folder), "preparing")
    return None if found["status"] == "valid" else {"status": found["status"], "reasons": [found["reason"]]}


def _answer(state: str, value: float, low: float | None, high: float | None, margin: float) -> str:
    """The answer in words: which is faster, none, or what could have been seen."""
    if state == "differs":
        return f"B is {'slower' if value > 1 else 'faster'} by {abs(value - 1):.1%}"
    if state == "same":
        return f"no difference beyond {margin:.1%}"
    if low is None or high is None:
        return "can't tell: too few pairs; pass a larger --max-seconds"
    return f"can't tell: the smallest difference visible here is {max(high / value, value / low) - 1:.1%}"
