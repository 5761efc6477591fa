"""NVIDIA GPUs by NVML: a fake pynvml that plays recorded values, and the machine at hand where it has a GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from bench.machine import nvidia
from bench.machine.nvidia import Gpu, Sampler, driver, gpus, visible
from tests.conftest import FakeClock
from tests.fakes.nvml import GIB, FakeGpu, FakeNvml, FakeSlice

ME = os.getpid()
GPU_HERE = not gpus()[1]

Install = Callable[..., FakeNvml]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a fake pynvml in place; it must be left as often as it was opened."""
    def put(*fakes: FakeGpu, **options: Any) -> FakeNvml:
        fake = FakeNvml(*fakes, **options)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return put


class Watched:
    """A sampler on a fake clock that looks when told: `with Watched(clock, looks=10) as sampler`."""

    def __init__(self, clock: FakeClock, looks: int, indices: Sequence[int] = (0,), **options: Any) -> None:
        self.sampler, self.clock, self.looks = Sampler(indices, 3600.0, clock_ns=clock, **options), clock, looks

    def __enter__(self) -> Sampler:
        self.sampler.start()
        for _ in range(self.looks - 2):  # the first and the last look are the sampler's own
            self.clock.advance(1e8)
            self.sampler.look()
        self.clock.advance(1e8)
        return self.sampler

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.sampler.stop()


# What is there


def test_a_gpu_is_described_as_nvml_names_it(install: Install) -> None:
    fake = install(FakeGpu(pids=(7, 3)))
    [gpu], reason = gpus()
    assert reason is None
    assert (gpu.index, gpu.name, gpu.compute_capability) == (0, "NVIDIA H100 80GB HBM3", "9.0")
    assert (gpu.memory_total_bytes, gpu.memory_used_bytes) == (80 * GIB, GIB)
    assert (gpu.mig, gpu.slices, gpu.persistence, gpu.ecc, gpu.power_limit_w) == (False, (), True, True, 700.0)
    assert gpu.pids == (3, 7)
    assert gpu.unknown == {}
    assert fake.opened == 0


def test_a_record_holds_no_uuid_and_no_process(install: Install) -> None:
    install(FakeGpu(pids=(424242,)), FakeGpu(uuid="GPU-1", slices=[FakeSlice(pids=(434343,))]))
    text = json.dumps([gpu.facts() for gpu in gpus()[0]], allow_nan=False)
    for secret in ("GPU-", "MIG-", "424242", "434343"):
        assert secret not in text
    assert "NVIDIA H100 80GB HBM3" in text
    assert "3g.20gb" in text


def test_the_driver_says_its_version_and_the_newest_cuda_it_runs(install: Install) -> None:
    install(FakeGpu())
    assert driver() == {"driver": "570.86.15", "cuda": "12.8", "reason": None}


def test_slices_of_a_gpu_are_listed_with_memory_and_fraction_and_empty_places_are_not(install: Install) -> None:
    install(FakeGpu(name="NVIDIA A100-SXM4-40GB", memory_bytes=40 * GIB, slices=[
        FakeSlice(), None, FakeSlice(uuid="MIG-2", memory_bytes=5 * GIB, multiprocessors=14, compute_slices=1)]))
    [gpu], _ = gpus()
    assert gpu.mig is True
    assert [(one.gpu, one.index, one.memory_total_bytes, one.multiprocessors) for one in gpu.slices] == [
        (0, 0, 20 * GIB, 42), (0, 2, 5 * GIB, 14)]
    assert [one.fraction for one in gpu.slices] == [pytest.approx(3 / 7), pytest.approx(1 / 7)]


def test_what_a_gpu_does_not_say_is_none_with_nvmls_reason(install: Install) -> None:
    install(FakeGpu(name="NVIDIA GeForce", missing=("nvmlDeviceGetEccMode", "nvmlDeviceGetMigMode",
                                                    "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetEnforcedPowerLimit")))
    [gpu], _ = gpus()
    assert (gpu.ecc, gpu.mig, gpu.memory_total_bytes, gpu.power_limit_w) == (None, None, None, None)
    assert gpu.unknown == dict.fromkeys(("memory", "power_limit_w", "mig", "ecc"), "NVML: Not Supported")


