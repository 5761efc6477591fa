"""Loop, ledger, tuning, parity, canary and summary: the measuring half without a model."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.case import Case
from bench.cli.run import _choices
from bench.contracts import Work
from bench.launch import merged
from bench.measure import canary as canary_module
from bench.measure import child as child_module
from bench.measure import parity, tune
from bench.measure.canary import Canary
from bench.measure.ledger import Ledger
from bench.measure.loop import quiet_heap, time_rounds
from bench.measure.summarise import metrics_of, per_item
from bench.record import PHASES, Metric
from bench.registry import load_backend
from tests.conftest import FakeClock
from tests.fakes.devices import ScriptedDevice
from tests.records import make_record

# ---------------------------------------------------------------- the loop


def test_waiting_for_the_device_is_part_of_the_round(clock: FakeClock) -> None:
    times = time_rounds(lambda: clock.advance(10), wait=lambda: clock.advance(5), rounds=2,
                        steps_per_round=4, clock_ns=clock)
    assert times == [45, 45]  # 4 x 10 + 5


def test_a_round_of_one_step_is_one_step_and_one_wait(clock: FakeClock) -> None:
    steps = iter([10, 20, 31])
    times = time_rounds(lambda: clock.advance(next(steps)), wait=lambda: clock.advance(1), rounds=3,
                        steps_per_round=1, clock_ns=clock)
    assert times == [11, 21, 32]


def test_the_device_is_waited_for_once_a_round(clock: FakeClock) -> None:
    calls: list[str] = []
    time_rounds(lambda: calls.append("step"), wait=lambda: calls.append("wait"), rounds=2,
                steps_per_round=3, clock_ns=clock)
    assert calls == ["step", "step", "step", "wait"] * 2


@pytest.mark.parametrize(("rounds", "steps"), [(0, 1), (1, 0)])
def test_nothing_to_time_is_refused(clock: FakeClock, rounds: int, steps: int) -> None:
    with pytest.raises(ValueError, match="at least 1 round of 1 step"):
        time_rounds(lambda: None, wait=lambda: None, rounds=rounds, steps_per_round=steps, clock_ns=clock)


def test_garbage_collection_is_held_off_and_comes_back() -> None:
    assert gc.isenabled()
    with contextlib.suppress(KeyError), quiet_heap():
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
        raise KeyError
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_garbage_collection_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with quiet_heap():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


# ---------------------------------------------------------------- the ledger


def test_every_nanosecond_belongs_to_one_phase(clock: FakeClock) -> None:
    clock.advance(100)  # the child was spawned at 60
    ledger = Ledger(60, clock_ns=clock)
    for ns, phase in ((5, "load"), (70, "check"), (9, "load"), (800, "measure"), (10_000, "teardown")):
        clock.advance(ns)
        ledger.enter(phase)
    clock.advance(3)
    assert ledger.seconds() == pytest.approx(
        dict.fromkeys(PHASES, 0.0) | {"start": 45e-9, "load": (70 + 800) * 1e-9, "check": 9e-9,
                                      "measure": 10_000e-9, "teardown": 3e-9}, abs=1e-15)
    assert sum(ledger.ns.values()) == clock() - 60


def test_looking_at_the_ledger_changes_nothing(clock: FakeClock) -> None:
    ledger = Ledger(0, clock_ns=clock)
    clock.advance(7)
    assert ledger.seconds() == ledger.seconds()
    clock.advance(7)
    assert ledger.seconds()["start"] == 14e-9


def test_moved_seconds_still_add_up(clock: FakeClock) -> None:
    ledger = Ledger(0, clock_ns=clock)
    ledger.enter("warmup")
    clock.advance(1000)
    ledger.enter("measure")
    ledger.move(290e-9, to="compile", out_of="warmup")
    assert (ledger.ns["compile"], ledger.ns["warmup"]) == (290, 710)
    ledger.move(1.0, to="compile", out_of="warmup")  # no more than there is
    assert (ledger.ns["compile"], ledger.ns["warmup"]) == (1000, 0)
    assert sum(ledger.ns.values()) == 1000


def test_each_phase_is_told_once(clock: FakeClock) -> None:
    told: list[str] = []
    ledger = Ledger(0, clock_ns=clock, tell=told.append)
    for phase in ("load", "load", "check"):
        ledger.enter(phase)
    ledger.seconds()
    assert told == ["load", "check"]


# ---------------------------------------------------------------- auto choices

START = {"threads": 2, "layout": "contiguous", "compile": "off"}
AXES = {"threads": [2, 1], "layout": ["contiguous", "channels_last"], "compile": ["off", "inductor"]}


def trial_of(times: dict[tuple[Any, ...], float]) -> Callable[[Any], float]:
    """A trial that looks its ns up by (threads, layout, compile); RuntimeError where there are none."""

    def trial(settings: Any) -> float:
        key = (settings["threads"], settings["layout"], settings["compile"])
        if key not in times:
            raise RuntimeError("Unsupported: no such kernel")
        return times[key]

    return trial


def test_each_axis_is_tried_with_the_best_of_those_before_it() -> None:
    found = tune.choose(AXES, START, max_seconds=20, trial=trial_of({
        (2, "contiguous", "off"): 100.0, (1, "contiguous", "off"): 80.0,
        (1, "channels_last", "off"): 60.0, (1, "channels_last", "inductor"): 20.0}))
    assert found["settings"] == {"threads": 1, "layout": "channels_last", "compile": "inductor"}
    assert [trial["step_ns"] for trial in found["trials"]] == [100.0, 80.0, 60.0, 20.0]
    assert found["notes"] == []


def test_a_value_that_is_not_clearly_faster_is_not_chosen() -> None:
    # 3 % is the least: 97.5 of 100 stays, 96.9 goes.
    axes = {"threads": [2, 1]}
    for ns, chosen in ((97.5, 2), (96.9, 1)):
        found = tune.choose(axes, START, max_seconds=20, trial=trial_of(
            {(2, "contiguous", "off"): 100.0, (1, "contiguous", "off"): ns}))
        assert found["settings"]["threads"] == chosen


def test_compiling_is_not_tried_for_a_short_measurement() -> None:
    found = tune.choose({"compile": ["off", "inductor"]}, START, max_seconds=9.9, trial=trial_of({}))
    assert found["settings"] == START
    assert found["trials"] == []
    assert found["notes"][0].startswith("compile not tried: 9.9 s")


def test_what_cannot_run_is_kept_and_is_no_choice() -> None:
    found = tune.choose({"threads": [2, 1], "compile": ["off", "inductor"]}, START, max_seconds=20,
                        trial=trial_of({(2, "contiguous", "off"): 100.0, (1, "contiguous", "off"): 99.0}))
    assert found["settings"] == START
    assert found["trials"][-1] == {"settings": START | {"compile": "inductor"},
                                   "error": "RuntimeError: Unsupported: no such kernel"}


def test_where_nothing_can_run_the_first_guess_stands_and_a_note_says_so() -> None:
    found = tune.choose({"threads": [2, 1], "compile": ["off", "inductor"]}, START, max_seconds=20, trial=trial_of({}))
    assert found["settings"] == START
    assert len(found["trials"]) == 3
    assert found["notes"] == ["none of the 3 settings tried could run, and the first guess stands: "
                              "RuntimeError: Unsupported: no such kernel"]
    told = _choices(make_record(settings=START, tuning=found))
    assert told == found["notes"]
    tuning = found | {"trials": [*found["trials"], {"settings": START, "step_ns": 5.0}], "notes": []}
    assert _choices(make_record(settings=START, tuning=tuning)) == [
        "auto chose threads=2, layout=contiguous, compile=off (4 tried)"]


def test_where_the_first_guess_cannot_run_another_is_chosen() -> None:
    found = tune.choose({"threads": [2, 1]}, START, max_seconds=20,
                        trial=trial_of({(1, "contiguous", "off"): 5e9}))
    assert found["settings"]["threads"] == 1
    assert "error" in found["trials"][0]


class Steps:
    """A prepared case whose steps take the scripted ns, the last of them for ever."""

    def __init__(self, clock: FakeClock, times_ns: list[float]) -> None:
        self.series: dict[str, list[float]] = {}
        self._clock, self._times_ns, self.count = clock, times_ns, 0

    def step(self) -> None:
        self._clock.advance(self._times_ns[min(self.count, len(self._times_ns) - 1)])
        self.count += 1


def test_a_trial_times_about_a_second_after_two_untimed_steps(clock: FakeClock) -> None:
    device = ScriptedDevice(clock, lambda work: 0.0)
    steps = Steps(clock, [9e9, 9e9, 4e8])
    assert tune.time_briefly(steps, device) == 4e8
    assert steps.count == 5  # 2 untimed; 3 x 0.4 s is the first count past a second


def test_a_trial_of_quick_steps_ends_at_twenty_and_one_of_slow_steps_at_two(clock: FakeClock) -> None:
    device = ScriptedDevice(clock, lambda work: 0.0)
    quick, slow = Steps(clock, [1e3]), Steps(clock, [3e9])
    assert tune.time_briefly(quick, device) == 1e3
    assert tune.time_briefly(slow, device) == 3e9
    assert (quick.count, slow.count) == (22, 4)


# ---------------------------------------------------------------- parity


def case(task: str = "inference", dtype: str = "fp32", **fields: Any) -> Case:
    scenario = fields.pop("scenario", "offline" if task == "inference" else "training")
    return Case(workload="w", size="tiny", task=task, scenario=scenario, backend="cpu", dtype=dtype, batch_size=4,
                **fields)


def losses(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value) for value in values]


def test_the_error_of_an_output_is_relative_to_the_norm_of_the_reference() -> None:
    # ||(0.3, 0.4)|| / ||(3, 4)|| = 0.5 / 5
    found = parity.check(case(dtype="bf16"), [torch.tensor([3.3, 4.4])], [torch.tensor([3.0, 4.0])])
    assert found["error"] == pytest.approx(0.1, rel=1e-6)
    assert (found["compared"], found["tolerance"]) == (1, 0.1)


@pytest.mark.parametrize(("dtype", "error", "status"), [
    ("fp32", 5e-4, "passed"), ("fp32", 2e-3, "failed"), ("tf32", 1e-2, "passed"), ("fp16", 2e-2, "passed"),
    ("fp16", 5e-2, "failed"), ("bf16", 5e-2, "passed"), ("bf16", 0.2, "failed"), ("fp8", 0.2, "passed")])
def test_the_tolerance_goes_with_the_dtype(dtype: str, error: float, status: str) -> None:
    reference = torch.tensor([3.0, 4.0])
    assert parity.check(case(dtype=dtype), [reference * (1 + error)], [reference])["status"] == status


def test_the_worst_output_counts_and_is_named() -> None:
    good, bad = torch.ones(4), torch.full((4,), 1.5)
    found = parity.check(case(), [good, bad], [good, good])
    assert found["status"] == "failed"
    assert found["error"] == pytest.approx(0.5)
    assert found["reason"] == "output 1 is 0.5 away from the float32 reference, relative; fp32 is allowed 0.001"


@pytest.mark.parametrize("found", [torch.tensor([math.nan, 4.0]), torch.tensor([math.inf, 4.0]),
                                   torch.tensor([3.0, 4.0, 0.0]), torch.zeros(2)])
def test_nan_infinity_another_shape_and_zeros_fail(found: torch.Tensor) -> None:
    checked = parity.check(case(dtype="fp8"), [found], [torch.tensor([3.0, 4.0])])
    assert checked["status"] == "failed"
    assert checked["error"] is None or checked["error"] == pytest.approx(1.0)


def test_a_zero_reference_is_held_to_the_absolute_error() -> None:
    zeros = torch.zeros(3)
    assert parity.check(case(), [zeros], [zeros])["status"] == "passed"
    assert parity.check(case(), [zeros + 1], [zeros])["status"] == "failed"


def test_nothing_compared_is_a_failure() -> None:
    assert parity.check(case(), [], [torch.ones(1)])["reason"] == "there is no output to compare"
    assert parity.check(case(), [torch.ones(1)] * 2, [torch.ones(1)])["reason"] == \
        "2 outputs where the reference has 1"


def test_a_loss_curve_passes_where_every_loss_is_near() -> None:
    reference = losses(4.0, 3.0, 2.0)
    found = parity.check(case("training", "bf16"), losses(4.04, 3.0, 2.02), reference)
    assert (found["status"], found["compared"]) == ("passed", 3)
    assert found["error"] == pytest.approx(0.01, rel=1e-4)  # 0.04 / 4
    assert found["metric"] == "difference of losses, relative to the first"
    far = parity.check(case("training", "bf16"), losses(4.0, 3.0, 2.24), reference)  # 0.24 / 4 is over 5 %
    assert far["reason"] == "loss 2 is 0.06 away from the float32 reference, relative; bf16 is allowed 0.05"


def test_a_child_that_saw_fewer_losses_is_held_against_those() -> None:
    found = parity.check(case("training"), losses(4.0, 3.0), losses(4.0, 3.0, 2.0))
    assert (found["status"], found["compared"]) == ("passed", 2)


def test_an_optimiser_that_does_nothing_fails_though_each_loss_is_near() -> None:
    # The reference falls by 1 % of its first loss, well below the 5 % that a bf16 loss may be off. A
    # curve that stays is off by all of it, over half; one off by 0.4 % is not.
    reference = losses(10.0, 9.95, 9.93, 9.90)
    assert parity.check(case("training", "bf16"), losses(10.0, 9.97, 9.95, 9.94), reference)["status"] == "passed"
    still = parity.check(case("training", "bf16"), losses(10.0, 10.0, 10.0, 10.0), reference)
    assert still["status"] == "failed"
    assert still["reason"] == ("the losses do not follow the float32 reference's: off by up to 0.01 of the first "
                               "loss, where the reference's moved by 0.01: does the optimiser work?")


def test_a_curve_that_hardly_moves_is_held_to_its_rounding_alone() -> None:
    # 4 % of bf16's 5 % is 0.2 % of the first loss: 10 -> 9.99 moves by less than twice that.
    reference = losses(10.0, 9.995, 9.99)
    assert parity.check(case("training", "bf16"), losses(10.0, 10.0, 10.0), reference)["status"] == "passed"
    assert parity.check(case("training"), losses(10.0, 10.0, 10.0), reference)["status"] == "failed"


def test_a_few_first_losses_are_no_whole_curve() -> None:
    reference = losses(10.0, 9.99, 9.90)
    assert parity.check(case("training", "bf16"), losses(10.0, 10.03), reference)["status"] == "passed"


# ---------------------------------------------------------------- the canary

SIZES = (2, 4, 8, 16, 32)
RATE = 12_800.0
"""FLOP/s at which 4^3 takes 2 * 64 / 12800 = 10 ms and 8^3 80 ms: the first above 50 ms."""


@pytest.fixture(autouse=True)
def _small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary_module, "SIZES", SIZES)


def at_rate(work: Work) -> float:
    assert work.flops is not None
    return work.flops / RATE * 1e9


def test_an_honest_device_passes_with_its_rate(clock: FakeClock) -> None:
    found = Canary(ScriptedDevice(clock, at_rate, ceiling=20_000.0)).before()
    assert found["passed"]
    assert found["sizes"] == [4, 8]
    assert found["milliseconds"] == [10.0, 80.0]
    assert found["scaling"] == 8.0
    assert found["flops_per_second"] == pytest.approx(RATE)
    assert found["ceiling_flops_per_second"] == 20_000.0


@pytest.mark.parametrize("waited", [0.0, 0.5, 0.8])
def test_a_wait_that_returns_early_is_caught(clock: FakeClock, waited: float) -> None:
    found = Canary(ScriptedDevice(clock, at_rate, waited=waited)).before()
    assert not found["passed"]
    assert found["reasons"][0].startswith("the device's wait returns early")


def test_a_time_that_does_not_grow_with_the_work_is_caught(clock: FakeClock) -> None:
    found = Canary(ScriptedDevice(clock, lambda work: 60e6)).before()
    assert found["reasons"] == ["impossible scaling: 8 times the work took 1.00 times the time"]


def test_a_clock_that_stands_still_is_caught(clock: FakeClock) -> None:
    found = Canary(ScriptedDevice(clock, lambda work: 0.0)).before()
    assert found["sizes"] == [16, 32]
    assert found["reasons"] == ["impossible scaling: 8 times the work took 1.00 times the time"]


def test_a_rate_above_the_ceiling_is_caught(clock: FakeClock) -> None:
    found = Canary(ScriptedDevice(clock, at_rate, ceiling=12_000.0)).before()
    assert found["reasons"] == ["impossible rate: 1.28e+04 FLOP/s in a 8^3 matrix product, "
                                "the ceiling is 1.2e+04 (the script)"]


def test_fixed_costs_of_a_call_are_no_lie(clock: FakeClock) -> None:
    # 30 ms a call: 31.25, 40, 110 and 670 ms from 2^3 to 16^3; the first of five times the smallest is 16^3.
    found = Canary(ScriptedDevice(clock, lambda work: at_rate(work) + 30e6)).before()
    assert found["milliseconds"] == [110.0, 670.0]
    assert found["passed"]


def test_a_first_read_that_compiles_is_no_early_wait(clock: FakeClock) -> None:
    found = Canary(ScriptedDevice(clock, at_rate, first_read_ns=2e9)).before()
    assert found["sizes"] == [4, 8]
    assert found["passed"]


def test_a_device_slow_even_at_the_smallest_size_is_timed_at_two(clock: FakeClock) -> None:
    found = Canary(ScriptedDevice(clock, lambda work: at_rate(work) * 1000)).before()
    assert found["sizes"] == [2, 4]
    assert found["passed"]


def test_a_stall_is_no_long_product(clock: FakeClock) -> None:
    # Four calls at 2^3 (one untimed), one untimed at 4^3, and the next takes 80 ms for once.
    stalls = iter([0.0] * 5 + [70e6])
    found = Canary(ScriptedDevice(clock, lambda work: at_rate(work) + next(stalls, 0.0))).before()
    assert found["sizes"] == [4, 8]


def test_the_rate_after_the_timed_part_is_the_best_seen(clock: FakeClock) -> None:
    speed = {"now": 1.0}
    canary = Canary(ScriptedDevice(clock, lambda work: at_rate(work) / speed["now"]))
    canary.before()
    for now, best in ((1.0, RATE), (2.0, 2 * RATE), (0.5, 2 * RATE)):
        speed["now"] = now
        canary.after()
        assert canary.flops_per_second == pytest.approx(best)


def test_the_canary_keeps_no_matrices_during_the_timed_part(clock: FakeClock) -> None:
    canary = Canary(ScriptedDevice(clock, at_rate))
    canary.before()
    gc.collect()
    shapes = {tuple(o.shape) for o in gc.get_objects() if issubclass(type(o), torch.Tensor)}
    assert not shapes & {(n, n) for n in SIZES[2:]}


class WatchedDevice(ScriptedDevice):
    """Notes the number formats of each product, which matrices live as another model is placed, and sizes put."""

    def __init__(self, clock: FakeClock, call_ns: Callable[[Work], float], *, wait_ns: float = 0.0) -> None:
        super().__init__(clock, call_ns)
        self.formats: set[tuple[torch.dtype, torch.dtype]] = set()
        self.alive: list[set[int]] = []
        self.copied: list[int] = []
        self._wait_ns = wait_ns

    def place(self, model: nn.Module) -> nn.Module:
        shapes = {tuple(o.shape) for o in gc.get_objects() if issubclass(type(o), torch.Tensor)}
        self.alive.append({n for n in SIZES[2:] if (n, n) in shapes} - {model.in_features})
        return model

    def prepare(self, module: nn.Module, example: Sequence[torch.Tensor], work: Work, *,
                plain: bool = False) -> Callable[..., Any]:
        call = super().prepare(module, example, work, plain=plain)

        def watched(left: torch.Tensor) -> torch.Tensor:
            if isinstance(module, nn.Linear):
                self.formats.add((module.weight.dtype, left.dtype))
            else:
                self.copied.append(left.nbytes)
            return call(left)

        return watched

    def wait(self) -> None:
        super().wait()
        self._clock.advance(self._wait_ns)


@pytest.mark.parametrize(("dtype", "wanted"), [
    ("amp-bf16", torch.bfloat16), ("amp-fp16", torch.float16), ("fp32", torch.float32)])
def test_the_canary_multiplies_what_autocast_would_have_cast(clock: FakeClock, dtype: str, wanted: torch.dtype) -> None:
    device = WatchedDevice(clock, at_rate)
    canary = Canary(device, dtype)
    assert canary.before()["sizes"] == [4, 8]
    canary.after()
    assert device.formats == {(wanted, wanted)}


@pytest.mark.parametrize("dtype", ["bf16", "amp-bf16"])
def test_a_timed_product_casts_nothing_on_a_real_device(dtype: str) -> None:
    class Casts(TorchDispatchMode):
        counted = products = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.counted += func is torch.ops.aten._to_copy.default and args[0].dim() == 2 and len(args[0]) > 1
            self.products += func is torch.ops.aten.mm.default
            return func(*args, **(kwargs or {}))

    the_case = case("training", dtype, threads=1)
    with contextlib.closing(load_backend("cpu").open(the_case, load_backend("cpu").fixed(the_case))) as device:
        canary = Canary(device, dtype)
        with Casts() as seen:
            canary.before()
    sizes = len(SIZES) + 1  # the smaller of the two once more
    assert seen.counted == 2 * sizes  # weight and input of each, as it is made
    assert seen.products > 2 * seen.counted - sizes


def test_the_canary_keeps_no_matrices_of_one_size_while_it_makes_the_next(clock: FakeClock) -> None:
    device = WatchedDevice(clock, lambda work: at_rate(work) / 100)
    canary = Canary(device)
    assert canary.before()["sizes"] == [16, 32]  # 6.4 and 51.2 ms
    canary.after()
    assert device.alive == [set()] * (len(SIZES) + 3)


def copies(monkeypatch: pytest.MonkeyPatch, device: WatchedDevice, *, large_from: float) -> float:
    """The rate of copies of 4 kB, and of 40 kB where the device multiplies fast enough."""
    monkeypatch.setattr(canary_module, "COPY_BYTES", 4000)
    monkeypatch.setattr(canary_module, "LARGE_COPY_BYTES", 40_000)
    monkeypatch.setattr(canary_module, "LARGE_FLOPS_PER_SECOND", large_from)
    canary = Canary(device)
    canary.before()
    canary.copy()
    assert canary.gb_per_second is not None
    return canary.gb_per_second


def nanosecond_a_byte(work: Work) -> float:
    return work.bytes or at_rate(work)


def test_a_copy_counts_bytes_read_and_bytes_written(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    device = WatchedDevice(clock, nanosecond_a_byte)  # 1 GB/s
    assert copies(monkeypatch, device, large_from=2 * RATE) == 1.0


def test_what_a_wait_costs_is_spread_over_ten_copies(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    # 8 us a copy and 8 us a wait: one by itself takes 16 us, half the rate; ten take 88 us, 10/11 of it.
    device = WatchedDevice(clock, nanosecond_a_byte, wait_ns=8000)
    assert copies(monkeypatch, device, large_from=2 * RATE) == pytest.approx(10 / 11)
    assert device.copied == [4000] * 51  # one, then five times ten


def test_a_device_that_multiplies_fast_copies_a_larger_buffer_too(clock: FakeClock,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    # 80 us a copy of 40 kB: ten and a wait of 8 us take 808 us.
    device = WatchedDevice(clock, nanosecond_a_byte, wait_ns=8000)
    assert copies(monkeypatch, device, large_from=RATE / 2) == pytest.approx(100 / 101)
    assert device.copied == [4000] * 51 + [40_000] * 51


def test_slow_copies_are_waited_for_one_by_one(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    device = WatchedDevice(clock, lambda work: 30e6 if work.bytes else at_rate(work))  # two of them pass 50 ms
    assert copies(monkeypatch, device, large_from=2 * RATE) == pytest.approx(8000 / 30e6)
    assert len(device.copied) == 6


def test_peaks_of_ranks_add_up_only_where_each_has_one() -> None:
    def rank(**changes: Any) -> dict[str, Any]:
        canary = {"flops_per_second": 2.0, "flops_per_second_source": "here", "passed": True, "reasons": []}
        return {"stream": False, "samples_ns": [1], "memory": {"peak_bytes": 1, "method": "made up"}, "energy": {},
                "parity": {}, "warnings": [], "disturbance": {}, "warmup": {}, "phases_s": {}, "compile": {},
                "canary": canary | changes}

    copied = {"gb_per_second": 3.0, "gb_per_second_source": "here"}
    assert merged([rank(**copied), rank(**copied)])["canary"]["gb_per_second"] == 6.0
    for one, other in ((rank(**copied), rank()), (rank(), rank(**copied))):
        found = merged([one, other])["canary"]
        assert "gb_per_second" not in found
        assert (found["flops_per_second"], found["flops_per_second_source"]) == (4.0, "here, summed over 2 ranks")


# ---------------------------------------------------------------- the reference's cost


def test_flops_of_a_reference_are_those_of_all_steps_that_give_evidence() -> None:
    training, one = case("training", parallelism="dp=4"), Work(item="sample", items=4, flops=3.0)
    assert child_module.reference_flops(training, one) == 120.0  # ten losses of four ranks
    assert child_module.reference_flops(case(), one) == 3.0
    generation = Work(item="token", items=8, flops=100.0, parts={"prefill": 60.0, "decode": 40.0})
    assert child_module.reference_flops(case(scenario="generation"), generation) == 60.0
    assert child_module.reference_flops(training, Work(item="sample", items=4)) is None


def test_a_hosts_rate_is_found_at_once_where_it_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "RATE_SECONDS", 0.2)
    products = []
    real = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: (products.append(len(a)), real(a, b)))
    assert child_module.float32_rate(1.0) > 1.0
    assert products == [256]
    started_s = time.monotonic()
    assert child_module.float32_rate(math.inf) > 1e8
    assert time.monotonic() - started_s >= 0.2
    assert len(products) > 2


# ---------------------------------------------------------------- the summary

WORK = {"item": "sample", "items_per_step": 4, "flops_per_step": None, "bytes_per_step": None, "parts": {}}


def child(rounds_ms: list[float], **changes: Any) -> dict[str, Any]:
    """A measured child's result, as far as a summary reads it: two steps a round by default."""
    plain: dict[str, Any] = {
        "samples_ns": [ms * 1e6 for ms in rounds_ms], "steps_per_round": 2, "series_ns": {}, "work": WORK,
        "device": {"chips": 2}, "canary": {"flops_per_second": 2e11, "flops_per_second_source": "the test"},
        "energy": {"joules": None, "reason": "no counter"}, "compile": {"seconds": None, "cache": None}}
    return plain | changes


