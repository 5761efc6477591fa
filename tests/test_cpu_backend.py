"""The CPU backend: threads, denormals, layout, bf16, inductor, memory, and real children's ledgers."""

from __future__ import annotations

import contextlib
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.backends import cpu as cpu_module
from bench.case import Case, Effort
from bench.contracts import Device, Program, Work
from bench.errors import CaseFailed
from bench.registry import case_for, load_backend, load_workload, load_workload_file
from bench.runner import Session, run_case

CPU = load_backend("cpu")
SETTINGS = {"threads": 1, "layout": "contiguous", "compile": "off"}
NO_COMPILER = shutil.which("g++") is None and shutil.which("clang++") is None


def a_case(name: str = "bert", dtype: str = "fp32", **fields: Any) -> Case:
    return case_for(name, load_workload(name), backend="cpu", dtype=dtype, size="tiny", **fields)


@contextlib.contextmanager
def opened(case: Case, **settings: Any) -> Iterator[Device]:
    """An open device; torch's own settings are put back as they were."""
    threads = torch.get_num_threads()
    with contextlib.closing(CPU.open(case, SETTINGS | settings)) as device:
        yield device
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


# ---------------------------------------------------------------- what a child is given


def test_threads_are_set_in_the_environment_before_torch_is_imported() -> None:
    environment = CPU.environment(a_case(threads=3), CPU.fixed(a_case(threads=3)), "/scratch")
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("3", "3")
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["TORCHINDUCTOR_CACHE_DIR"].startswith("/scratch/")


def test_each_rank_compiles_into_a_folder_of_its_own_that_the_next_run_finds_again(
        monkeypatch: pytest.MonkeyPatch) -> None:
    folders, case = [], a_case(parallelism="dp=2")
    for rank in ("0", "1", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        folders.append(CPU.environment(case, CPU.fixed(case), "/scratch")["TORCHINDUCTOR_CACHE_DIR"])
    assert len(set(folders)) == 2
    assert folders[1] == folders[2]


def test_auto_starts_from_the_physical_cores_and_tries_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_module, "usable_cores", lambda: 24)
    case = a_case()
    assert CPU.fixed(case)["threads"] == 24
    program = Program(model=nn.Linear(1, 1))
    assert CPU.axes(case, program)["threads"] == [24, 12, 6, 3, 1]
    assert "threads" not in CPU.axes(a_case(threads=2), program)


@pytest.mark.parametrize(("fields", "compiles"), [({}, True), ({"compile": "off"}, False),
                                                  ({"task": "training"}, False)])
def test_inductor_is_tried_for_inference_that_leaves_it_open(monkeypatch: pytest.MonkeyPatch,
                                                             fields: dict[str, Any], compiles: bool) -> None:
    monkeypatch.setattr(cpu_module, "_compiler", lambda: "/usr/bin/g++")
    assert ("compile" in CPU.axes(a_case(**fields), Program(model=nn.Linear(1, 1)))) == compiles


def test_without_a_compiler_inductor_is_refused_and_never_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_module, "_compiler", lambda: None)
    assert "compile" not in CPU.axes(a_case(), Program(model=nn.Linear(1, 1)))
    assert "install g++" in (CPU.refuse(a_case(compile="on")) or "")
    with pytest.raises(CaseFailed, match="C\\+\\+ compiler"):
        CPU.open(a_case(), SETTINGS | {"compile": "inductor"})


@pytest.mark.parametrize(("fields", "word"), [({"dtype": "amp-fp16"}, "amp-fp16"), ({"dtype": "fp8"}, "fp8"),
                                              ({"compile": "tensorrt"}, "tensorrt"), ({"parallelism": "tp=2"}, "tp=2"),
                                              ({"dtype": "fp16", "task": "training"}, "fp16 training")])
def test_what_has_no_meaning_on_a_cpu_is_refused(fields: dict[str, Any], word: str) -> None:
    plain = {"workload": "w", "size": "tiny", "task": "inference", "scenario": "offline", "backend": "cpu",
             "dtype": "fp32", "batch_size": 1}
    assert word in (CPU.refuse(Case(**(plain | fields))) or "")
    assert CPU.refuse(Case(**plain)) is None


