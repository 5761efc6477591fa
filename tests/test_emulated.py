"""Whole runs on a device whose truth is known: step times to the digit, and every fault it can have."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from bench.backends.emulated import LAW, EmulatedBackend, law_s
from bench.case import Case, Effort
from bench.machine import energy
from bench.record import Record
from bench.registry import case_for, load_workload
from bench.runner import Session, run_case

QUIET = {"child_sd": 0.0, "jitter": 0.0, "wander": 0.0, "spike_share": 0.0}
FLOPS = 33_554_432  # of gemm:tiny, 2 x 256^3
STEP_S = 0.0034054432  # 50 us + 33,554,432 FLOP / 1e10 FLOP/s
MACHINE = {"name": "a machine"}


def a_case(law: dict[str, Any] | None = None, workload: str = "gemm", **fields: Any) -> Case:
    return case_for(workload, load_workload(workload), backend="emulated", dtype="fp32", size="tiny",
                    backend_options=QUIET | (law or {}), **fields)


def run(law: dict[str, Any] | None = None, *, repeats: int = 1, max_seconds: float = 1.0,
        timeout_s: float = 120.0, **fields: Any) -> Record:
    """A record of a run, its tier looked at every time."""
    effort = Effort(repeats=repeats, max_seconds=max_seconds, timeout_s=timeout_s)
    record = run_case(a_case(law, **fields), Session(effort=effort, machine=MACHINE))
    assert record.tier == "emulated"
    assert Record.from_json(record.to_json()) == record
    return record


def value(record: Record, name: str) -> float | None:
    metric = record.metric(name)
    assert metric is not None
    return metric.value


# ---------------------------------------------------------------- real children


def test_a_run_in_real_processes_measures_the_law() -> None:
    record = run(repeats=2)
    assert (record.status, record.reasons) == ("valid", ())
    assert value(record, "step_time_ms") == pytest.approx(STEP_S * 1e3, rel=1e-6)
    assert [child["role"] for child in record.children] == ["scout", "measure", "measure"]
    for child in record.children:  # a loaded machine is late to reap it
        assert sum(child["phases_s"].values()) == pytest.approx(child["wall_s"], rel=0.02, abs=0.3)


def test_a_child_that_crashes_is_a_record_with_the_signal() -> None:
    record = run({"crash_at_step": 40})
    assert record.status == "failed"
    assert record.reasons[0].startswith("child 1 of 1: died of SIGSEGV")
    assert record.metrics == ()
    assert record.parity == {}


@pytest.mark.slow
def test_a_child_that_hangs_is_killed_when_its_time_is_up() -> None:
    record = run({"hang_at_step": 40}, timeout_s=15)
    assert record.status == "timeout"
    assert record.reasons == ("child 1 of 1: no answer within 15 s (in phase warmup): it hung, or needs a longer "
                              "--timeout",)
    assert record.wall_s is not None
    assert record.wall_s < 35


# ---------------------------------------------------------------- the law


@pytest.mark.usefixtures("in_process")
class TestLaw:
    def test_a_step_takes_overhead_and_flops_over_rate(self) -> None:
        # A round is the fewest steps that make 10 ms: 3 x 3.4054432 ms = 10.216330 ms, to the ns.
        record = run()
        assert record.status == "valid"
        assert record.samples["steps_per_round"] == [3]
        assert set(record.samples["children"][0]) <= {10_216_329, 10_216_330}
        assert value(record, "step_time_ms") == pytest.approx(3.4054432, rel=1e-6)
        assert value(record, "matmuls_per_second") == pytest.approx(1 / STEP_S, rel=1e-6)
        assert value(record, "matmuls_per_second_sustained") == pytest.approx(1 / STEP_S, rel=1e-6)

    def test_a_run_lasts_the_time_that_was_asked_for_or_until_narrow(self) -> None:
        # Without noise the interval is narrow after 10 rounds, but two seconds are the least: 0.3 s of
        # 10.2 ms are 29 rounds at a time, so 7 x 29 = 203 rounds pass 2 s.
        assert len(run(max_seconds=20).samples["children"][0]) == 203
        # One second: 3 x 29 rounds, then the (1 - 0.8888) / 0.0102 = 10 that still fit, then one.
        assert len(run(max_seconds=1).samples["children"][0]) == 98

    def test_mfu_is_held_against_the_canary_of_the_same_child(self) -> None:
        # Canary: 512^3 takes 26.9 ms, so 1024^3 is the first over 50 ms: 50 us + 214.7483648 ms, at
        # 2 x 1024^3 / 0.2147983648 s = 9.997672e9 FLOP/s. The case: 33,554,432 / 3.4054432 ms =
        # 9.853176e9 FLOP/s. Their ratio: 0.985547.
        record = run()
        assert record.canary["sizes"] == [512, 1024]
        assert record.canary["flops_per_second"] == pytest.approx(9.997672e9, rel=1e-6)
        assert value(record, "mfu") == pytest.approx(0.985547, rel=1e-5)

    def test_a_slowdown_multiplies_every_step(self) -> None:
        assert value(run({"slowdown": 1.05}), "step_time_ms") == pytest.approx(3.57571536, rel=1e-6)
        assert law_s(LAW | {"slowdown": 2.0}, FLOPS) == pytest.approx(2 * STEP_S)

    def test_memory_is_the_laws_bytes_a_flop_of_the_case_alone(self) -> None:
        assert run().memory["peak_bytes"] == 33_554  # not of the canary's 1024^3

    def test_the_hosts_joules_are_never_taken_for_those_of_a_device_that_says_nothing(
            self, monkeypatch: pytest.MonkeyPatch) -> None:
        joules = itertools.count(step=5)
        monkeypatch.setattr(energy, "read_energy", lambda: energy.EnergyReading(
            time.monotonic_ns(), {"intel-rapl:0": (next(joules) * 1_000_000, 262_143_328_850)}))
        open_device = EmulatedBackend.open

        def silent(self: EmulatedBackend, *args: Any) -> Any:
            device = open_device(self, *args)
            report = device.report()
            monkeypatch.setattr(device, "report", lambda: {k: v for k, v in report.items() if k != "energy"})
            return device

        monkeypatch.setattr(EmulatedBackend, "open", silent)
        record = run()
        assert record.energy["joules"] is None
        assert record.energy["reason"] == "the backend does not say what energy its device uses"
        assert record.energy["host"]["joules"] == 5.0
        assert value(record, "joules_per_matmul") is None
        case = case_for("gemm", load_workload("gemm"), backend="cpu", dtype="fp32", size="tiny", compile="off")
        on_host = run_case(case, Session(effort=Effort(repeats=1, max_seconds=0.1), machine=MACHINE))
        rounds = len(on_host.samples["children"][0]) * on_host.samples["steps_per_round"][0]
        assert value(on_host, "joules_per_matmul") == pytest.approx(5.0 / rounds)

    def test_a_report_that_lacks_what_every_record_has_fails_in_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        open_device = EmulatedBackend.open

        def forgetful(self: EmulatedBackend, *args: Any) -> Any:
            device = open_device(self, *args)
            monkeypatch.setattr(device, "report", lambda: {"device": {}, "warnings": []})
            return device

        monkeypatch.setattr(EmulatedBackend, "open", forgetful)
        record = run()
        assert record.status == "failed"
        assert "report() of EmulatedDevice lacks compile, fallbacks: bench/contracts.py says" in record.reasons[0]

    def test_lazy_execution_is_measured_right(self) -> None:
        record = run({"lazy": True})
        assert record.status == "valid"
        assert value(record, "step_time_ms") == pytest.approx(3.4054432, rel=1e-6)

    def test_generation_times_prefill_and_decode_apart(self) -> None:
        case = a_case(workload="gpt2", scenario="generation")
        work = load_workload("gpt2").work(case)
        tokens = int(case.options["new_tokens"])  # type: ignore[arg-type]
        prefill_s = 50e-6 + work.parts["prefill"] / 1e10
        decode_s = 50e-6 + work.parts["decode"] / (tokens - 1) / 1e10
        record = run(workload="gpt2", scenario="generation")
        assert (record.status, record.reasons) == ("valid", ())
        assert value(record, "ttft_ms_p50") == pytest.approx(prefill_s * 1e3, rel=1e-4)
        assert value(record, "itl_ms_p50") == pytest.approx(decode_s * 1e3, rel=1e-4)
        assert value(record, "tpot_ms_p50") == pytest.approx(decode_s * 1e3, rel=1e-4)
        whole_s = prefill_s + (tokens - 1) * decode_s
        assert value(record, "step_time_ms") == pytest.approx(whole_s * 1e3, rel=1e-4)
        assert value(record, "tokens_per_second") == pytest.approx(work.items / whole_s, rel=1e-4)

    def test_training_runs_real_steps_until_the_loss_curve_is_known(self) -> None:
        record = run(workload="dlrm", task="training")
        assert (record.status, record.reasons) == ("valid", ())
        assert record.parity["compared"] == 10
        assert record.parity["error"] == pytest.approx(0.0, abs=1e-6)

    def test_one_noise_seed_gives_the_same_times_and_each_child_its_own(self) -> None:
        noisy = {"jitter": 0.05, "child_sd": 0.01, "noise_seed": 7}
        first, again = run(noisy, repeats=2), run(noisy, repeats=2)
        assert first.samples == again.samples
        one, two = first.samples["children"]
        assert one[:20] != two[:20]
        assert run(noisy | {"noise_seed": 8}).samples["children"][0][:20] != one[:20]


# ---------------------------------------------------------------- faults


@pytest.mark.usefixtures("in_process")
class TestFaults:
    def test_a_wait_that_returns_early_is_invalid(self) -> None:
        record = run({"early_wait": True})
        assert record.status == "invalid"
        assert any(reason.startswith("canary: the device's wait returns early") for reason in record.reasons)
        assert not record.canary["passed"]
        assert record.parity["status"] == "passed"

    def test_memory_that_runs_out_is_oom(self) -> None:
        record = run({"memory_limit_bytes": 30_000})
        assert record.status == "oom"
        assert record.reasons == ("child 1 of 1: Out of device memory: asked 33554 bytes of 30000 bytes.",)

    def test_a_wrong_output_is_invalid(self) -> None:
        record = run({"output_error": 0.01})
        assert record.status == "invalid"
        assert record.reasons == ("parity: output 0 is 0.01 away from the float32 reference, relative; "
                                  "fp32 is allowed 0.001",)
        assert record.parity["error"] == pytest.approx(0.01, rel=1e-4)
        assert value(record, "step_time_ms") == pytest.approx(3.4054432, rel=1e-6)  # kept for diagnosis

    def test_an_output_within_the_tolerance_is_valid(self) -> None:
        assert run({"output_error": 0.0005}).status == "valid"

    def test_the_first_child_compiles_cold_and_the_others_warm(self) -> None:
        record = run({"compile_cold_s": 30.0, "compile_warm_s": 2.0}, repeats=3)
        assert record.status == "valid"
        assert [child["compile"] for child in record.children if child["role"] == "measure"] == [
            {"cache": cache, "seconds": seconds, "graphs": 1}
            for cache, seconds in (("cold", 30.0), ("warm", 2.0), ("warm", 2.0))]
        assert record.compile["cache"] == "cold"
        assert (value(record, "compile_s"), value(record, "compile_warm_s")) == (30.0, 2.0)
        assert value(record, "step_time_ms") == pytest.approx(3.4054432, rel=1e-6)

    def test_without_compiling_there_is_no_graph(self) -> None:
        record = run({"compile_cold_s": 30.0}, compile="off")
        assert record.compile == {"cache": None, "seconds": None, "graphs": 0}
        metric = record.metric("compile_s")
        assert metric is not None
        assert metric.reason == "nothing was compiled"

    def test_a_compile_inside_the_timed_part_is_invalid(self) -> None:
        # Warming up lasts half a second, 147 steps: step 170 is well inside what follows.
        record = run({"compile_cold_s": 1.0, "recompile_at_step": 170})
        assert record.status == "invalid"
        assert record.reasons == ("child 1 of 1: 1 graph(s) compiled inside the timed part",)

    def test_a_compile_during_warm_up_is_waited_out_and_counted(self) -> None:
        # Step 1 is parity's, so step 10 is the 9th round; 20 rounds after it make 29. A step takes
        # 30 ms + 33,554,432 / 1e10 s = 33.3554432 ms, so that half a second is over by then.
        record = run({"overhead_us": 30_000.0, "compile_cold_s": 5.0, "recompile_at_step": 10})
        child = record.children[-1]
        assert record.status == "valid"
        assert child["warmup"]["rounds"] == 29
        assert record.compile["graphs"] == 2
        assert record.compile["seconds"] == pytest.approx(10.0 + 0.0333554432)  # the step that compiled is in it
        assert value(record, "step_time_ms") == pytest.approx(33.3554432, rel=1e-6)

    def test_warm_up_waits_a_slow_start_out(self) -> None:
        # Twice as long at first and half of that every 3 steps: 1 % after 20, 0.1 % after 30.
        record = run({"slow_start": 1.0})
        assert record.status == "valid"
        assert record.children[-1]["warmup"]["steady"]
        assert record.children[-1]["warmup"]["rounds"] > 20
        assert value(record, "step_time_ms") == pytest.approx(3.4054432, rel=0.003)
        first = record.samples["children"][0][0]
        assert first == pytest.approx(10_216_330, rel=0.01)

    def test_a_drift_in_the_timed_part_is_told(self) -> None:
        # 5 % a second: the halves of two seconds lie one second, so a good 4 % of what it has become, apart.
        record = run({"drift": 0.05}, max_seconds=2)
        assert record.status == "valid"
        told = [text for text in record.warnings if "during the timed part" in text]
        assert len(told) == 1
        assert told[0].startswith("child 1 of 1: step times changed by +4")
        assert not any("during the timed part" in text for text in run(max_seconds=2).warnings)

    def test_a_machine_that_never_runs_steadily_is_timed_with_a_warning(self) -> None:
        record = run({"drift": 3.0}, max_seconds=0.5)
        assert any("before it ran steadily" in text for text in record.warnings)
        assert record.children[-1]["warmup"]["steady"] is False