def metrics(the_case: Case, *children: dict[str, Any]) -> dict[str, Metric]:
    found, impossible = metrics_of(the_case, list(children))
    assert not impossible
    return {metric.name: metric for metric in found}


THREE = (child([10, 20, 90]), child([25, 25, 25]), child([16, 16, 16]))


def test_throughput_is_that_of_the_median_round_of_the_median_child() -> None:
    # 4 items x 2 steps over 20, 25, 16 ms: 400, 320, 500 samples/s; the median child has 400.
    # ln(320/400) = -0.223144, ln(500/400) = 0.223144, so mean ln 400 and sd 0.223144; t(0.975, 2) =
    # 4.302653; half = 4.302653 x 0.223144 / sqrt(3) = 0.554322: 400 e^-+half = 229.79 .. 696.30.
    found = metrics(case(), *THREE)
    rate = found["samples_per_second"]
    assert rate.value == pytest.approx(400)
    assert (rate.low, rate.high) == (pytest.approx(229.79, abs=0.01), pytest.approx(696.30, abs=0.02))
    assert (rate.unit, rate.n) == ("samples/s", 3)
    assert found["step_time_ms"].value == pytest.approx(10.0)  # 20 ms / 2 steps
    assert found["step_time_ms"].low == pytest.approx(4 * 1000 / 696.30, abs=1e-3)


