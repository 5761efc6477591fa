"""What one child process does: scout a case, measure it, compile it, or alternate two. Torch lives here.

A request and a result are JSON values. `scout` makes the float32 reference and the `auto` choices;
`measure` times one child's share with them; `compile` fills caches ahead; `ab` keeps two cases warm
and alternates them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.case import Case, Effort
from bench.contracts import Backend, Device, Program, Settings, Timed, Work, Workload
from bench.errors import HOST_OOM, CaseFailed
from bench.machine import disturbance, energy
from bench.machine.memory import give_back_freed, host_memory
from bench.measure import parity, tune
from bench.measure.canary import Canary
from bench.measure.ledger import Ledger
from bench.measure.loop import quiet_heap, time_rounds
from bench.measure.summarise import per_item
from bench.parallel import ALONE, Chunk, Ranks, alone, in_parts, is_sharded, shard, share, whole
from bench.registry import load_backend, load_scenario, workload_of
from bench.scenarios._steps import REFERENCE_LOSSES
from bench.stats.pairs import decide, looks
from bench.stats.sampling import narrow_enough, steps_per_round
from bench.stats.steady import drift, steady_from

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_NS = 300_000_000  # between chunks of rounds the harness looks up: narrow enough? out of time?
WARMUP_SHARE = 1.0  # of max_seconds at most, then it is timed as it is, with a warning
SLOW_STEP_NS = 250_000_000  # from here on four steps must show a steady state: twenty would take too long
LOOKS = 20  # at whether it is steady, each time that the warm-up has become a twentieth longer
LEAST_WARMUP_S = 0.5  # twenty quick steps are over before a clock frequency has moved
LEAST_TIMED_S = 2.0  # however narrow: a shorter look sees one mood of a shared machine
LEAST_ROUNDS = 3
AT_ONCE_S = 1e-6  # a warm-up as short as can be: the first steps and one more
NEEDED = {"training": ("batches", "optimizer"), "generation": ("inputs", "prefill", "decode")}
"""Parts of a `Program` that a scenario cannot do without."""

ON_HOST = "host"
"""A device's word for its energy where the host's CPU is the device: its packages' counters count."""

NO_ENERGY = {"joules": None, "method": None, "reason": "the backend does not say what energy its device uses"}

REFERENCE_BYTES_PER_WEIGHT = {"inference": 4.5, "training": 18.0}
"""Float32 weights with some activations; training adds gradients and two AdamW moments."""

REFERENCE_RATE = 0.5
"""Of a bare float32 product's FLOP/s, what a model's steps reach on a host: BERT-base, ResNet-50 and ViT 0.56 to 0.76
on one core of an EPYC 9004, 0.4 where others share it."""

REFERENCE_SHARE = 0.5
"""Of the timeout, what the reference may take: the rest is for building the model, twice, and for trials."""

RATE_SECONDS = 2.0
PRODUCT_SECONDS = 0.02


def scout(case: Case, effort: Effort, settings: Settings, ledger: Ledger, scratch: Path) -> dict[str, Any]:
    """Make the reference and the `auto` choices; return {"settings", "tuning", "parity", "work"}.

    The reference goes to `scratch`/reference.pt for the measured children. Where the machine cannot
    hold it, {"parity": {"status": "unchecked", "reason"}} says so.
    """
    import torch  # noqa: F401 - in phase "start"

    workload, backend = workload_of(case), load_backend(case.backend)
    work = _work_of(workload, case)
    ledger.enter("load")
    program = _built(workload, case)
    # What needs several devices cannot be tried on one; of ranks that train one tries its share by itself.
    axes = {} if workload.parallelism != "dp=1" else backend.axes(case, program)
    notes = []
    if axes and is_sharded(case):
        notes = [f"nothing was tried for {case.parallelism}: a trial has one device, and there the model is not in "
                 f"shards; {', '.join(f'{axis}={settings[axis]}' for axis in axes)} is the first guess"]
        axes = {}
    ledger.enter("check")
    unchecked = _make_reference(case, in_parts(program, case), work, scratch / "reference.pt",
                                limit_s=REFERENCE_SHARE * effort.timeout_s)
    del program  # the reference has moved its weights in training, and two would not fit where one does
    tuning: dict[str, Any] = {"settings": dict(settings), "trials": [], "notes": notes}
    if axes:
        ledger.enter("load")
        program = share(_built(workload, case), case, 0)
        ledger.enter("tune")
        tuning = tune.choose(axes, settings, max_seconds=effort.max_seconds,
                             trial=lambda chosen: _trial(backend, alone(case), chosen, program, work))
    everyone = Ranks(size=case.ranks)
    return {"settings": tuning.pop("settings"), "tuning": tuning, "work": _work_json(everyone.all_of(work)),
            "parity": {"status": "unchecked", "reason": unchecked} if unchecked else {}}


