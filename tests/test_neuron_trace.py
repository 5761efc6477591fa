"""The XLA flavour's traced models by a stand-in of torch_neuronx.trace: what is kept, cores, memory, the canary.

Nothing here needs torch_xla; nothing says anything of a real device.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench import runner
from bench.backends.neuron import NeuronBackend, xla
from bench.backends.neuron.flavour import Flavour
from bench.backends.neuron.xla import open_device
from bench.case import Case, Effort
from bench.contracts import Work
from bench.errors import CaseFailed
from bench.measure.canary import Canary
from bench.registry import case_for, load_workload
from bench.runner import Session, ask

XLA = Flavour(name="xla", version="2.9.0.2.15+emulator", emulated=True)
WORK = Work(item="sample", items=1)
FLAGS = ["--auto-cast=none", "--optlevel=2"]  # neuronx-cc's; the cache's own word among them is none of its


def a_case(name: str = "gemm", dtype: str = "fp32", **fields: Any) -> Case:
    return case_for(name, load_workload(name), backend="neuron", dtype=dtype, size="tiny", **fields)


@contextlib.contextmanager
def variables(case: Case, cache: Path | str) -> Iterator[dict[str, Any]]:
    """A child's variables, as they are once torch_neuronx is imported; gives its settings."""
    import torch_neuronx

    backend = NeuronBackend(installed=XLA)
    settings = backend.fixed(case)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in backend.environment(case, settings, str(cache)).items():
            patch.setenv(name, value)
        patch.setenv("NEURON_COMPILE_CACHE_URL", str(cache))
        patch.setenv("NEURON_CC_FLAGS", "--auto-cast=none --cache_dir=/x --optlevel=2")
        torch_neuronx.xla._done.clear()
        torch_neuronx.xla.init()
        yield settings


@contextlib.contextmanager
def traced(case: Case, cache: Path | str, cores: int | str | None = None) -> Iterator[Any]:
    """An open device of traced models."""
    options = {} if cores is None else {"backend_options": {"cores": cores}}
    case = case if cores is None else Case(**(case.to_json() | options))
    with variables(case, cache) as settings, contextlib.closing(open_device(case, settings, XLA)) as device:
        yield device


def traces(stand_in: Any) -> list[dict[str, Any]]:
    return [call for call in stand_in.CALLS if "compiler_args" in call]


# What is kept


def test_a_model_is_traced_once_with_explicit_flags_and_then_loaded(stand_in: Any, tmp_path: Path) -> None:
    x = torch.randn(4, 8)
    outputs = []
    for _ in range(2):
        stand_in.CALLS.clear()
        torch.manual_seed(0)
        with traced(a_case(), tmp_path) as device:
            module = device.place(nn.Linear(8, 8))
            outputs.append(device.prepare(module, [device.put(x)], WORK)(x))
            report, graphs = device.report(), device.compiles()
        assert graphs == 1
    assert traces(stand_in) == []
    assert report["compile"] == {"cache": "warm", "traced": 0, "loaded": 1}
    assert report["device"]["compiler_args"] == FLAGS
    torch.testing.assert_close(*outputs)


def test_what_changes_the_graph_is_traced_anew(stand_in: Any, tmp_path: Path) -> None:
    for case, rows in ((a_case(), 4), (a_case(), 5), (a_case(seed=1), 4), (a_case(dtype="bf16"), 4)):
        with traced(case, tmp_path) as device:
            x = device.put(torch.ones(rows, 8))
            device.prepare(device.place(nn.Linear(8, 8)), [x], WORK)(x)
            assert device.report()["compile"]["cache"] == "cold"
    assert len(traces(stand_in)) == 4


