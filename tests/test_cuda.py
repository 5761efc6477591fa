"""The CUDA backend on a real GPU, through real child processes; skipped where there is none.

    python -m pytest tests/test_cuda.py -m "not slow"     some minutes
    python -m pytest tests/test_cuda.py                   every workload and task as well
"""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.backends.cuda.device import float32_products
from bench.case import Case, Effort
from bench.contracts import Work
from bench.record import Record
from bench.registry import case_for, load_backend, load_workload, load_workload_file, workload_names
from bench.runner import Session, run_case

CUDA = load_backend("cuda")
HERE = torch.cuda.is_available()
CAPABILITY = torch.cuda.get_device_capability() if HERE else (0, 0)
NO_COMPILER = HERE and CUDA.refuse(Case(workload="w", size="tiny", task="inference", scenario="offline", backend="cuda",
                                        dtype="fp32", batch_size=1, compile="default"))
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(
    not HERE, reason="no GPU here, or a torch without CUDA: torch.cuda.is_available() is False")]
compiles = pytest.mark.skipif(bool(NO_COMPILER), reason=f"cannot compile here: {NO_COMPILER}")
fp8 = pytest.mark.skipif(CAPABILITY < (8, 9) or bool(torch.version.hip), reason="fp8 needs compute capability 8.9")
nvidia = pytest.mark.skipif(bool(torch.version.hip), reason="NVML knows no AMD GPU")


def a_case(name: str = "bert", dtype: str = "bf16", **fields: Any) -> Case:
    return case_for(name, load_workload(name), backend="cuda", dtype=dtype,
                    **{"size": "tiny", "compile": "off"} | fields)


def run(case: Case, repeats: int = 1, max_seconds: float = 1.0) -> Record:
    return run_case(case, Session(effort=Effort(repeats=repeats, max_seconds=max_seconds, timeout_s=900),
                                  instance_type="none"))


def valid(record: Record) -> Record:
    assert (record.status, record.reasons) == ("valid", ())
    assert record.parity["status"] == "passed"
    assert record.canary["passed"] is True
    return record


# What is here


def test_the_gpu_that_is_found_without_torch_is_torchs() -> None:
    probe = CUDA.probe()
    assert probe.available, probe.reason
    if not torch.version.hip:
        assert probe.devices[0]["name"] == torch.cuda.get_device_name(0)
        assert probe.devices[0]["compute_capability"] == "{}.{}".format(*CAPABILITY)


# Number formats


@pytest.mark.parametrize("dtype", ["fp32", "tf32", "bf16", "fp16", "amp-bf16", "amp-fp16"])
def test_inference_agrees_with_the_cpu_in_every_number_format(dtype: str) -> None:
    case = a_case(dtype=dtype)
    if CUDA.refuse(case):
        pytest.skip(str(CUDA.refuse(case)))
    record = valid(run(case))
    assert record.device["fp32_products"] == ("tf32" if dtype == "tf32" else "ieee")


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "amp-bf16", "amp-fp16"])
def test_training_follows_the_cpus_losses_in_every_number_format(dtype: str) -> None:
    record = valid(run(a_case(dtype=dtype, task="training")))
    assert record.device["optimizer"] == {"name": "AdamW", "fused": True}
    assert record.device["loss_scale"] == (1024.0 if dtype == "amp-fp16" else None)


@fp8
def test_fp8_linear_layers_agree_within_the_formats_tolerance() -> None:
    record = valid(run(a_case(dtype="fp8")))
    assert record.device["linear_layers"]["fp8"] >= 6  # of each of two layers: attention, output, inner, outer


@pytest.mark.skipif(CAPABILITY < (8, 0) or bool(torch.version.hip), reason="TF32 needs compute capability 8.0")
def test_fp32_is_true_float32_and_tf32_is_not() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 512, 512, device="cuda")
    exact = a.double() @ b.double()
    errors = {}
    for tf32 in (True, False):
        float32_products(tf32=tf32)
        errors[tf32] = float((a @ b - exact).norm() / exact.norm())
    assert errors[False] < 1e-5 < 1e-4 < errors[True] < 1e-2


# Compiling


@compiles
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("task", ["inference", "training"])
def test_compiled_models_agree_and_compile_nothing_while_timed(mode: str, task: str) -> None:
    record = valid(run(a_case(dtype="fp32", task=task, compile=mode)))
    assert record.settings["compile"] == mode
    assert record.compile["graphs"] >= 1
    assert record.compile["cache"] == "cold"
    if mode == "reduce-overhead":
        assert record.compile["cuda_graphs_skipped"] == 0
        assert record.compile["graphs"] >= 2  # dynamo's, and the recording of the CUDA graph


@compiles
def test_generation_with_cuda_graphs_gives_the_cpus_tokens() -> None:
    record = valid(run(a_case("gpt2", "fp32", scenario="generation", compile="reduce-overhead")))
    assert len(record.samples["series"]["itl"][0]) > 0


@compiles
@pytest.mark.slow
def test_max_autotune_runs_by_name() -> None:
    valid(run(a_case(dtype="fp16", compile="max-autotune")))


@compiles
@pytest.mark.slow
def test_auto_tries_modes_and_layouts_and_keeps_how_it_chose() -> None:
    record = valid(run(a_case("resnet50", compile="auto"), max_seconds=10.0))
    tried = {(trial["settings"]["layout"], trial["settings"]["compile"]) for trial in record.tuning["trials"]}
    assert {layout for layout, _ in tried} == {"contiguous", "channels_last"}
    assert {mode for _, mode in tried} == {"off", "default", "reduce-overhead"}
    assert not [trial for trial in record.tuning["trials"] if "error" in trial]