def measure(case: Case, effort: Effort, settings: Settings, ledger: Ledger, scratch: Path, *,
            full: bool, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Time one child's rounds; return its raw times with everything that speaks for or against them.

    In a rank of a parallel case: that rank's.
    """
    import torch  # noqa: F401 - in phase "start"

    ledger.enter("load")
    warnings = _imported(case)
    with contextlib.closing(load_backend(case.backend).open(case, settings)) as device:
        opened = device.compiles()
        ranks.prove(device)
        timed, work, prepared_s = _prepared(case, device, ledger, ranks)
        ledger.enter("check")
        canary = Canary(device, case.dtype)
        canary_result = canary.before()
        ledger.enter("warmup")
        with quiet_heap():
            give_back_freed()
            warm = warm_up(device, timed, effort, ledger, _reference(scratch), full=full, ranks=ranks)
            result = timed_part(case, device, timed, effort, ledger, warm["step_ns"], ranks=ranks)
        ledger.enter("check")
        peaks, unseen = _peaks(case, canary, copies=work.bytes is not None)
        canary_result |= peaks
        evidence = warm.pop("evidence")
        evidence = ranks.mean(evidence) if case.task == "training" else evidence
        checked = _checked(case, timed, evidence, _reference(scratch))
        report = _reported(device)
        graphs = device.compiles() - opened
        ledger.enter("teardown")
    report["energy"] = _energy(report.pop("energy", None), result["energy"])
    report["compile"] |= {"seconds": _compile_s(prepared_s, warm.pop("compile_s")), "graphs": graphs}
    result["warnings"] = warnings + result["warnings"] + unseen + report.pop("warnings")
    return result | report | {"canary": canary_result, "parity": checked, "warmup": warm,
                              "work": _work_json(ranks.all_of(work)),
                              "stream": ranks.size > 1 and not ranks.together}


def precompile(case: Case, settings: Settings, ledger: Ledger, *, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Compile what `measure` would run and time nothing; return {"compile"}. What is kept is the backend's business."""
    import torch  # noqa: F401 - in phase "start"

    ledger.enter("load")
    _imported(case)
    with contextlib.closing(load_backend(case.backend).open(case, settings)) as device:
        opened = device.compiles()
        timed, _, prepared_s = _prepared(case, device, ledger, ranks)
        ledger.enter("check")
        Canary(device, case.dtype).before()
        ledger.enter("warmup")
        warm = warm_up(device, timed, Effort(max_seconds=AT_ONCE_S), ledger, None, full=False, ranks=ranks)
        found = dict(device.report()["compile"])
        graphs = device.compiles() - opened
        ledger.enter("teardown")
    return {"compile": found | {"seconds": _compile_s(prepared_s, warm["compile_s"]), "graphs": graphs}}


def alternate(cases: Sequence[Case], effort: Effort, settings: Sequence[Settings], ledger: Ledger, scratch: Path, *,
              margin: float) -> dict[str, Any]:
    """Keep two cases warm and time them in pairs, the order random within each, until the answer is clear.

    Returns raw times {"a", "b"} in ns a step, pair by pair, and the last `decision` on their ratios
    (b over a, each per item where both count the same items). Both sides run in rounds of equally
    many steps. The order is drawn anew in every run: a fixed one could keep step with something else
    on the machine. CaseFailed where a side's output is not that of its float32 reference.
    """
    sides, works, checks = [], [], []
    # torch counts a process's devices at the first backward pass, which is a reference's: later ones it does not know.
    load_backend(cases[0].backend).open(cases[0], settings[0]).close()
    for case, chosen in zip(cases, settings, strict=True):
        ledger.enter("check")
        reference = _reference_of(case, scratch, limit_s=REFERENCE_SHARE * effort.timeout_s)
        device = load_backend(case.backend).open(case, chosen)
        timed, work, _ = _prepared(case, device, ledger)
        ledger.enter("warmup")
        found = timed.evidence(reference, full=False)
        checks.append(parity.check(case, found, reference) if reference else {"status": "unchecked"})
        if checks[-1]["status"] == "failed":
            raise CaseFailed("invalid", f"parity of {case.label}: {checks[-1]['reason']}")
        sides.append((device, timed))
        works.append(_work_json(work))
    per, scale = per_item(*works)
    step_ns = max(tune.time_briefly(timed, device) for device, timed in sides)
    steps = steps_per_round(step_ns, 30_000_000)
    ledger.enter("measure")
    order = random.SystemRandom()
    times: tuple[list[float], list[float]] = ([], [])
    seen = disturbance.snapshot(os.getppid())
    clock_ns = sides[0][0].clock_ns
    with quiet_heap():
        started_ns = clock_ns()
        for look, pairs in enumerate(looks(), start=1):
            while not times[0] or (len(times[0]) < pairs and clock_ns() - started_ns < effort.max_seconds * 1e9):
                for side in order.sample((0, 1), 2):
                    device, timed = sides[side]
                    times[side].append(time_rounds(timed.step, wait=device.wait, rounds=1, steps_per_round=steps,
                                                   clock_ns=device.clock_ns)[0] / steps)
            decision = decide([scale * b / a for a, b in zip(*times, strict=True)], look, margin=margin)
            if decision.state != "continue" or len(times[0]) < pairs:
                break
    ledger.enter("teardown")
    return {"a": times[0], "b": times[1], "steps_per_round": steps, "per": per, "parity": checks,
            "decision": dataclasses.asdict(decision),
            "disturbance": disturbance.between(seen, disturbance.snapshot(os.getppid()))}


def _imported(case: Case) -> list[str]:
    """Import what the workload's `build` imports, so that the device opens upon it: return warnings.

    A model's memory is net of what the process holds as the device opens, and transformers alone is
    100 MiB. A build on torch's meta device imports everything and makes no tensor.
    """
    import torch

    try:
        with torch.device("meta"):
            workload_of(case).build(case)
    except Exception as error:  # noqa: BLE001 - a user's workload may be at odds with the meta device alone
        return [f"memory includes libraries, as building on the meta device failed: {type(error).__name__}: {error}"]
    return []


def _prepared(case: Case, device: Device, ledger: Ledger, ranks: Ranks = ALONE) -> tuple[Timed, Work, float | None]:
    """Build the case's program and hand it to the open device.

    What compiles here is booked as compile; its seconds by the device's clock come third, None where
    nothing did.
    """
    ledger.enter("load")
    workload = workload_of(case)
    work = _work_of(workload, case)
    program = share(_built(workload, case), case, ranks.rank)
    if is_sharded(case):
        shard(program.model)
    graphs, built_s, started_ns = device.compiles(), ledger.seconds()["load"], device.clock_ns()
    timed = load_scenario(case.scenario).prepare(program, device, work)
    if device.compiles() == graphs:
        return timed, work, None
    ledger.move(ledger.seconds()["load"] - built_s, to="compile", out_of="load")
    return timed, work, (device.clock_ns() - started_ns) / 1e9


def _peaks(case: Case, canary: Canary, *, copies: bool) -> tuple[dict[str, Any], list[str]]:
    """The canary's best rates after the timed part, and warnings.

    Its matrices come on top of a model that may leave no room for them: that voids nothing which was timed, and
    what was seen before stands.
    """
    warnings = []
    looks = {"products": canary.after} | ({"copies": canary.copy} if copies else {})
    for what, look in looks.items():
        try:
            look()
        except Exception as error:
            if not _memory_ran_out(case, error):
                raise
            told, *_ = str(error).splitlines() or [type(error).__name__]
            warnings.append(f"memory left no room for the canary's {what} after the timed part: {told[:200]}")
    found: dict[str, Any] = {"flops_per_second": canary.flops_per_second}
    if canary.gb_per_second is not None:
        found |= {"gb_per_second": canary.gb_per_second,
                  "gb_per_second_source": "best device copies in the same process, bytes read and written"}
    return found, warnings


def _memory_ran_out(case: Case, error: Exception) -> bool:
    if isinstance(error, CaseFailed):
        return error.status == "oom"
    text = f"{type(error).__name__}: {error}"
    known = load_backend(case.backend).explain(text)
    return known[0] == "oom" if known else any(sign in text for sign in HOST_OOM)


def _reported(device: Device) -> dict[str, Any]:
    """A device's report; CaseFailed where it lacks what every record has."""
    report = device.report()
    lacks = {"device", "compile", "fallbacks", "warnings"} - report.keys()
    if lacks:
        raise CaseFailed("failed", f"report() of {type(device).__name__} lacks {', '.join(sorted(lacks))}: "
                                   "bench/contracts.py says what it holds")
    return report


def _energy(own: Any, host: Mapping[str, Any]) -> dict[str, Any]:
    """What a device says of its joules, the host's counters beside it; its own where it is the host's CPU."""
    if own == ON_HOST:
        return dict(host)
    beside = dict(host)
    return dict(own or NO_ENERGY) | {"rounds": beside.pop("rounds"), "host": beside}


def _compile_s(*parts: float | None) -> float | None:
    """The seconds of what compiled, None where nothing did."""
    known = [seconds for seconds in parts if seconds is not None]
    return sum(known) if known else None


def _built(workload: Workload, case: Case) -> Program:
    """The case's program, with the samples of all its ranks."""
    refused = workload.limits(case)
    if refused:
        raise CaseFailed("unsupported", refused)
    program = workload.build(whole(case))
    if not isinstance(program, Program):
        raise CaseFailed("failed", f"build() returned {type(program).__name__}, not a bench.contracts.Program")
    missing = [name for name in NEEDED.get(case.scenario, ()) if not getattr(program, name)]
    if missing:
        raise CaseFailed("failed", f"build() returned a Program without {' and '.join(missing)}: "
                                   f"{case.scenario} needs them")
    if case.weights:
        from bench.weights import load_weights

        if program.weights is None:
            raise CaseFailed("unsupported", f"workload {case.workload!r} takes no --weights")
        load_weights(program.weights, case.weights)
    return program


def _work_of(workload: Workload, case: Case) -> Work:
    """What a step does; CaseFailed where the workload states what can be no work."""
    work = workload.work(case)
    if not isinstance(work, Work):
        raise CaseFailed("failed", f"work() returned {type(work).__name__}, not a bench.contracts.Work")
    for name, number in (("items", work.items or 0), ("flops", work.flops), ("bytes", work.bytes)):
        if number is not None and not 0 < number < float("inf"):
            raise CaseFailed("failed", f"work() states {number} {name} a step: it must be above 0, "
                                       "and None where it is unknown")
    return work


def _make_reference(case: Case, program: Program, work: Work, path: Path, *,
                    limit_s: float = float("inf")) -> str | None:
    """Save the float32 eager CPU evidence of the same weights and inputs; return why it cannot be, or None.

    It cannot where memory, or more than `limit_s` seconds, would be needed.
    """
    import torch

    weights = sum(p.numel() for p in program.model.parameters())
    needed = weights * REFERENCE_BYTES_PER_WEIGHT[case.task]
    seen = host_memory()
    free = min(b for b in (seen["available_bytes"], seen["limit_bytes"]) if b is not None)
    if needed > free:
        return (f"the float32 reference needs about {needed / 2**30:.0f} GiB of host memory, "
                f"{free / 2**30:.0f} GiB are free")
    cpu = load_backend("cpu")
    plain = dataclasses.replace(alone(case), dtype="fp32", backend="cpu", compile="off", backend_options={})
    with contextlib.closing(cpu.open(plain, cpu.fixed(plain))) as device:
        flops = reference_flops(case, work) or 0.0
        seconds = flops / (REFERENCE_RATE * float32_rate(flops / (REFERENCE_RATE * limit_s)))
        if seconds > limit_s:
            return (f"the float32 reference would take about {seconds / 60:.3g} min on this host "
                    f"({flops:.3g} FLOP); {limit_s / 60:.3g} min of the --timeout are for it")
        timed = load_scenario(case.scenario).prepare(program, device, work)
        torch.save(timed.evidence(None, full=True), path)
    return None


def reference_flops(case: Case, work: Work) -> float | None:
    """FLOPs of a reference: of the steps that give evidence, all ranks' of training, and of a generation its prefill
    (few tokens follow); None where the workload states none."""
    if case.task == "training":
        return work.flops and work.flops * REFERENCE_LOSSES * case.ranks
    return work.parts.get("prefill", work.flops)


def float32_rate(enough: float) -> float:
    """Return the FLOP/s of this host's best float32 matrix product by now: the first that reaches `enough` ends it.

    So it takes milliseconds where the host is quick enough by far. To fall short takes two seconds: on a shared
    machine a short product proves nothing.
    """
    import torch

    best, n, started_ns = 0.0, 256, time.perf_counter_ns()
    while not best or (best < enough and time.perf_counter_ns() - started_ns < RATE_SECONDS * 1e9):
        square = torch.ones(n, n)
        begun_ns = time.perf_counter_ns()
        torch.mm(square, square)
        took_s = max(time.perf_counter_ns() - begun_ns, 1) / 1e9
        best = max(best, 2.0 * n**3 / took_s)
        n *= 2 if took_s < PRODUCT_SECONDS and n < 4096 else 1
    return best


def _reference_of(case: Case, scratch: Path, *, limit_s: float) -> list[Tensor] | None:
    """Make a case's reference at once, in this process; None where it cannot be had."""
    workload = workload_of(case)
    path = scratch / f"{case.id}.pt"
    _make_reference(case, _built(workload, case), workload.work(case), path, limit_s=limit_s)
    return _load_reference(path)


def _reference(scratch: Path) -> list[Tensor] | None:
    """The reference that the scout left, if it could make one."""
    return _load_reference(scratch / "reference.pt")


def _load_reference(path: Path) -> list[Tensor] | None:
    import torch

    found: list[Tensor] | None = torch.load(path) if path.exists() else None
    return found


def _checked(case: Case, timed: Timed, first: list[Tensor], reference: list[Tensor] | None) -> dict[str, Any]:
    """Parity of the first steps and, where every step computes the same, of one more after the timed part."""
    if not reference:
        return {"status": "unchecked"}
    found = parity.check(case, first, reference)
    if case.task == "training":
        return found
    # Whatever was found, as a step of ranks that work together takes all of them.
    late = parity.check(case, timed.evidence(reference, full=False), reference)
    if found["status"] == "failed" or late["status"] == "passed":
        return found
    return late | {"reason": f"after the timed part, {late['reason']}"}


def _trial(backend: Backend, case: Case, settings: Settings, program: Program, work: Work) -> float:
    device = backend.open(case, settings)
    try:
        return tune.time_briefly(load_scenario(case.scenario).prepare(program, device, work), device)
    finally:
        device.close()
        gc.collect()


def warm_up(device: Device, timed: Timed, effort: Effort, ledger: Ledger, reference: list[Tensor] | None, *,
            full: bool, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Run until steady (see `bench.stats.steady`), or until as long as the timed part may take.

    The first steps give the evidence for parity. A step during which the device compiled is booked
    as compile, and `compile_s` counts it whole. Returns {"evidence", "rounds", "steady", "step_ns",
    "compile_s"}.
    """
    clock_ns, started_ns = device.clock_ns, device.clock_ns()
    graphs, before_ns = device.compiles(), ledger.ns["warmup"]
    evidence = timed.evidence(reference, full=full)
    first_s = (clock_ns() - started_ns) / 1e9
    ledger.enter("warmup")
    compiled_first = device.compiles() > graphs
    if compiled_first:
        ledger.move((ledger.ns["warmup"] - before_ns) / 1e9, to="compile", out_of="warmup")
    times_ns: list[float] = []
    compiles: list[int] = []  # in all, after each step
    steady, late_s, graphs, look = None, 0.0, device.compiles(), 0
    spent_s = 0.0
    while not times_ns or ranks.same(spent_s < effort.max_seconds * WARMUP_SHARE
                                     and (steady is None or spent_s < LEAST_WARMUP_S)):
        times_ns += time_rounds(timed.step, wait=device.wait, rounds=1, steps_per_round=1, clock_ns=clock_ns)
        compiles.append(device.compiles())
        if compiles[-1] > graphs:
            graphs, late_s = compiles[-1], late_s + times_ns[-1] / 1e9
            ledger.enter("warmup")
            ledger.move(times_ns[-1] / 1e9, to="compile", out_of="warmup")
        if len(times_ns) >= look:
            steady = steady_from(times_ns, compiles, few=times_ns[-1] > SLOW_STEP_NS)
            look = len(times_ns) + max(1, len(times_ns) // LOOKS)  # a look takes longer the more there is to see
        spent_s = (clock_ns() - started_ns) / 1e9 - first_s - late_s
    tail = sorted(times_ns[steady or len(times_ns) // 2:])
    step_ns = tail[len(tail) // 2]
    compiled = compiled_first or late_s > 0
    return {"evidence": evidence, "rounds": len(times_ns), "steady": steady is not None, "step_ns": step_ns,
            "compile_s": (first_s if compiled_first else 0.0) + late_s if compiled else None}


def timed_part(case: Case, device: Device, timed: Timed, effort: Effort, ledger: Ledger,
               step_ns: float, *, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Time rounds until the interval is narrow enough or the time is spent; return raw times and witnesses.

    Of streams side by side only the rounds are kept during which all of them ran.
    """
    clock_ns = device.clock_ns
    target_ns = load_scenario(case.scenario).round_ns
    steps = ranks.agree(steps_per_round(step_ns, target_ns) if target_ns else 1)
    rounds = ranks.same(max(LEAST_ROUNDS, min(int(CHUNK_NS / max(step_ns * steps, 1)), 20_000)))
    for times in timed.series.values():
        times.clear()
    device.reset_peak_memory()
    graphs = device.compiles()
    joules = energy.read_energy()
    seen = _snapshot(ranks)  # in which ranks wait for one another, so that they start at once
    ledger.enter("measure")
    started_ns = clock_ns()
    samples_ns: list[int] = []
    chunks: list[Chunk] = []
    while True:
        begun_ns = clock_ns()
        times_ns = time_rounds(timed.step, wait=device.wait, rounds=rounds, steps_per_round=steps, clock_ns=clock_ns)
        chunks.append((begun_ns, times_ns))
        samples_ns += times_ns
        spent_s = (clock_ns() - started_ns) / 1e9
        if ranks.ended(spent_s >= effort.max_seconds or (spent_s >= min(LEAST_TIMED_S, effort.max_seconds)
                                                         and narrow_enough(samples_ns, effort.target_relative))):
            break
        left_ns = effort.max_seconds * 1e9 - (clock_ns() - started_ns)
        rounds = ranks.same(max(1, min(rounds, int(left_ns / max(step_ns * steps, 1)))))
    ledger.enter("check")
    disturbed = disturbance.between(seen, _snapshot(ranks))
    used = energy.joules_between(joules, energy.read_energy())
    if device.compiles() > graphs:
        raise CaseFailed("invalid", f"{device.compiles() - graphs} graph(s) compiled inside the timed part")
    peak_bytes, method = device.peak_memory_bytes()
    kept, count = ranks.common(chunks), len(samples_ns)
    series_ns = {name: _of_rounds(kept, times, count) for name, times in timed.series.items()}
    samples_ns = samples_ns[kept]
    change = drift(samples_ns)
    return {"samples_ns": samples_ns, "steps_per_round": steps, "series_ns": series_ns,
            "memory": {"peak_bytes": peak_bytes, "method": method}, "energy": used | {"rounds": count},
            "disturbance": disturbed,
            "warnings": [f"step times changed by {change:+.1%} during the timed part"] if change else []}


def _snapshot(ranks: Ranks) -> disturbance.Snapshot:
    """What disturbs ranks is what none of them does."""
    seen = disturbance.snapshot(os.getppid())
    return dataclasses.replace(seen, own_s=sum(ranks.gather(seen.own_s)))


def _of_rounds(kept: slice, times: Sequence[float], rounds: int) -> list[float]:
    """Of a series that left equally many times in each of so many rounds, those of the rounds kept."""
    each = len(times) // rounds
    begin, end, _ = kept.indices(rounds)
    return list(times[begin * each:end * each])


def _work_json(work: Work) -> dict[str, Any]:
    return {"item": work.item, "items_per_step": work.items, "flops_per_step": work.flops,
            "flops_per_item": None if work.flops is None else work.flops / work.items,
            "bytes_per_step": work.bytes, "bus_bytes_per_step": work.bus_bytes, "parts": dict(work.parts)}


def describe(workload: Workload) -> Mapping[str, Any]:
    """A workload's plain facts, for a parent that must not import the file."""
    return {f.name: getattr(workload, f.name) for f in dataclasses.fields(Workload)
            if f.name not in ("build", "work", "limits")}