def test_a_trace_kept_for_another_chip_or_another_size_of_logical_core_is_not_loaded(
        stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = xla.facts
    for chip, lnc in (("trainium1", 1), ("trainium2", 1), ("trainium2", 2)):
        monkeypatch.setattr(xla, "facts", lambda flavour, known=(chip, lnc): found(flavour) | {
            "chip": known[0], "lnc": known[1]})
        with traced(a_case(), tmp_path) as device:
            device.prepare(device.place(nn.Linear(8, 8)), [torch.ones(4, 8)], WORK)
            assert device.report()["compile"]["cache"] == "cold"
    assert len(traces(stand_in)) == 3


def test_of_two_processes_that_miss_at_once_one_traces_and_the_other_loads(
        stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = stand_in.trace

    def slowly(*words: Any, **more: Any) -> Any:
        time.sleep(0.3)
        return really(*words, **more)

    monkeypatch.setattr(stand_in, "trace", slowly)
    case = a_case()
    with variables(case, tmp_path) as settings:
        devices = [open_device(case, settings, XLA) for _ in range(2)]
        running = [threading.Thread(target=device.prepare, args=(device.place(nn.Linear(8, 8)), [torch.ones(4, 8)],
                                                                 WORK)) for device in devices]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        compiles = [device.report()["compile"] for device in devices]
        for device in reversed(devices):  # each leaves torch's grad mode as it found it
            device.close()
    assert len(traces(stand_in)) == 1
    assert sorted((one["traced"], one["loaded"]) for one in compiles) == [(0, 1), (1, 0)]


def test_at_an_address_no_trace_is_kept(stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with traced(a_case(), "s3://bucket/x") as device:
            device.prepare(device.place(nn.Linear(8, 8)), [torch.ones(4, 8)], WORK)
            assert device.report()["compile"]["cache"] == "cold"
    assert list(tmp_path.iterdir()) == []


# The canary


def test_the_canary_is_traced_once_for_all_cases_and_counts_for_none(stand_in: Any, tmp_path: Path) -> None:
    shapes = []
    for seed in (0, 1):
        stand_in.CALLS.clear()
        with traced(a_case(seed=seed), tmp_path) as device:
            found = Canary(device).before()
            assert found["passed"], found["reasons"]
            assert device.compiles() == 0
        shapes.append({call["inputs"][0] for call in traces(stand_in)})
    assert shapes[0]
    assert not shapes[0] & shapes[1]  # a machine that was disturbed may want one size more


def test_what_the_canary_alone_cannot_do_is_not_the_models_fault(
        stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*words: Any, **more: Any) -> Any:
        raise RuntimeError("[NCC_EVRF001] Operator dot is not supported")

    monkeypatch.setattr(stand_in, "trace", refused)
    with traced(a_case(), tmp_path) as device, pytest.raises(RuntimeError, match=r"^canary: RuntimeError: ") as failed:
        Canary(device).before()
    result = {"status": "failed", "reason": f"RuntimeError: {failed.value}"}
    monkeypatch.setattr(runner, "converse", lambda *words: {"result": result, "stderr": "", "wall_s": 1.0})
    known = ask({"role": "measure"}, a_case(), Session(effort=Effort(), machine={"name": "a machine"}), {},
                str(tmp_path), "child 1")
    assert known["status"] == "unsupported"
    assert known["reason"].startswith("canary: not supported on")


# Cores


def test_a_rank_traces_for_the_one_core_it_has(stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    for cores in (None, "4-5"):
        stand_in.CALLS.clear()
        with traced(a_case(parallelism="dp=2", seed=0 if cores else 1), tmp_path, cores) as device:
            device.prepare(device.place(nn.Linear(8, 8)), [device.put(torch.ones(8, 8))], WORK)
            assert device.report()["device"]["cores"] == 2
        assert stand_in.CALLS == [{"inputs": [(8, 8)], "compiler_args": FLAGS}]


@pytest.mark.parametrize(("cores", "parts"), [(1, 1), (2, 2), (4, 4), ("4-7", 4)])
def test_cores_take_equal_parts_of_a_batch_all_at_once(stand_in: Any, tmp_path: Path, cores: int | str,
                                                       parts: int) -> None:
    torch.manual_seed(0)
    module, x = nn.Linear(8, 8), torch.randn(8, 8)
    with traced(a_case(), tmp_path, cores) as device:
        call = device.prepare(device.place(module), [x], WORK)
        assert traces(stand_in) == [{"inputs": [(8 // parts, 8)], "compiler_args": FLAGS}]
        stand_in.CALLS.clear()
        found = call(x)
        assert device.report()["device"]["cores"] == parts
    (ran,) = stand_in.CALLS if parts > 1 else [None]
    assert ran == (None if parts == 1 else {"cores": list(range(parts)), "at_once": parts})
    torch.testing.assert_close(found, module(x).detach())


def test_a_batch_that_cores_cannot_share_is_unsupported_but_the_canary_s_is_filled_up(stand_in: Any,
                                                                                      tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = nn.Linear(8, 8), torch.randn(8, 8)
    with traced(a_case(), tmp_path, 3) as device:
        with pytest.raises(CaseFailed, match=r"3 cores take equal parts.*8 is no multiple") as failed:
            device.prepare(device.place(module), [x], WORK)
        found = device.prepare(device.place(module), [x], WORK, plain=True)(x)
    assert failed.value.status == "unsupported"
    assert stand_in.CALLS[0]["inputs"] == [(3, 8)]
    torch.testing.assert_close(found, module(x).detach())


def test_autocast_has_no_meaning_in_a_trace(stand_in: Any, tmp_path: Path) -> None:
    with (pytest.raises(CaseFailed, match="mode=lazy"),
          traced(a_case("bert", task="inference", dtype="amp-bf16", backend_options={"mode": "trace"}), tmp_path)):
        pytest.fail("opened")


# Memory


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], int]:
    """The driver's peaks of two chips with four physical cores each, two of which are a logical one."""
    found = {(device, core): 100 for device in range(2) for core in range(4)}
    known = xla.facts
    monkeypatch.setattr(xla, "device_memory", lambda: [{"device": device, "core": core, "peak_bytes": peak}
                                                       for (device, core), peak in found.items()])
    monkeypatch.setattr(xla, "facts", lambda flavour: known(flavour) | {"lnc": 2})
    return found


@pytest.mark.parametrize(("cores", "own"), [("2-2", [(1, 0), (1, 1)]), ("1-2", [(0, 2), (0, 3), (1, 0), (1, 1)])])
def test_memory_is_that_of_the_physical_cores_of_this_process_alone(
        stand_in: Any, tmp_path: Path, peaks: dict[tuple[int, int], int], cores: str,
        own: list[tuple[int, int]]) -> None:
    with traced(a_case(), tmp_path, cores) as device:
        device.reset_peak_memory()
        peaks.update(dict.fromkeys(peaks, 1_000_000))  # of other streams
        peaks.update(dict.fromkeys(own, 300))
        found, method = device.peak_memory_bytes()
    assert found == 300 * len(own)
    assert f"{len(own)} physical cores" in method


def test_memory_is_unknown_where_an_earlier_process_had_more_of_a_core(
        stand_in: Any, tmp_path: Path, peaks: dict[tuple[int, int], int]) -> None:
    with traced(a_case(), tmp_path, "0-0") as device:
        device.reset_peak_memory()
        peaks[0, 0] = 300
        assert device.peak_memory_bytes() == (None, "the driver's peak of a core was not above that of an earlier "
                                                    "process")
        peaks[0, 1] = 500
        assert device.peak_memory_bytes()[0] == 800


def test_memory_of_a_core_that_the_runtime_chose_is_told_by_neuron_monitor_or_unknown(
        stand_in: Any, tmp_path: Path, peaks: dict[tuple[int, int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    with traced(a_case(), tmp_path) as device:
        device.reset_peak_memory()
        peaks[1, 2] = peaks[1, 3] = 700
        found, reason = device.peak_memory_bytes()
        assert (found, "neither NEURON_RT_VISIBLE_CORES nor neuron-monitor" in reason) == (None, True)
    tools, lines = Path(__file__).parent / "fakes/neuron_tools", tmp_path / "monitor.jsonl"
    lines.write_text(json.dumps({"neuron_runtime_data": [{"report": {"neuroncore_counters": {
        "neuroncores_in_use": {"3": {"neuroncore_utilization": 50.0}}}}}]}) + "\n")
    monkeypatch.setenv("FAKE_NEURON_MONITOR", str(lines))
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    peaks[1, 2] = peaks[1, 3] = 100
    with traced(a_case(), tmp_path) as device:
        device.reset_peak_memory()
        peaks[1, 2], peaks[1, 3] = 700, 800
        deadline_s = time.monotonic() + 10
        while (found := device.peak_memory_bytes()[0]) is None and time.monotonic() < deadline_s:
            device.reset_peak_memory()
            time.sleep(0.5)
    assert found == 1500


def test_memory_that_the_driver_does_not_show_is_unknown(stand_in: Any, tmp_path: Path) -> None:
    with traced(a_case(), tmp_path) as device:
        device.reset_peak_memory()
        assert device.peak_memory_bytes() == (None, "the Neuron driver shows no memory statistics here")


def test_memory_of_a_core_without_statistics_shifts_nobody_elses(stand_in: Any, tmp_path: Path,
                                                                 peaks: dict[tuple[int, int], int | None]) -> None:
    peaks[0, 0] = None
    for cores, expected in (("0-0", None), ("1-1", 700)):
        peaks.update({(0, 2): 100, (0, 3): 100})
        with traced(a_case(), tmp_path, cores) as device:
            device.reset_peak_memory()
            peaks.update({(0, 2): 300, (0, 3): 400})
            assert device.peak_memory_bytes()[0] == expected