def test_sustained_throughput_is_all_items_over_all_seconds() -> None:
    # Totals over totals: 3 rounds x 8 items / 120 ms = 200; 24 / 75 ms = 320; 24 / 48 ms = 500.
    assert metrics(case(), *THREE)["samples_per_second_sustained"].value == pytest.approx(320)


def test_per_chip_divides_by_the_chips_and_is_unknown_without() -> None:
    found = metrics(case(), *THREE)["samples_per_second_per_chip"]
    assert found.value == pytest.approx(200)
    assert found.low == pytest.approx(229.79 / 2, abs=0.01)
    some = child([10], device={"chips": 1, "cores": 2, "share_of_chips": 0.25})
    assert metrics(case(), some)["samples_per_second_per_chip"].reason == \
        "2 of the 8 cores of 1 chip(s) were used: the whole was not measured"
    unknown = metrics(case(), child([10], device={}))["samples_per_second_per_chip"]
    assert (unknown.value, unknown.reason) == (None, "the number of chips is unknown")


def test_one_child_has_a_rate_and_no_interval() -> None:
    found = metrics(case(), THREE[0])["samples_per_second"]
    assert found.value == pytest.approx(400)
    assert (found.low, found.high) == (None, None)


def test_a_percentile_below_its_floor_is_null_with_the_reason() -> None:
    # Floors: 11 samples for p50, 64 for p90, 130 for p95, 662 for p99, 6636 for p99.9.
    times = [float(i) for i in range(1, 36)]
    children = [child(times, steps_per_round=1), child(times, steps_per_round=1)]
    found = metrics(case(scenario="single-stream"), *children)
    assert found["latency_ms_p50"].value == pytest.approx(18.0)  # of 1..35 twice
    assert found["latency_ms_p90"].value == pytest.approx(32.0, abs=0.5)
    assert found["latency_ms_p95"].value is None
    assert found["latency_ms_p95"].reason == "70 samples; p95 needs 130"
    assert found["latency_ms_p99_9"].reason == "70 samples; p99_9 needs 6636"


