"""torch_xla for real on PJRT's CPU device, under the XLA flavour of Neuron and TPU.

What needs torch_xla is skipped by name without it: ci/xla.sh makes an environment that has it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.backends import tpu as tpu_module
from bench.backends.neuron.flavour import Flavour
from bench.backends.tpu import TpuBackend
from bench.case import Case, Effort
from bench.contracts import Device, Program, Work
from bench.errors import CaseFailed
from bench.machine.accelerators import TPUS
from bench.measure import canary
from bench.measure.canary import Canary
from bench.pairing import compare_cases
from bench.record import Record
from bench.registry import case_for, load_scenario, load_workload, load_workload_file, workload_names
from bench.runner import Session, run_case
from tests.commandline import MY_MODEL

XLA = Flavour(name="xla", version="2.9.0.2.15+emulator", emulated=True)
WORK = Work(item="sample", items=1)
MACHINE = {"name": "a machine"}

with_xla = pytest.mark.skipif(find_spec("torch_xla") is None,
                              reason="torch_xla is not installed: ci/xla.sh makes an environment that has it")
if find_spec("torch_xla") is not None:
    os.environ["PJRT_DEVICE"] = "CPU"  # one device type a process, said before torch_xla is imported
    # What LLVM makes of a graph is no matter here, and would take most of the time.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    torch.set_num_threads(1)
    import torch_xla

    torch_xla.device()  # the first backward pass of a process counts the devices, and later ones are unknown to it


def a_case(name: str = "gemm", backend: str = "neuron", dtype: str = "fp32", **fields: Any) -> Case:
    return case_for(name, load_workload(name), backend=backend, dtype=dtype, size="tiny", **fields)


def a_small_case(**fields: Any) -> Case:
    """Of a user's own workload, without a library's models: children of it start in half the time."""
    return case_for("my_model", load_workload_file(str(MY_MODEL)), backend="neuron", dtype="fp32", size="tiny",
                    workload_file=str(MY_MODEL), **fields)


@contextlib.contextmanager
def lazy(case: Case | None = None) -> Iterator[Any]:
    """An open LazyDevice on PJRT's CPU."""
    from bench.backends._lazy import LazyDevice

    with contextlib.closing(LazyDevice(case or a_case(), "CPU")) as device:
        yield device


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary that ends early: of every workload it would take most of the time, and tests of its own are here."""
    monkeypatch.setattr(canary, "LONG_ENOUGH_NS", 2_000_000)
    monkeypatch.setattr(canary, "COPY_BYTES", 2**20)


def run(case: Case, *, repeats: int = 1, max_seconds: float = 0.3) -> Record:
    effort = Effort(repeats=repeats, max_seconds=max_seconds, timeout_s=280)
    record = run_case(case, Session(effort=effort, machine=MACHINE))
    assert record.tier == "emulated"
    return record


def assert_right(record: Record) -> None:
    """Measured with parity. What a shared machine does to a canary, and to what is held against it, is no fault."""
    assert [reason for reason in record.reasons if not reason.startswith("canary:")
            and "same process" not in reason] == []
    assert record.status in ("valid", "invalid")
    assert record.parity["status"] == "passed"


# ---------------------------------------------------------------- lazy execution


@with_xla
class TestLazy:
    def test_a_torch_xla_that_computes_elsewhere_is_refused(self) -> None:
        from bench.backends._lazy import LazyDevice

        with pytest.raises(CaseFailed, match="computes on CPU, and NEURON was asked for"):
            LazyDevice(a_case(), "NEURON")

    def test_a_call_whose_result_nobody_keeps_is_computed_all_the_same(self) -> None:
        from torch_xla.debug import metrics

        def runs() -> int:
            found = metrics.metric_data("ExecuteTime")
            return found[0] if found else 0

        with lazy() as device:
            module, x = device.place(nn.Linear(8, 8)), device.put(torch.ones(2, 8))
            device.wait()
            before = runs()
            module(x)  # as torch_xla has it: nothing is launched, and nothing ever will be
            device.wait()
            assert runs() == before
            call = device.prepare(module, [x], WORK)
            for _ in range(3):
                call(x)
            device.wait()
            assert runs() == before + 3

    def test_the_canary_passes_and_catches_a_wait_that_does_not_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with lazy() as device:
            found = Canary(device).before()
            assert found["passed"], found["reasons"]
            assert device.compiles() == 0  # its graphs are none of the case's
            monkeypatch.setattr(device, "wait", lambda: None)
            assert not Canary(device).before()["passed"]

    def test_a_case_finds_no_graph_that_the_canary_compiled(self) -> None:
        with lazy(a_case(dtype="bf16")) as device:
            n = Canary(device).before()["sizes"][0]
            module, x = device.place(nn.Linear(n, n, bias=False)), device.put(torch.ones(n, n))
            call = device.prepare(module, [x], WORK)
            for _ in range(2):
                call(x)
                device.wait()
            assert device.compiles() == 1

    def test_a_wait_compiles_nothing_and_a_new_shape_does(self) -> None:
        with lazy() as device:
            module, x = device.place(nn.Linear(7, 3)), device.put(torch.ones(2, 7))
            call = device.prepare(module, [x], WORK)
            assert device.compiles() == 0
            seen = []
            for inputs in (x, x, x, device.put(torch.ones(5, 7)), x):
                call(inputs)
                device.wait()
                seen.append(device.compiles())
            assert seen == [1, 1, 1, 2, 2]

    def test_adamw_compiles_twice_and_then_never_and_bert_learns_what_the_cpu_learns(self) -> None:
        from bench.measure import parity
        from bench.registry import load_backend

        case = a_case("bert", task="training", batch_size=3)  # graphs that no other test here has compiled
        scenario, workload, cpu = load_scenario("training"), load_workload("bert"), load_backend("cpu")
        plain = a_case("bert", backend="cpu", task="training", batch_size=3, compile="off", threads=1)
        with contextlib.closing(cpu.open(plain, cpu.fixed(plain))) as device:
            reference = scenario.prepare(workload.build(plain), device, WORK).evidence(None, full=True)
        with lazy(case) as device:
            timed = scenario.prepare(workload.build(case), device, WORK)
            losses, compiles = [], []
            for _ in reference:
                loss = timed.step()
                device.wait()
                losses += device.read(loss)
                compiles.append(device.compiles())
        assert compiles == [1] + [2] * 9
        assert losses[-1] < losses[0]
        assert parity.check(case, losses, reference)["status"] == "passed"

    @pytest.mark.parametrize("accumulate", [1, 2, 4])
    def test_accumulated_batches_move_the_weights_as_the_whole_batch_does(self, accumulate: int) -> None:
        class Loss(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(1)
                self.linear = nn.Linear(4, 1)

            def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                return nn.functional.mse_loss(self.linear(x), y)

        torch.manual_seed(0)
        x, y = torch.randn(8, 4), torch.randn(8, 1)
        alone = Loss()
        alone(x, y).backward()
        with lazy(a_case("bert", task="training")) as device:
            model = device.place(Loss())
            batches = [[device.put(t) for t in pair] for pair in zip(x.chunk(accumulate), y.chunk(accumulate),
                                                                     strict=True)]
            step = device.prepare_training(Program(model=model, batches=batches, accumulate=accumulate,
                                                   optimizer=lambda p: torch.optim.SGD(p, lr=0.1)), WORK)
            loss = device.read(step())[0]
            moved = device.read(model.linear.weight)[0]
            compiles = []
            for _ in range(3):
                step()
                device.wait()
                compiles.append(device.compiles())
        assert float(loss) == pytest.approx(alone(x, y).item(), rel=1e-5)
        torch.testing.assert_close(moved, alone.linear.weight - 0.1 * alone.linear.weight.grad)
        assert compiles[1] == compiles[2]

    def test_tied_weights_stay_tied_and_are_trained_as_one(self) -> None:
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.into, self.out = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
                self.out.weight = self.into.weight

        with lazy() as device:
            model = device.place(Tied())
            assert model.out.weight is model.into.weight
            assert model.out.weight.device.type == "xla"
            assert len(list(model.parameters())) == 1

    def test_bf16_and_autocast_are_those_of_the_case(self) -> None:
        with lazy(a_case(dtype="bf16")) as device:
            assert device.place(nn.Linear(2, 2)).weight.dtype == torch.bfloat16
            assert device.put(torch.ones(2)).dtype == torch.bfloat16
            assert device.put(torch.ones(2, dtype=torch.int64)).dtype == torch.int64
        with lazy(a_case("bert", dtype="amp-bf16")) as device:
            linear, x = device.place(nn.Linear(2, 2)), device.put(torch.ones(1, 2))
            assert linear.weight.dtype == torch.float32
            output = device.prepare(linear, [x], WORK)(x)
            assert output.dtype == torch.bfloat16
            assert device.read(output)[0].dtype == torch.float32

    def test_an_operator_that_falls_back_to_the_cpu_is_counted_and_warned_of(self) -> None:
        class Bessel(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.special.bessel_j0(x)

        with lazy() as device:
            x = device.put(torch.ones(4))
            call = device.prepare(Bessel(), [x], WORK)
            call(x)
            device.reset_peak_memory()  # here the timed part begins
            assert device.report()["fallbacks"] == {}
            for _ in range(3):
                call(x)
            report = device.report()
            assert report["fallbacks"] == {"operators": {"aten::special_bessel_j0": 3}, "runs": 3}
            assert "bessel" in report["warnings"][0]

    def test_reading_a_number_is_no_fallback(self) -> None:
        with lazy() as device:
            device.put(torch.ones(4)).sum().item()
            assert device.report()["fallbacks"] == {}

    def test_what_torch_xla_cannot_run_is_unsupported_in_words(self) -> None:
        case = a_case("dlrm", task="training")  # sparse gradients, unless asked otherwise
        with lazy(case) as device:
            timed = load_scenario("training").prepare(load_workload("dlrm").build(case), device, WORK)
            with pytest.raises(CaseFailed, match="sparse_gradients=false") as failed:
                timed.step()
        assert failed.value.status == "unsupported"

    def test_gradients_are_averaged_over_as_many_devices_as_there_are_ranks_or_not_at_all(self) -> None:
        program = Program(model=nn.Linear(1, 1), optimizer=torch.optim.SGD)
        with lazy(a_case("bert", task="training", parallelism="dp=2")) as device, pytest.raises(
                CaseFailed, match="over a world of 1, and 2 ranks were asked for") as failed:
            device.prepare_training(program, WORK)
        assert failed.value.status == "invalid"

    def test_memory_that_pjrt_does_not_count_is_unknown(self) -> None:
        with lazy() as device:
            assert device.peak_memory_bytes() == (None, "PJRT's CPU device does not say how much memory it uses")


# ---------------------------------------------------------------- Neuron, lazily, through the worker

CASES = [(name, task) for name in workload_names() for task in load_workload(name).scenarios
         if load_workload(name).parallelism == "dp=1"]  # an all-reduce of torch_xla's does nothing on the CPU
OTHER_WAYS: dict[tuple[str, str], dict[str, Any]] = {
    ("dlrm", "training"): {"sparse_gradients": False},  # torch_xla has no sparse tensors
    ("mixtral", "inference"): {"experts": "batched_mm"},  # nor the histogram of the grouped product
}


@with_xla
@pytest.mark.usefixtures("in_process", "stand_in", "briefly")
@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_workload_runs_lazily_with_parity(name: str, task: str) -> None:
    options = OTHER_WAYS.get((name, task), {})
    record = run(a_case(name, task=task, options=options, backend_options={"mode": "lazy"}), max_seconds=0.05)
    assert_right(record)
    assert record.fallbacks == {}
    assert (record.device["pjrt_device"], record.device["execution"]) == ("CPU", "lazy")
    assert record.device["flags"]["NEURON_CC_FLAGS"].startswith("--auto-cast=none --optlevel=2")


@with_xla
@pytest.mark.usefixtures("in_process", "stand_in", "briefly")
@pytest.mark.parametrize("name", [name for name, task in CASES if task == "inference"
                                  and "generation" not in load_workload(name).scenarios[task]])
def test_every_model_without_state_runs_traced_with_parity(name: str) -> None:
    record = run(a_case(name, task="inference"), max_seconds=0.05)
    assert_right(record)
    assert record.device["execution"] == "trace"
    assert "inside the timed part" in record.device["inputs"]
    assert record.compile["graphs"] == 1


@with_xla
@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_children_trace_cold_and_then_load_what_was_kept() -> None:
    record = run(a_case("bert", task="inference"), repeats=2)
    assert (record.status, record.reasons) == ("valid", ())
    cold, warm = record.children[1:]
    assert (cold["compile"]["cache"], warm["compile"]["cache"]) == ("cold", "warm")
    assert (cold["compile"]["traced"], warm["compile"]["loaded"]) == (1, 1)
    assert warm["compile"]["seconds"] > 0


@with_xla
@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_children_train_with_a_warning_that_aws_no_longer_supports_it() -> None:
    record = run(a_case("bert", task="training", dtype="amp-bf16"), max_seconds=2.0)
    assert (record.status, record.reasons) == ("valid", ())
    assert any("has not supported it since SDK 2.30" in warning for warning in record.warnings)
    assert record.compile["graphs"] == 2
    assert record.parity["status"] == "passed"


@with_xla
@pytest.mark.usefixtures("in_process", "stand_in")
@pytest.mark.parametrize("name", ["training", pytest.param("collectives", marks=pytest.mark.slow)])
def test_ranks_whose_all_reduce_changes_nothing_are_invalid(name: str) -> None:
    # As any on PJRT's CPU, where each rank is a world of one.
    record = run(a_case(name) if name == "collectives" else a_small_case(task=name, parallelism="dp=2"))
    assert record.status == "invalid"
    assert "an all-reduce of ones over 2 ranks gave 1 on rank" in record.reasons[0]
    assert record.metrics == ()


@with_xla
@pytest.mark.slow
@pytest.mark.usefixtures("in_process", "stand_in")
@pytest.mark.parametrize("mode", ["trace", "lazy"])
def test_streams_side_by_side_need_no_world_of_their_own(mode: str) -> None:
    record = run(a_small_case(parallelism="dp=2", backend_options={"mode": mode}), max_seconds=2.0)
    assert_right(record)
    assert record.device["cores"] == 2
    assert [rank["compile"]["cache"] for rank in record.children[1]["ranks"]] == ["cold", "cold"]


@with_xla
@pytest.mark.slow
@pytest.mark.usefixtures("stand_in")
def test_two_trainings_are_alternated_in_one_child() -> None:
    one = a_small_case(task="training", compile="off")
    found = compare_cases([one, one], Effort(max_seconds=1.0, timeout_s=280), margin=0.01, tell=lambda message: None)
    assert (found["status"], found["reasons"]) == ("valid", [])
    assert found["method"].startswith("alternated in one process")
    assert [side["status"] for side in found["parity"]] == ["passed", "passed"]


# ---------------------------------------------------------------- cold and warm, lazily


class Writes(nn.Module):
    """Leaves a NEFF as it is computed, as libneuronxla would: PJRT's CPU device leaves none."""

    def __init__(self, neff: Path | None, width: int) -> None:
        super().__init__()
        self.neff, self.linear = neff, nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.neff is not None:
            leave(self.neff)
        return self.linear(x)