# ---------------------------------------------------------------- the open device


def test_torch_runs_with_the_threads_of_the_settings() -> None:
    with opened(a_case(), threads=2) as device:
        assert torch.get_num_threads() == 2
        assert device.report()["device"]["threads"] == 2


def test_denormals_are_flushed() -> None:
    with opened(a_case()) as device:
        if not device.report()["device"]["flush_denormals"]:
            pytest.skip("this CPU cannot flush denormals")
        assert float(torch.tensor([1e-30]) * 1e-12) == 0.0
    assert float(torch.tensor([1e-30]) * 1e-12) > 0.0


def test_gradients_are_off_in_inference_and_on_in_training() -> None:
    with opened(a_case()):
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()
    with opened(a_case(task="training")):
        assert torch.is_grad_enabled()


class Mixed(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3)
        self.linear = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.convolution(images).mean((2, 3)))


def test_channels_last_is_tried_for_convolutions_only() -> None:
    assert CPU.axes(a_case(), Program(model=Mixed()))["layout"] == ("contiguous", "channels_last")
    assert "layout" not in CPU.axes(a_case(), Program(model=nn.Linear(1, 1)))


def test_channels_last_lays_out_convolutions_and_images_and_nothing_else() -> None:
    with opened(a_case(), layout="channels_last") as device:
        model = device.place(Mixed())
        images = device.put(torch.randn(2, 3, 8, 8))
        assert model.convolution.weight.is_contiguous(memory_format=torch.channels_last)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert model.linear.weight.is_contiguous()
        assert device.put(torch.randn(2, 3, 8)).is_contiguous()


def test_a_model_that_was_tried_in_channels_last_goes_back() -> None:
    model = Mixed()
    with opened(a_case(), layout="channels_last") as device:
        device.place(model)
    with opened(a_case()) as device:
        assert device.place(model).convolution.weight.is_contiguous()


def test_bf16_casts_weights_and_floats_and_leaves_integers() -> None:
    with opened(a_case(dtype="bf16")) as device:
        assert device.place(nn.Linear(2, 2)).weight.dtype == torch.bfloat16
        assert device.put(torch.ones(2)).dtype == torch.bfloat16
        assert device.put(torch.ones(2, dtype=torch.int64)).dtype == torch.int64


def test_autocast_keeps_float32_weights_and_multiplies_in_bf16() -> None:
    with opened(a_case(dtype="amp-bf16")) as device:
        linear = device.place(nn.Linear(2, 2))
        call = device.prepare(linear, [torch.ones(1, 2)], Work(item="sample", items=1))
        assert linear.weight.dtype == torch.float32
        assert call(torch.ones(1, 2)).dtype == torch.bfloat16


def test_a_result_is_read_as_a_float32_copy_of_its_own() -> None:
    with opened(a_case(dtype="bf16")) as device:
        output = torch.ones(2, dtype=torch.bfloat16)
        first, second = device.read((output, output))
        output.zero_()
        assert first.dtype == torch.float32
        assert first.tolist() == second.tolist() == [1.0, 1.0]


def test_gradients_of_accumulated_batches_are_those_of_the_whole_batch() -> None:
    # The mean of two halves' losses is the whole's: one step must move the weights alike.
    torch.manual_seed(0)
    inputs, targets = torch.randn(8, 4), torch.randn(8, 1)

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.linear = nn.Linear(4, 1)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return nn.functional.mse_loss(self.linear(x), y)

    moved = []
    for parts in (1, 2):
        program = Program(model=Loss(), batches=list(zip(inputs.chunk(parts), targets.chunk(parts), strict=True)),
                          optimizer=lambda p: torch.optim.SGD(p, lr=0.1), accumulate=parts)
        with opened(a_case(task="training")) as device:
            loss = device.prepare_training(program, Work(item="sample", items=8))()
        moved.append((float(loss), program.model.linear.weight.detach().clone()))
    assert moved[0][0] == pytest.approx(moved[1][0], rel=1e-6)
    torch.testing.assert_close(moved[0][1], moved[1][1])