def test_a_percentile_has_an_interval_only_where_each_child_has_enough_samples() -> None:
    times = [float(i) for i in range(1, 36)]
    found = metrics(case(scenario="single-stream"), child(times, steps_per_round=1),
                    child([2 * t for t in times], steps_per_round=1))
    p50, p90 = found["latency_ms_p50"], found["latency_ms_p90"]
    assert p50.low is not None
    assert p50.high is not None
    assert p50.low <= 18.0 < 36.0 <= p50.high  # the two children's own medians
    assert (p90.low, p90.high) == (None, None)  # 35 samples a child, p90 needs 64


def test_offline_has_no_latency_percentiles() -> None:
    assert not any(name.startswith("latency") for name in metrics(case(), *THREE))


def generations(ttft: list[float], itl: list[float], e2e: list[float], **changes: Any) -> dict[str, Any]:
    series = {"ttft": [ms * 1e6 for ms in ttft], "itl": [ms * 1e6 for ms in itl]}
    return child(e2e, steps_per_round=1, series_ns=series, **changes)


def test_time_per_output_token_leaves_the_first_token_out() -> None:
    # Two generations of 4 tokens: (110 - 50) / 3 = 20 ms and (140 - 80) / 3 = 20 ms.
    found = metrics(case(scenario="generation"), generations([50, 80], [20] * 6, [110, 140]))
    assert found["tpot_ms_p50"].value == pytest.approx(20.0)
    assert found["ttft_ms_p50"].reason == "2 samples; p50 needs 11"
    assert found["itl_ms_p50"].reason == "6 samples; p50 needs 11"