# What is watched


@nvidia
def test_a_record_has_joules_clocks_and_two_clocks_that_agree() -> None:
    record = valid(run(a_case("gemm", size="4096"), max_seconds=3.0))
    joules, seconds = record.energy["joules"], record.device["timed_part"]
    assert joules is not None, record.energy["reason"]
    assert 20 < joules / seconds["host"] < 1500  # watts: above an idle card, below any card there is
    assert seconds["cuda"] == pytest.approx(seconds["host"], rel=0.02)
    [gpu] = record.children[1]["watch"]["gpus"]
    assert gpu["samples"] >= 10
    assert gpu["sm_clock_mhz"]["median"] > 100
    assert record.device["chips"] == 1


@pytest.mark.skipif(CAPABILITY < (8, 0), reason="bf16 needs compute capability 8.0")
def test_the_measured_peak_is_what_a_plain_matmul_reaches() -> None:
    record = valid(run(a_case("gemm", size="8192"), max_seconds=2.0))
    n = record.canary["sizes"][1]
    a, b = torch.randn(2, n, n, device="cuda").bfloat16()
    best_s = float("inf")
    for _ in range(20):
        torch.cuda.synchronize()
        started = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        best_s = min(best_s, time.perf_counter() - started)
    assert record.canary["flops_per_second"] == pytest.approx(2 * n**3 / best_s, rel=0.05)


ALLOCATES = '''
    """A model that needs 2 GB for a moment in each call."""
    import torch
    from bench.contracts import Program, Work, Workload

    class Sum(torch.nn.Module):
        def forward(self, x):
            return x + torch.zeros(500_000_000, device=x.device).sum()

    WORKLOAD = Workload(
        summary="memory", source="the test", sizes={"tiny": {}}, default_size="tiny",
        scenarios={"inference": ("offline",)}, dtypes=("fp32",),
        build=lambda case: Program(model=Sum(), inputs=[torch.ones(1)]),
        work=lambda case: Work(item="sample", items=1))
'''


@pytest.fixture
def allocates(tmp_path: Path) -> Path:
    path = tmp_path / "allocates.py"
    path.write_text(textwrap.dedent(ALLOCATES))
    return path


def test_memory_is_what_the_model_takes(allocates: Path) -> None:
    case = case_for("allocates", load_workload_file(str(allocates)), backend="cuda", dtype="fp32", compile="off",
                    workload_file=str(allocates))
    record = valid(run(case))
    assert record.memory["peak_bytes"] == pytest.approx(2e9, rel=0.05)  # cuBLAS's workspace comes on top


class Large(nn.Module):
    """Wants more than any GPU has."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.empty(2**44, dtype=torch.uint8, device=inputs.device)


def test_memory_that_runs_out_tells_what_was_asked_and_free() -> None:
    device = CUDA.open(a_case(dtype="fp32"), {"compile": "off", "layout": "contiguous"})
    try:
        call = device.prepare(device.place(Large()), [torch.ones(1)], Work(item="sample", items=1))
        with pytest.raises(torch.OutOfMemoryError) as failed:
            call(device.put(torch.ones(1)))
    finally:
        device.close()
    status, told = CUDA.explain(str(failed.value)) or ("", "")
    assert status == "oom"
    assert "asked for 16384.00 GiB" in told
    assert "free" in told


# Several GPUs

several = pytest.mark.skipif(not HERE or torch.cuda.device_count() < 2, reason="two GPUs are needed here")


@several
@pytest.mark.parametrize("parallelism", ["dp=2", "fsdp=2"])
def test_two_gpus_train_on_what_one_process_would_see(parallelism: str) -> None:
    record = valid(run(a_case(dtype="amp-bf16", task="training", parallelism=parallelism)))
    assert record.device["chips"] == 2
    assert len(record.children[1]["ranks"]) == 2


@several
@compiles
def test_two_gpus_train_a_compiled_model() -> None:
    assert valid(run(a_case(dtype="fp32", task="training", parallelism="dp=2", compile="default"))).compile["graphs"]


@several
def test_two_gpus_infer_as_streams_side_by_side_each_on_its_own() -> None:
    record = valid(run(a_case(parallelism="dp=2")))
    assert len(record.samples["streams"][0]) == 2
    watched = [rank["watch"]["gpus"][0]["index"] for rank in record.children[1]["ranks"] if "watch" in rank]
    assert len(set(watched)) == len(watched)


@several
@pytest.mark.parametrize("operation", ["all-reduce", "all-gather", "reduce-scatter", "all-to-all"])
def test_two_gpus_exchange_what_they_should_over_nccl(operation: str) -> None:
    case = case_for("collectives", load_workload("collectives"), backend="cuda", dtype="fp32", size="16MiB",
                    options={"operation": operation}, parallelism="dp=2", compile="off")
    bus = valid(run(case)).metric("bus_gb_per_second")
    assert bus is not None
    assert bus.value is not None
    assert bus.value > 0


# Everything


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in workload_names() if load_workload(name).parallelism == "dp=1"])
def test_every_workload_runs_every_task_and_scenario(name: str) -> None:
    workload = load_workload(name)
    for task, scenarios in workload.scenarios.items():
        for scenario in scenarios:
            dtype = CUDA.default_dtype(task, workload.dtypes)
            valid(run(a_case(name, dtype, task=task, scenario=scenario)))