# Where there is nothing


def test_without_the_package_there_is_a_reason_and_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found, reason = gpus()
    assert found == []
    assert "pip install nvidia-ml-py" in str(reason)
    assert driver()["driver"] is None
    assert driver()["reason"] == reason


def test_without_a_driver_the_reason_is_nvmls(install: Install) -> None:
    install(refuses="NVML Shared Library Not Found")
    found, reason = gpus()
    assert found == []
    assert "no working NVIDIA driver" in str(reason)
    assert "Shared Library Not Found" in str(reason)


def test_a_driver_without_a_gpu_is_told_apart_from_no_driver(install: Install) -> None:
    install()
    assert gpus() == ([], "the NVIDIA driver is here and shows no GPU")


def test_looking_is_quick_and_imports_no_torch_where_there_is_no_gpu() -> None:
    code = ("import sys, time\nfrom bench.machine.nvidia import driver, gpus\nstart = time.perf_counter()\n"
            "gpus(); driver()\nprint(time.perf_counter() - start); print('torch' in sys.modules)")
    seconds, torch = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                                    cwd=Path(__file__).parents[1]).stdout.split()
    assert torch == "False"
    assert GPU_HERE or float(seconds) < 0.5


# CUDA_VISIBLE_DEVICES


FOUR = tuple(FakeGpu(uuid=uuid) for uuid in ("GPU-8932f937-0", "GPU-8932aaaa-1", "GPU-77777777-2", "GPU-77770000-3"))


@pytest.mark.parametrize(("mask", "indices"), [
    (None, [0, 1, 2, 3]), ("", []), ("-1", []), ("2,1", [2, 1]), (" 0 , 2 ", [0, 2]), ("0,2,-1,1", [0, 2]),
    ("1,9,2", [1]), ("1x,2", [1, 2]), ("+1", [1]), ("0,0", []), ("0,,1", [0]), ("none", []),
    ("GPU-77777777-2,GPU-8932f937-0", [2, 0]), ("GPU-7777777", [2]), ("GPU-7777", []), ("GPU-8932f,GPU-8932", [0]),
    ("GPU-8932f,1", [0]), ("1,GPU-8932f", [1]), ("GPU-8932f,GPU-8932f937", []), ("GPU-99", [])])
def test_visible_devices_are_read_as_cuda_reads_them(install: Install, mask: str | None, indices: list[int]) -> None:
    install(*FOUR)
    assert [device.index for device in visible(gpus()[0], mask)] == indices