def test_time_per_output_token_of_a_single_token_is_unknown() -> None:
    found = metrics(case(scenario="generation"), generations([50, 80], [], [50, 80]))
    assert found["tpot_ms_p50"].value is None
    assert found["tpot_ms_p50"].reason == "one output token has no time per further token"
    assert "itl_ms_p50" not in found


def test_percentiles_of_tokens_come_from_every_gap() -> None:
    gaps = [float(i) for i in range(1, 101)]
    found = metrics(case(scenario="generation"), generations([50] * 20, gaps, [250] * 20))
    assert found["itl_ms_p50"].value == pytest.approx(50.5)
    assert found["itl_ms_p90"].value == pytest.approx(90.1)  # 1 + 0.9 x 99, between the order statistics
    assert found["ttft_ms_p50"].value == pytest.approx(50.0)


COUNTED = WORK | {"flops_per_step": 1e9, "bytes_per_step": 5e7}


def counted(peak_flops: float | None, peak_gb: float | None = 10.0) -> dict[str, Any]:
    """A step of 1 GFLOP and 50 MB in 10 ms: 1e11 FLOP/s and 5 GB/s."""
    return child([20, 20, 20], work=COUNTED, canary={
        "flops_per_second": peak_flops, "flops_per_second_source": "the test",
        "gb_per_second": peak_gb, "gb_per_second_source": "the test"})