def test_the_ceiling_is_above_any_cpu_of_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    # 8 cores x 6 GHz x 2048 FLOPs a cycle (AMX) = 98.3 TFLOP/s; 64 with AVX-512 float32: 3.07 TFLOP/s.
    monkeypatch.setattr(cpu_module, "cpu", lambda: {"isa": ["avx512f", "amx_bf16"], "physical_cores": 8})
    assert cpu_module._ceiling("bf16")[0] == pytest.approx(98.304e12)
    assert cpu_module._ceiling("fp32")[0] == pytest.approx(3.072e12)
    monkeypatch.setattr(cpu_module, "cpu", lambda: {"isa": None, "physical_cores": None})
    assert cpu_module._ceiling("fp32") == (None, "the number of cores is unknown")


# ---------------------------------------------------------------- real children

MIB = 2**20


def test_a_childs_seconds_add_up_and_its_parent_sleeps() -> None:
    case = a_case(dtype="bf16", threads=1, compile="off", batch_size=64)
    record = run_case(case, Session(effort=Effort(repeats=2, max_seconds=2.0, timeout_s=300)))
    assert (record.status, record.reasons) == ("valid", ())
    assert [child["role"] for child in record.children] == ["scout", "measure", "measure"]
    for child in record.children:
        assert sum(child["phases_s"].values()) == pytest.approx(child["wall_s"], rel=0.02)
    assert sum(record.phases_s.values()) == pytest.approx(record.wall_s, rel=0.02)
    for child in record.children[1:]:
        assert child["phases_s"]["measure"] > 1.5
        assert child["disturbance"]["parent_cpu_fraction"] < 0.05
    assert record.device["threads"] == 1
    assert record.parity["status"] == "passed"
    assert record.parity["tolerance"] == 0.1  # bf16's


ALLOCATES = '''
    """A model whose one buffer is 200 MB."""
    import torch
    from bench.contracts import Program, Work, Workload

    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("held", torch.rand(50_000_000))

        def forward(self, x):
            return x + self.held.sum()

    WORKLOAD = Workload(
        summary="200 MB", source="the test", sizes={"tiny": {}}, default_size="tiny",
        scenarios={"inference": ("offline",)}, dtypes=("fp32",),
        build=lambda case: Program(model=Sum(), inputs=[torch.ones(1)]),
        work=lambda case: Work(item="sample", items=1))
'''


def test_memory_is_what_the_model_takes(tmp_path: Path) -> None:
    path = tmp_path / "allocates.py"
    path.write_text(textwrap.dedent(ALLOCATES))
    case = case_for("allocates", load_workload_file(str(path)), backend="cpu", dtype="fp32", threads=1,
                    compile="off", workload_file=str(path))
    record = run_case(case, Session(effort=Effort(repeats=1, max_seconds=0.5, timeout_s=300)))
    assert (record.status, record.reasons) == ("valid", ())
    assert record.memory["peak_bytes"] == pytest.approx(200e6, rel=0.2)
    assert record.work["flops_per_step"] is None


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="inductor needs a C++ compiler: no g++ or clang++ on PATH")
def test_inductor_compiles_cold_in_the_first_child_and_warm_in_the_next() -> None:
    path = str(Path(__file__).parent / "fakes/my_model.py")
    case = case_for("my_model", load_workload_file(path), backend="cpu", dtype="fp32", threads=1, compile="on",
                    workload_file=path)
    record = run_case(case, Session(effort=Effort(repeats=2, max_seconds=0.5, timeout_s=600)))
    assert (record.status, record.reasons) == ("valid", ())
    cold, warm = record.children[1:]
    assert (cold["compile"]["cache"], warm["compile"]["cache"]) == ("cold", "warm")
    assert cold["compile"]["graphs"] == warm["compile"]["graphs"] >= 1
    assert cold["compile"]["seconds"] > warm["compile"]["seconds"] > 0
    for child in (cold, warm):
        # What the metric counts was booked to the ledger, which has the reading of results on top.
        assert child["compile"]["seconds"] <= child["phases_s"]["compile"] + 0.01
        assert child["phases_s"]["compile"] + child["phases_s"]["load"] < child["wall_s"]
    assert record.settings["compile"] == "inductor"
    metric = record.metric("compile_s")
    assert metric is not None
    assert metric.value == pytest.approx(cold["compile"]["seconds"])