def test_without_cut_gpus_the_list_is_that_of_torch(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.cuda

    install(*FOUR)
    found, uuids = gpus()[0], [gpu.uuid for gpu in FOUR]
    for mask in ("", "2,1", "0,2,-1,1", "1x,2", "0,0", "GPU-7777777,GPU-8932a", "GPU-7777", "GPU-8932f,1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
        read: Any = torch.cuda._parse_visible_devices()
        if read and isinstance(read[0], str):
            read = torch.cuda._transform_uuid_to_ordinals(read, uuids)
        assert [device.index for device in visible(found, mask)] == read, mask


CUT = (FakeGpu(uuid="GPU-a", slices=[FakeSlice(uuid="MIG-a0"), FakeSlice(uuid="MIG-a1")]), FakeGpu(uuid="GPU-b"),
       FakeGpu(uuid="GPU-c", slices=[]))


@pytest.mark.parametrize(("mask", "expected"), [
    (None, ["MIG-a0"]), ("1,0", ["MIG-a0"]), ("1", ["GPU-b"]), ("MIG-a1", ["MIG-a1"]), ("MIG-a1,MIG-a0", ["MIG-a1"]),
    ("GPU-a", ["MIG-a0"]), ("GPU-b", ["GPU-b"]), ("2", []), ("MIG-zz", []), ("", [])])
def test_of_cut_gpus_a_process_sees_one_slice_and_no_whole_gpu(
        install: Install, mask: str | None, expected: list[str]) -> None:
    install(*CUT)
    assert [device.uuid for device in visible(gpus()[0], mask)] == expected


# While it works


def test_energy_is_the_counters_rise_and_the_integral_of_power_is_beside_it(install: Install, clock: FakeClock) -> None:
    install(FakeGpu(energy_mj=(5_000_000, 5_600_000), power_mw=(200_000, 400_000, 600_000)))
    with Watched(clock, looks=3) as sampler:  # 0.2 s: 0.1 s at 300 W in the mean, then 0.1 s at 500 W
        pass
    energy = sampler.summary()["energy"]
    assert energy["joules"] == 600.0
    assert energy["method"] == "NVML total energy counter, whole GPU with its memory"
    assert energy["reason"] is None
    assert energy["integral"]["joules"] == pytest.approx(80.0)
    assert energy["counter"] == {"joules": 600.0, "method": energy["method"], "reason": None}


def test_energy_without_a_counter_is_the_integral_and_says_so(install: Install, clock: FakeClock) -> None:
    install(FakeGpu(missing=["nvmlDeviceGetTotalEnergyConsumption"]))
    with Watched(clock, looks=11) as sampler:
        pass
    energy = sampler.summary()["energy"]
    assert energy["joules"] == pytest.approx(300.0)  # 300 W for 1 s
    assert energy["method"].startswith("NVML power readings integrated")
    assert energy["counter"]["joules"] is None
    assert "no energy counter" in energy["counter"]["reason"]


def test_energy_that_nothing_tells_is_none_with_both_reasons(install: Install, clock: FakeClock) -> None:
    install(FakeGpu(missing=["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"]))
    with Watched(clock, looks=3) as sampler:
        pass
    energy = sampler.summary()["energy"]
    assert energy["joules"] is None
    assert "no energy counter" in energy["reason"]
    assert "0 power readings in 3 looks" in energy["reason"]


def test_a_counter_that_started_anew_is_not_a_negative_energy(install: Install, clock: FakeClock) -> None:
    install(FakeGpu(energy_mj=(9_000_000, 1_000)))
    with Watched(clock, looks=3) as sampler:
        pass
    assert sampler.summary()["energy"]["counter"]["joules"] is None
    assert "reloaded" in sampler.summary()["energy"]["counter"]["reason"]


def test_energy_of_several_gpus_is_their_sum_and_unknown_where_one_is(install: Install, clock: FakeClock) -> None:
    install(FakeGpu(), FakeGpu(energy_mj=(0, 400_000)), FakeGpu(missing=["nvmlDeviceGetTotalEnergyConsumption"]))
    with Watched(clock, 2, indices=(0, 1)) as both:
        pass
    assert both.summary()["energy"]["joules"] == pytest.approx(1000.0)
    with Watched(clock, 2, indices=(1, 2)) as other:
        pass
    assert other.summary()["energy"]["counter"]["joules"] is None


def test_power_clocks_heat_and_reasons_are_summarised_for_each_gpu(install: Install, clock: FakeClock) -> None:
    fake = install(FakeGpu(power_mw=(100_000, 300_000), clock_mhz=(1980, 1965), reasons=(0, 0, 4, 4 | 0x40)))
    with Watched(clock, looks=4) as sampler:
        assert fake.opened == 1
    assert fake.opened == 0
    [row] = sampler.summary()["gpus"]
    assert (row["index"], row["samples"]) == (0, 4)
    assert row["power_w"] == {"first": 100.0, "median": 300.0, "mean": 250.0, "min": 100.0, "max": 300.0}
    assert (row["sm_clock_mhz"]["first"], row["sm_clock_mhz"]["min"]) == (1980, 1965)
    assert (row["memory_clock_mhz"]["median"], row["temperature_c"]["max"], row["utilization"]["mean"]) == (
        2619, 61, pytest.approx(0.97))
    assert row["clock_reasons"] == {"power cap": 0.5, "hardware thermal slowdown": 0.25}
    json.dumps(sampler.summary(), allow_nan=False)


def test_a_clock_that_falls_while_it_is_held_back_is_a_warning(install: Install, clock: FakeClock) -> None:
    install(FakeGpu(clock_mhz=[1980] * 6 + [1410] * 4, reasons=[0] * 6 + [4] * 4))
    with Watched(clock, looks=10) as sampler:
        pass
    assert sampler.summary()["warnings"] == [
        "GPU 0: its clock fell from 1980 to 1410 MHz (-29 %) in 40 % of the looks: power cap"]


@pytest.mark.parametrize(("clocks", "reasons"), [
    ([1980] * 6 + [1410] * 4, [0]),  # nothing held it back: it had less to do
    ([1980] * 6 + [210] * 4, [1]),  # idle
    ([1980] * 6 + [1410] * 4, [2]),  # somebody's own setting
    ([1980] * 6 + [1900] * 4, [4]),  # -4 %
    ([1410] * 10, [4]),  # held back from the start: as slow as it began
    ([1980] * 9 + [1410], [0] * 9 + [4])])  # one look
def test_a_clock_that_is_not_throttled_below_its_own_start_is_no_warning(
        install: Install, clock: FakeClock, clocks: list[int], reasons: list[int]) -> None:
    install(FakeGpu(clock_mhz=clocks, reasons=reasons))
    with Watched(clock, looks=10) as sampler:
        pass
    assert sampler.summary()["warnings"] == []


def test_another_process_on_the_gpu_is_a_warning_that_names_it(install: Install, clock: FakeClock) -> None:
    install(FakeGpu(pids=(ME, 4242)))
    with Watched(clock, looks=2) as sampler:
        pass
    assert sampler.summary()["warnings"] == ["GPU 0 was shared with process 4242"]
    assert sampler.summary()["gpus"][0]["other_processes"] == 1


def test_processes_of_the_same_run_are_no_others(install: Install, clock: FakeClock) -> None:
    install(FakeGpu(pids=(ME, 4242)))
    with Watched(clock, looks=2, own_pids=[4242]) as sampler:
        pass
    assert sampler.summary()["warnings"] == []
    assert sampler.summary()["gpus"][0]["other_processes"] == 0


def test_who_computes_in_another_slice_is_no_neighbour_of_this_one(install: Install, clock: FakeClock) -> None:
    install(FakeGpu(pids=(ME, 4242)))
    with Watched(clock, looks=2, in_slices=True) as sampler:
        pass
    [row] = sampler.summary()["gpus"]
    assert sampler.summary()["warnings"] == []
    assert row["other_processes"] is None
    assert "all slices of a GPU" in row["unknown"]["other_processes"]


@pytest.mark.parametrize("pids", [(), (31337,)])
def test_in_a_container_that_numbers_processes_otherwise_nobody_is_accused(
        install: Install, clock: FakeClock, pids: Sequence[int]) -> None:
    install(FakeGpu(pids=pids))
    with Watched(clock, looks=2) as sampler:
        pass
    [row] = sampler.summary()["gpus"]
    assert sampler.summary()["warnings"] == []
    assert row["other_processes"] is None
    assert "numbers processes otherwise" in row["unknown"]["other_processes"]


def test_what_a_gpu_stops_saying_is_asked_once_more_and_never_again(install: Install, clock: FakeClock) -> None:
    gpu = FakeGpu(missing=["nvmlDeviceGetUtilizationRates"])  # as in MIG mode
    fake = install(gpu)
    with Watched(clock, looks=5) as sampler:
        pass
    [row] = sampler.summary()["gpus"]
    assert row["utilization"] is None
    assert row["unknown"]["utilization"] == "NVML: Not Supported"
    assert fake.calls.count("nvmlDeviceGetUtilizationRates") == 1


def test_an_older_driver_names_its_reasons_otherwise_and_is_understood(install: Install, clock: FakeClock) -> None:
    install(FakeGpu(reasons=[8], missing=["nvmlDeviceGetCurrentClocksEventReasons"]))
    with Watched(clock, looks=2) as sampler:
        pass
    assert sampler.summary()["gpus"][0]["clock_reasons"] == {"hardware slowdown": 1.0}


def test_a_sampler_without_nvml_does_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with Sampler([0]) as sampler:
        pass
    summary = sampler.summary()
    assert (summary["gpus"], summary["warnings"], summary["energy"]["joules"]) == ([], [], None)
    assert "nvidia-ml-py" in summary["reason"]
    assert summary["energy"]["reason"] == summary["reason"]


def test_a_sampler_of_a_gpu_that_is_not_there_says_so_and_leaves_nvml_closed(install: Install) -> None:
    fake = install(FakeGpu())
    with Sampler([3]) as sampler:
        pass
    assert "no GPU 3" in sampler.summary()["reason"]
    assert fake.opened == 0


def test_a_sampler_that_was_never_started_says_so() -> None:
    assert Sampler([0]).summary()["reason"] == "it was never started"


@pytest.mark.parametrize(("indices", "period_s"), [([], 0.1), ([0], 0.0)])
def test_a_sampler_of_nothing_or_without_a_period_is_refused(indices: list[int], period_s: float) -> None:
    with pytest.raises(ValueError, match="above 0 s"):
        Sampler(indices, period_s)


def test_a_sampler_looks_by_itself_in_the_background_until_it_is_stopped(install: Install) -> None:
    install(FakeGpu())
    with Sampler([0], period_s=0.01) as sampler:
        time.sleep(0.4)
    count = sampler.summary()["samples"]
    assert 8 <= count <= 42  # 40 where the machine has time for it
    time.sleep(0.05)
    sampler.stop()
    assert sampler.summary()["samples"] == count


# The library and the hardware themselves


def test_every_function_used_and_faked_is_one_of_the_librarys() -> None:
    pynvml = pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    source = Path(nvidia.__file__).read_text("utf-8")
    used = set(re.findall(r"\b(?:nvml[A-Z]\w+|NVML_[A-Z]\w+)", source))
    faked = {name for name in dir(FakeNvml) if re.match("nvml|NVML_", name)}
    assert "nvmlDeviceGetPowerUsage" in used
    assert [name for name in sorted(used | faked) if not hasattr(pynvml, name)] == []
    assert used - faked == set()


def test_the_bits_and_words_of_clock_reasons_are_the_librarys() -> None:
    pynvml = pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    named = {"SwPowerCap": "power cap", "HwThermalSlowdown": "hardware thermal slowdown", "GpuIdle": "idle",
             "HwPowerBrakeSlowdown": "power brake", "SwThermalSlowdown": "software thermal slowdown",
             "HwSlowdown": "hardware slowdown", "SyncBoost": "sync boost", "DisplayClockSetting": "display clocks",
             "ApplicationsClocksSetting": "application clocks"}
    for name, words in named.items():
        assert nvidia.CLOCK_REASONS[getattr(pynvml, f"nvmlClocksThrottleReason{name}")] == words


@pytest.mark.skipif(not GPU_HERE, reason="needs an NVIDIA GPU with its driver and nvidia-ml-py")
def test_the_gpus_at_hand_are_described_and_sampled() -> None:
    found, reason = gpus()
    assert reason is None
    assert all(isinstance(gpu, Gpu) and gpu.name and gpu.memory_total_bytes for gpu in found)
    with Sampler([found[0].index], period_s=0.05) as sampler:
        time.sleep(1.0)
    summary = sampler.summary()
    assert summary["samples"] >= 5
    counter, integral = summary["energy"]["counter"]["joules"], summary["energy"]["integral"]["joules"]
    if counter is not None and integral is not None:
        assert counter == pytest.approx(integral, rel=0.5)