def test_mfu_and_mbu_are_shares_of_the_peaks_measured_beside() -> None:
    found = metrics(case(), counted(2e11), counted(2e11))
    assert found["flops_per_second"].value == pytest.approx(1e11)
    assert found["mfu"].value == pytest.approx(0.5)
    assert found["gb_per_second"].value == pytest.approx(5.0)
    assert found["mbu"].value == pytest.approx(0.5)
    assert found["mfu"].method is not None
    assert found["mfu"].method.startswith("peak_source: the test")


def test_mfu_a_little_above_one_is_withheld_and_far_above_is_impossible() -> None:
    found, impossible = metrics_of(case(), [counted(1e11 / 1.05)])
    mfu = next(m for m in found if m.name == "mfu")
    assert mfu.value is None
    assert mfu.reason == "MFU 1.05 is above 1 against the peak measured in the same process"
    assert impossible == []
    found, impossible = metrics_of(case(), [counted(1e11 / 1.2)])
    assert next(m for m in found if m.name == "mfu").value is None
    assert impossible == ["MFU 1.2 is above 1 against the peak measured in the same process"]


def test_bandwidth_above_the_copys_is_withheld_and_voids_nothing() -> None:
    found = metrics(case(), counted(2e11, peak_gb=2.0))["mbu"]  # what stays in a cache is faster than a copy
    assert found.value is None