def leave(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")


@with_xla
@pytest.mark.parametrize(("width", "kept", "anew", "flags", "cache"), [
    (41, None, (), "", "cold"),
    (42, "traced/of-another-model.pt", (), "", "cold"),
    (43, "neuronxcc-2/MODULE_1/model.neff", (), "", "warm"),
    (44, "neuronxcc-2/MODULE_1/model.neff", ("case",), "", "cold"),  # it was another model's
    (45, "neuronxcc-2/MODULE_1/model.neff", ("canary",), "", "warm"),  # whose graphs are none of the case's
    (46, "neuronxcc-2/MODULE_1/model.neff", ("canary", "case"), "", "cold"),
    (47, "elsewhere/MODULE_1/model.neff", (), "--cache_dir={}/elsewhere", "warm"),
    (48, "neuronxcc-2/MODULE_1/model.neff", (), "--cache_dir={}/elsewhere", "cold"),
    (49, "neuronxcc-2/MODULE_1/model.neff", (), "--no_cache", "cold")])
def test_a_cache_was_warm_where_no_graph_of_the_case_was_compiled_anew(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, kept: str | None, anew: tuple[str, ...],
        flags: str, cache: str) -> None:
    from bench.backends.neuron.xla import open_device

    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", str(tmp_path))
    monkeypatch.setenv("NEURON_CC_FLAGS", flags.format(tmp_path))
    if kept:
        leave(tmp_path / kept)
    with contextlib.closing(open_device(a_case(), {"mode": "lazy"}, XLA)) as device:
        assert device.report()["compile"]["cache"] is None  # nothing was compiled
        x = device.put(torch.ones(2, width))  # a graph that no other test here has compiled
        for whose in ("canary", "case"):
            neff = tmp_path / "neuronxcc-2" / whose / "model.neff" if whose in anew else None
            device.prepare(device.place(Writes(neff, width)), [x], WORK, plain=whose == "canary")(x)
            device.wait()
            time.sleep(0.3)  # compilers take seconds, and the clock of files is coarse
        assert device.compiles() == 1
        assert device.report()["compile"]["cache"] == cache


@with_xla
def test_whether_a_cache_at_an_address_was_warm_is_unknown_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.backends.neuron.xla import open_device

    monkeypatch.setenv("NEURON_COMPILE_CACHE_URL", "s3://bucket/x")
    with contextlib.closing(open_device(a_case(), {"mode": "lazy"}, XLA)) as device:
        module, x = device.place(nn.Linear(39, 39)), device.put(torch.ones(2, 39))
        device.prepare(module, [x], WORK)(x)
        device.wait()
        found = device.report()["compile"]
    assert found["cache"] is None
    assert "s3://bucket/x" in found["cache_unknown"]


# ---------------------------------------------------------------- TPU


def tpu_machine(root: Path, *devices: str) -> Path:
    """A root folder with these PCI device ids of Google's."""
    for number, device in enumerate(devices):
        folder = root / f"sys/bus/pci/devices/0000:00:{number:02d}.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text("0x1ae0\n")
        (folder / "device").write_text(f"{device}\n")
    return root


def test_without_a_tpu_there_is_a_reason_and_a_next_step(tmp_path: Path) -> None:
    found = TpuBackend(tpu_machine(tmp_path, "0x1f44")).probe()  # another device of Google's
    assert (found.available, found.reason) == (False, "no TPU on this machine's PCI bus")
    assert "not run on hardware by us" in (found.fix or "")


def test_a_tpu_without_torch_xla_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = tpu_machine(tmp_path, "0x0063", "0x0063")
    monkeypatch.setattr(tpu_module, "find_spec", lambda name: None)
    found = TpuBackend(machine).probe()
    assert found.reason == "2 x TPU v5e here, and torch_xla is not installed"
    assert "torch_xla[tpu]==2.9.0" in (found.fix or "")
    monkeypatch.setattr(tpu_module, "find_spec", lambda name: object())
    found = TpuBackend(machine).probe()
    assert [device["chip"] for device in found.devices] == ["tpu-v5e", "tpu-v5e"]
    assert found.devices[0]["name"] == "TPU v5e (not run on hardware by us)"


def test_every_chip_that_has_a_name_of_the_catalog_is_found_in_it() -> None:
    from bench.catalog.chips import chip_id_of

    assert {name for name in TPUS.values() if chip_id_of(name) is None} == {"TPU v2 or v3"}


@pytest.mark.parametrize(("fields", "word"), [({"dtype": "fp16"}, "fp16"), ({"dtype": "tf32"}, "tf32"),
                                              ({"compile": "off"}, "always compile"),
                                              ({"parallelism": "dp=2"}, "dp=2")])
def test_what_has_no_meaning_on_a_tpu_is_refused(fields: dict[str, Any], word: str) -> None:
    assert word in (TpuBackend().refuse(a_case(backend="tpu", **fields)) or "")
    assert TpuBackend().refuse(a_case(backend="tpu")) is None


def test_a_child_is_told_its_device_type_before_torch_xla_can_choose_one() -> None:
    case = a_case(backend="tpu")
    assert TpuBackend().environment(case, {}, "/scratch")["PJRT_DEVICE"] == "TPU"
    assert (TpuBackend().tier, TpuBackend(pjrt_device="CPU").tier) == ("measured", "emulated")


def test_memory_that_runs_out_is_told_from_xlas_own_words() -> None:
    text = "RuntimeError: RESOURCE_EXHAUSTED: Attempting to reserve 9.77G at the bottom of memory."
    assert TpuBackend().explain(text) == ("oom", f"the TPU's memory ran out: {text}")
    assert TpuBackend().explain("RuntimeError: something else") is None


@with_xla
@pytest.mark.usefixtures("in_process")
def test_the_tpu_backend_runs_on_pjrts_cpu_when_tests_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpu_module, "BACKEND", TpuBackend(pjrt_device="CPU"))
    record = run(a_case("bert", backend="tpu", task="inference", batch_size=2))
    assert (record.status, record.reasons) == ("valid", ())
    assert (record.device["kind"], record.device["chip"], record.device["pjrt_device"]) == ("tpu", None, "CPU")
    assert any("not run on hardware by us" in warning for warning in record.warnings)


@with_xla
def test_a_tpu_that_is_not_there_is_no_silent_cpu_run() -> None:
    device: Device | None = None
    with pytest.raises(CaseFailed, match="computes on CPU, and TPU was asked for"):
        device = TpuBackend().open(a_case(backend="tpu"), {"compile": "xla"})
    assert device is None