def test_unknown_work_and_unknown_peaks_are_null_with_reasons() -> None:
    found = metrics(case(), *THREE)
    assert found["flops_per_second"].reason == "this workload states no flops a step"
    assert found["mbu"].reason == "this workload states no bytes a step"
    found = metrics(case(), counted(2e11, peak_gb=None))
    assert found["gb_per_second"].value == pytest.approx(5.0)
    assert found["mbu"].reason == "no peak GB/s was measured beside it"


def test_energy_is_joules_over_the_items_of_the_timed_part() -> None:
    # 12 J over 3 rounds x 2 steps x 4 items = 24 items.
    with_energy = child([10, 10, 10], energy={"joules": 12.0, "method": "RAPL", "reason": None, "rounds": 3})
    assert metrics(case(), with_energy)["joules_per_sample"].value == pytest.approx(0.5)
    # Two streams of 5 and 3 rounds, of which 3 each count for speed: 12 J over a mean of 4 rounds x 2 steps x 4 items.
    streams = child([10] * 6, streams=[3, 3], energy={"joules": 12.0, "reason": None, "rounds": 4.0})
    assert metrics(case(), streams)["joules_per_sample"].value == pytest.approx(0.375)
    still = child([10], energy={"joules": 0.0, "reason": None, "rounds": 1})
    assert metrics(case(), still)["joules_per_sample"].reason == "the counter did not move during the timed part"
    assert metrics(case(), *THREE)["joules_per_sample"].reason == "no counter"


def test_compile_seconds_are_of_the_cache_as_the_first_child_found_it() -> None:
    found = metrics(case(), *(child([10], compile={"seconds": s, "cache": cache})
                              for s, cache in ((30.0, "cold"), (2.0, "warm"), (4.5, "warm"))))
    assert (found["compile_s"].value, found["compile_s"].n) == (30.0, 1)
    assert found["compile_s"].method == "cold cache; one child: says nothing of the machine"
    assert found["compile_warm_s"].value == pytest.approx(3.0)  # the median child of two: sqrt(2 x 4.5)
    assert found["compile_warm_s"].n == 2


def test_nothing_compiled_is_null() -> None:
    found = metrics(case(), *THREE)["compile_s"]
    assert (found.value, found.reason) == (None, "nothing was compiled")
    quick = child([10], compile={"seconds": 0.0, "cache": "cold"})
    assert metrics(case(), quick)["compile_s"].reason == "too quick to be seen"


def test_a_ratio_of_two_cases_is_per_item_where_both_count_the_same() -> None:
    # b does 8 items a step and a does 4: a step of b may take twice as long at the same speed per item.
    assert per_item(WORK, WORK | {"items_per_step": 8}) == ("sample", 0.5)
    assert per_item(WORK, WORK | {"item": "token"}) == ("step", 1.0)
