"""The CUDA backend where no GPU is: what it finds, refuses, sets and explains, and the device's own arithmetic.

NVML is played by tests/fakes/nvml.py. Where the open device is looked at, torch.cuda's counters are
recorded values and tensors stay on the CPU: that shows what is reported, not that a GPU works (tests/test_cuda.py).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from bench.backends import cuda as cuda_module
from bench.backends.cuda import CudaBackend, amd_gpus, torch_build
from bench.backends.cuda.device import (
    CudaDevice,
    float32_products,
    graph_pools_bytes,
    held_back,
    seen_by_nvml,
)
from bench.backends.cuda.fp8 import Fp8Linear, converted, rounded
from bench.case import Case, Effort
from bench.contracts import Program, Work
from bench.errors import CaseFailed
from bench.registry import case_for, load_workload
from bench.runner import Session, run_case
from tests.fakes.nvml import GIB, FakeGpu, FakeNvml, FakeSlice

T4 = {"name": "Tesla T4", "capability": (7, 5), "memory_bytes": 15 * GIB, "uuid": "GPU-t4"}
A100 = {"name": "NVIDIA A100-SXM4-40GB", "capability": (8, 0), "memory_bytes": 40 * GIB, "uuid": "GPU-a100"}
H200 = {"name": "NVIDIA H200", "capability": (9, 0), "memory_bytes": 141 * GIB, "uuid": "GPU-h200"}
PLAIN = {"workload": "w", "size": "tiny", "task": "inference", "scenario": "offline", "backend": "cuda",
         "dtype": "bf16", "batch_size": 1}

Install = Callable[..., CudaBackend]


def a_case(**fields: Any) -> Case:
    return Case(**(PLAIN | fields))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """A backend that sees these GPUs, under a torch of this version and with a compiler."""
    def put(*gpus: FakeGpu, torch_version: str | None = "2.13.0+cu130", root: Path = tmp_path,
            **nvml: Any) -> CudaBackend:
        def version(name: str) -> str:
            if torch_version is None:
                raise PackageNotFoundError(name)
            return torch_version

        monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(*gpus, **nvml))
        monkeypatch.setattr(cuda_module, "metadata", SimpleNamespace(
            version=version, PackageNotFoundError=PackageNotFoundError))
        monkeypatch.setattr(cuda_module, "find_spec", lambda name: object())
        monkeypatch.setattr(cuda_module, "which", lambda name: f"/usr/bin/{name}")
        return CudaBackend(root)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    return put


# What is here


def test_a_gpu_is_found_with_its_chip_without_torch(install: Install) -> None:
    probe = install(FakeGpu(**H200)).probe()
    assert probe.available
    assert probe.devices == ({"name": "NVIDIA H200", "index": 0, "chip": "h200-sxm", "memory_bytes": 141 * GIB,
                              "compute_capability": "9.0", "mig": False},)


def test_probing_imports_no_torch_and_is_quick() -> None:
    code = ("import sys, time\nfrom bench.backends.cuda import BACKEND\nstart = time.perf_counter()\n"
            "BACKEND.probe()\nprint(time.perf_counter() - start, 'torch' in sys.modules)")
    seconds, torch_is_there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1]).stdout.split()
    assert torch_is_there == "False"
    assert float(seconds) < 1.0


@pytest.mark.parametrize("name", ["NVIDIA H100", "NVIDIA H100 80GB", "h200", "NVIDIA A100-SXM4-40GB MIG 3g.20gb"])
def test_a_name_that_is_not_exactly_a_chips_is_no_chip(install: Install, name: str) -> None:
    [device] = install(FakeGpu(**H200 | {"name": name})).probe().devices
    assert device["chip"] is None


def test_no_driver_is_told_as_such_with_and_without_nvmls_package(install: Install,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    probe = install(refuses="NVML Shared Library Not Found").probe()
    assert "no working NVIDIA driver" in str(probe.reason)
    assert "--backend cpu" in str(probe.fix)
    backend = install()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    probe = backend.probe()
    assert "no NVIDIA driver is here" in str(probe.reason)
    assert "pip" not in str(probe.fix)


def test_a_gpu_without_a_driver_is_told_to_get_one(install: Install, tmp_path: Path) -> None:
    for name, text in (("vendor", "0x10de"), ("device", "0x2335"), ("class", "0x030200")):
        file = tmp_path / "sys/bus/pci/devices/0000:01:00.0" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    probe = install(refuses="NVML Shared Library Not Found").probe()
    assert probe.reason == "1 x NVIDIA GPU on the PCI bus, and no NVIDIA driver is loaded"
    assert "install NVIDIA's driver" in str(probe.fix)


def test_an_amd_gpu_under_another_torch_is_told_to_get_rocms(install: Install, tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/kfd/kfd/topology/nodes/1"
    folder.mkdir(parents=True)
    (folder / "properties").write_text("simd_count 1216\ngfx_target_version 90402\n")
    probe = install(refuses="NVML Shared Library Not Found").probe()
    assert probe.reason == "1 x AMD GPU gfx942 here, and torch is not one built for ROCm"
    assert "built for ROCm" in str(probe.fix)


def test_a_driver_without_nvmls_package_is_a_pip_install_away(install: Install, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15\n")
    backend = install()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    probe = backend.probe()
    assert "nvidia-ml-py" in str(probe.reason)
    assert probe.fix == "pip install nvidia-ml-py"


@pytest.mark.parametrize(("version", "reason"), [("2.13.0+cpu", "torch 2.13.0+cpu is built without CUDA"),
                                                 (None, "torch is not installed")])
def test_a_gpu_without_a_torch_for_it_is_told_which_torch_to_install(install: Install, version: str | None,
                                                                     reason: str) -> None:
    probe = install(FakeGpu(**H200), torch_version=version).probe()
    assert (probe.available, probe.reason) == (False, reason)
    assert "torch built for CUDA" in str(probe.fix)


@pytest.mark.parametrize(("version", "build"), [("2.13.0", "cuda"), ("2.13.0+cu130", "cuda"), ("2.13.0+cpu", "cpu"),
                                                ("2.13.0+rocm7.0", "rocm"), ("2.13.0a0+gitabc", "cuda"), (None, None)])
def test_what_torch_is_built_for_is_read_off_its_version(install: Install, version: str | None,
                                                         build: str | None) -> None:
    install(torch_version=version)
    assert torch_build() == build


def test_hidden_gpus_and_chosen_ones(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    probe = install(FakeGpu(**T4), FakeGpu(**A100)).probe()
    assert "CUDA_VISIBLE_DEVICES='' hides all 2 GPUs" in str(probe.reason)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [device["chip"] for device in install(FakeGpu(**T4), FakeGpu(**A100)).probe().devices] == ["a100-40gb"]


def test_a_gpu_in_mig_mode_is_its_first_slice_or_nothing(install: Install) -> None:
    [device] = install(FakeGpu(**A100, slices=[FakeSlice(), FakeSlice(uuid="MIG-2")])).probe().devices
    assert (device["name"], device["mig"], device["chip"]) == ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", True, "a100-40gb")
    assert device["memory_bytes"] == 20 * GIB
    probe = install(FakeGpu(**A100, slices=[])).probe()
    assert "MIG" in str(probe.reason)
    assert "nvidia-smi mig" in str(probe.fix)


def test_amd_gpus_are_read_off_the_kernels_topology(install: Install, tmp_path: Path) -> None:
    for node, text in enumerate(("simd_count 0\ngfx_target_version 0\n", "simd_count 1216\ngfx_target_version 90402\n",
                                 "simd_count 440\ngfx_target_version 90010\n")):
        folder = tmp_path / f"sys/class/kfd/kfd/topology/nodes/{node}"
        folder.mkdir(parents=True)
        (folder / "properties").write_text(f"cpu_cores_count 0\n{text}")
    assert [gpu["name"] for gpu in amd_gpus(tmp_path)] == ["AMD GPU gfx942", "AMD GPU gfx90a"]
    assert install(torch_version="2.13.0+rocm7.0").probe().available
    probe = install(torch_version="2.13.0+rocm7.0", root=tmp_path / "nothing").probe()
    assert "no AMD GPU" in str(probe.reason)


# What is refused


@pytest.mark.parametrize(("gpu", "fields", "reason"), [
    (A100, {"dtype": "fp8"}, "needs compute capability 8.9; NVIDIA A100-SXM4-40GB has 8.0"),
    (T4, {"dtype": "tf32"}, "needs compute capability 8.0; Tesla T4 has 7.5"),
    (H200, {"dtype": "fp8", "task": "training", "scenario": "training"}, "fp8 training"),
    (H200, {"dtype": "fp16", "task": "training", "scenario": "training"}, "use amp-fp16"),
    (H200, {"compile": "inductor"}, "not one of auto, off, on, default, reduce-overhead, max-autotune"),
    (H200, {"parallelism": "tp=2"}, "tp=2"),
    (H200, {"parallelism": "dp=2"}, "CUDA shows 1")])
def test_what_a_gpu_cannot_do_is_refused_with_the_reason(install: Install, gpu: dict[str, Any],
                                                         fields: dict[str, Any], reason: str) -> None:
    assert reason in (install(FakeGpu(**gpu)).refuse(a_case(**fields)) or "")


@pytest.mark.parametrize(("gpu", "fields"), [
    (H200, {"dtype": "fp8"}), (A100, {"dtype": "tf32"}), (H200, {"compile": "max-autotune"}), (T4, {"dtype": "fp16"}),
    (T4, {"dtype": "amp-fp16", "task": "training", "scenario": "training"}), (H200, {"compile": "on"})])
def test_what_a_gpu_can_do_is_not_refused(install: Install, gpu: dict[str, Any], fields: dict[str, Any]) -> None:
    assert install(FakeGpu(**gpu)).refuse(a_case(**fields)) is None


def test_compiling_needs_triton_and_a_c_compiler(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = install(FakeGpu(**H200))
    monkeypatch.setattr(cuda_module, "which", lambda name: None)
    assert "C compiler" in (backend.refuse(a_case(compile="default")) or "")
    monkeypatch.setattr(cuda_module, "find_spec", lambda name: None)
    assert "pip install triton" in (backend.refuse(a_case(compile="on")) or "")
    assert backend.refuse(a_case(compile="auto")) is None
    assert "compile" not in backend.axes(a_case(), Program(model=nn.Linear(1, 1)))


def test_tf32_that_the_environment_forbids_is_refused(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert "unset it" in (install(FakeGpu(**H200)).refuse(a_case(dtype="tf32")) or "")


def test_on_rocm_what_is_not_offered_is_refused(install: Install) -> None:
    backend = install(torch_version="2.13.0+rocm7.0")
    assert "ROCm" in (backend.refuse(a_case(dtype="fp8")) or "")
    assert "AMD" in (backend.refuse(a_case(parallelism="dp=2")) or "")
    assert backend.refuse(a_case()) is None


# What is chosen and set


@pytest.mark.parametrize(("gpu", "task", "dtype"), [(H200, "inference", "bf16"), (H200, "training", "amp-bf16"),
                                                    (T4, "inference", "fp16"), (T4, "training", "amp-fp16"),
                                                    (T4 | {"capability": (6, 0)}, "inference", "fp32")])
def test_the_number_format_by_default_is_the_fastest_in_hardware(install: Install, gpu: dict[str, Any], task: str,
                                                                 dtype: str) -> None:
    backend = install(FakeGpu(**gpu))
    assert backend.default_dtype(task, ("fp32", "bf16", "fp16", "amp-bf16", "amp-fp16")) == dtype
    assert backend.default_dtype(task, ("fp32",)) == "fp32"


def test_modes_have_torchs_names_and_auto_starts_eager(install: Install) -> None:
    backend = install(FakeGpu(**H200))
    assert [backend.fixed(a_case(compile=mode))["compile"] for mode in ("auto", "off", "on", "max-autotune")] == [
        "off", "off", "default", "max-autotune"]


def test_auto_tries_layouts_for_convolutions_and_no_cuda_graphs_where_gradients_accumulate(install: Install) -> None:
    backend = install(FakeGpu(**H200))
    axes = backend.axes(a_case(), Program(model=nn.Conv2d(3, 8, 3)))
    assert list(axes) == ["layout", "compile"]
    assert axes["compile"] == ("off", "default", "reduce-overhead")
    assert backend.axes(a_case(), Program(model=nn.Linear(1, 1), accumulate=2))["compile"] == ("off", "default")
    assert backend.axes(a_case(compile="default"), Program(model=nn.Linear(1, 1))) == {}


def test_a_child_numbers_gpus_as_nvml_does_and_has_caches_of_its_own(install: Install) -> None:
    backend, case = install(FakeGpu(**H200)), a_case(threads=3)
    environment = backend.environment(case, backend.fixed(case), "/scratch")
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["TORCHINDUCTOR_CACHE_DIR"].startswith("/scratch/")
    assert environment["TRITON_CACHE_DIR"].startswith("/scratch/")
    assert "CUDA_VISIBLE_DEVICES" not in environment


def test_libraries_may_use_tf32_only_where_it_is_asked_for(install: Install) -> None:
    backend = install(FakeGpu(**H200))
    for dtype, override in (("fp32", "0"), ("bf16", "0"), ("tf32", None)):
        environment = backend.environment(a_case(dtype=dtype), {}, "/scratch")
        assert environment.get("NVIDIA_TF32_OVERRIDE") == override


def test_each_rank_gets_a_gpu_of_those_that_the_user_left_and_caches_of_its_own(
        install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = install(*(FakeGpu(**A100 | {"uuid": f"GPU-{n}"}) for n in range(4)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    case = a_case(parallelism="dp=2")
    assert backend.refuse(case) is None
    found = []
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        found.append(backend.environment(case, {}, "/scratch"))
    assert [one["CUDA_VISIBLE_DEVICES"] for one in found] == ["3", "1"]
    for cache in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert len({one[cache] for one in found}) == 2


# What errors mean


@pytest.mark.parametrize(("text", "status", "words"), [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 22.78 GiB. GPU 0 has a total capacity of 31.47 GiB "
     "of which 12.73 GiB is free. Including non-PyTorch memory, this process has 18.73 GiB memory in use. Of the "
     "allocated memory 9.08 GiB is allocated by PyTorch, and 9.35 GiB is reserved by PyTorch but unallocated.",
     "oom", ["asked for 22.78 GiB", "12.73 GiB of 31.47 GiB free", "9.08 GiB held by this case", "--batch-size"]),
    ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total capacity of 79.10 GiB of "
     "which 0 bytes is free. Process 4711 has 60.00 GiB memory in use. Process 4712 has 19.00 GiB memory in use. Of "
     "the allocated memory 18.00 GiB is allocated by PyTorch, and 0 bytes is reserved by PyTorch but unallocated.",
     "oom", ["0 bytes of 79.10 GiB free", "60.00 GiB and 19.00 GiB held by other processes"]),
    ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 16.00 GiB. GPU 0 has a total capacity of 15.24 GiB "
     "of which 15.09 GiB is free. Of the allocated memory 0 bytes is allocated by PyTorch", "oom", ["16.00 GiB"]),
    ("torch.AcceleratorError: CUDA error: out of memory", "oom", ["does not say"]),
    ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "oom", []),
    ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "unsupported",
     ["compute capability"]),
    ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040).", "failed", ["update"]),
    ("RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable", "failed", ["another process"]),
    ("RuntimeError: CUDA error: device-side assert triggered", "failed", ["--backend cpu"]),
    ("CUDA error: an illegal memory access was encountered", "failed", ["--no-compile"]),
    ("torch._inductor.exc.TritonMissing: Cannot find a working triton installation.", "unsupported", ["triton"]),
    ("RuntimeError: Failed to find C compiler. Please specify via CC environment variable", "unsupported", ["gcc"]),
    ("RuntimeError: Error: accessing tensor output of CUDAGraphs that has been overwritten by a subsequent run.",
     "failed", ["--compile-mode default"])])
def test_an_errors_text_becomes_a_status_and_a_next_step(text: str, status: str, words: list[str]) -> None:
    found = CudaBackend().explain(text)
    assert found is not None
    assert found[0] == status
    for word in words:
        assert word in found[1]


def test_an_unknown_error_stays_unexplained() -> None:
    assert CudaBackend().explain("ValueError: something of the model's own") is None


# Arithmetic that needs no GPU


@pytest.fixture
def products() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


@pytest.mark.usefixtures("products")
def test_float32_is_true_float32_unless_tf32_is_asked_for() -> None:
    for tf32, matmul in ((True, "tf32"), (False, "ieee"), (True, "tf32")):
        float32_products(tf32=tf32)
        assert torch.backends.cuda.matmul.fp32_precision == matmul
        assert (torch.backends.cudnn.conv.fp32_precision == "tf32") is tf32
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")  # inductor asks this way


def test_fp8_layers_compute_what_their_originals_do_within_the_formats_rounding() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 128, bias=False)).bfloat16()
    inputs = 3.0 * torch.randn(2, 5, 256).bfloat16()
    with torch.inference_mode():
        expected = model(inputs).float()
        fp8, layers = converted(model)
        found = fp8(inputs).float()
    assert layers == {"fp8": 2, "bf16": 0}
    assert found.shape == (2, 5, 128)
    # Two roundings (inputs, weights) of relative size up to 2^-4 in each of two layers, uniform: some 3 to 5 %.
    assert 0.005 < float((found - expected).norm() / expected.norm()) < 0.08


def test_fp8_leaves_alone_what_it_cannot_or_must_not_convert() -> None:
    class Special(nn.Linear):
        """A layer whose owner may use its weight."""

    model, layers = converted(nn.ModuleList([nn.Linear(32, 16), nn.Linear(32, 10), Special(32, 16)]).bfloat16())
    assert [type(layer) for layer in model] == [Fp8Linear, nn.Linear, Special]
    assert layers == {"fp8": 1, "bf16": 2}
    assert isinstance(converted(nn.Linear(16, 16).bfloat16())[0], Fp8Linear)


def test_zeros_survive_fp8() -> None:
    layer, _ = converted(nn.Linear(16, 16, bias=False).bfloat16())
    with torch.inference_mode():
        assert layer(torch.zeros(2, 16, dtype=torch.bfloat16)).tolist() == [[0.0] * 16] * 2


def test_memory_that_cuda_graphs_keep_is_counted_whole() -> None:
    segments = [{"segment_pool_id": (0, 0), "total_size": 1000, "allocated_size": 100},
                {"segment_pool_id": (0, 1), "total_size": 500, "allocated_size": 200},
                {"segment_pool_id": (1, 2), "total_size": 50, "allocated_size": 50}]
    assert graph_pools_bytes(segments) == 300


def test_heat_from_the_start_is_a_warning_and_a_power_cap_is_none() -> None:
    watched = {"gpus": [{"index": 2, "clock_reasons": {"power cap": 1.0, "hardware thermal slowdown": 0.3,
                                                       "power brake": 0.01}}]}
    assert held_back(watched) == ["GPU 2 was held back in 30 % of the looks: hardware thermal slowdown"]
    assert held_back({"gpus": [{"index": 0, "clock_reasons": None}]}) == []


@pytest.mark.usefixtures("install")
def test_nvmls_gpu_is_found_by_the_uuid_that_cuda_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FakeGpu(**H200 | {"uuid": "GPU-8932f937-d72c"})
    cut = FakeGpu(**A100 | {"uuid": "GPU-1234"}, slices=[FakeSlice(uuid="MIG-abcd")])
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(FakeGpu(**T4), whole))
    gpu, part, _ = seen_by_nvml("8932f937-d72c")
    assert gpu is not None
    assert (gpu.index, part) == (1, None)
    assert "no GPU of the UUID" in str(seen_by_nvml("other")[2])
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(cut))
    for uuid in ("abcd", "1234", None):
        gpu, part, reason = seen_by_nvml(uuid)
        assert (gpu and gpu.index, part and part.uuid, reason) == (0, "MIG-abcd", None)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(refuses="Driver Not Loaded"))
    assert "Driver Not Loaded" in str(seen_by_nvml("abcd")[2])


# The open device over recorded counters


class Event:
    """torch.cuda.Event: one second lies between any two."""

    def __init__(self, enable_timing: bool) -> None:
        self.recorded = False

    def record(self) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded

    def elapsed_time(self, end: Event) -> float:
        assert self.recorded
        assert end.recorded
        return 1000.0


Open = Callable[..., CudaDevice]


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch, install: Install) -> Iterator[Open]:
    """Open a device whose counters are recorded values and whose tensors stay on the CPU."""
    install(FakeGpu(**H200, energy_mj=(1_000_000, 1_600_000)))
    recorded = {"init": None, "device_count": 1, "synchronize": None, "memory_allocated": 100, "empty_cache": None,
                "reset_peak_memory_stats": None, "max_memory_allocated": 5100, "max_memory_reserved": 9000,
                "memory_snapshot": [{"segment_pool_id": (0, 1), "total_size": 500, "allocated_size": 100}],
                "get_device_properties": SimpleNamespace(name="NVIDIA H200", major=9, minor=0, total_memory=141 * GIB,
                                                         multi_processor_count=132, uuid="h200")}
    for name, value in recorded.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda kind, init_scale: scaler("cpu", init_scale=init_scale))
    opened: list[CudaDevice] = []

    def open_device(case: Case | None = None, **settings: Any) -> CudaDevice:
        opened.append(CudaDevice(case or a_case(), {"compile": "off", "layout": "contiguous"} | settings))
        opened[-1].torch_device = torch.device("cpu")
        return opened[-1]

    yield open_device
    for device in reversed(opened):
        device.close()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False


def test_the_report_says_what_was_used_and_how(counters: Open) -> None:
    device = counters()
    device.reset_peak_memory()
    assert device.peak_memory_bytes()[0] == 5000
    report = device.report()
    about = report["device"]
    assert {key: about[key] for key in ("kind", "name", "chip", "chips", "multiprocessors", "compute_capability",
                                        "driver", "power_limit_w", "fp32_products", "peak_reserved_bytes")} == {
        "kind": "cuda", "name": "NVIDIA H200", "chip": "h200-sxm", "chips": 1, "multiprocessors": 132,
        "compute_capability": "9.0", "driver": "570.86.15", "power_limit_w": 700.0, "fp32_products": "ieee",
        "peak_reserved_bytes": 9000}
    assert report["energy"]["joules"] == pytest.approx(600.0)
    assert "NVML" in report["energy"]["method"]
    assert report["watch"]["gpus"][0]["power_w"]["median"] == pytest.approx(300.0)
    assert report["compile"] == {"cache": None}


def test_the_ceiling_is_the_catalogs_dense_peak_and_unknown_for_an_unknown_name(
        counters: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    ceiling, source = counters().ceiling_flops_per_second()
    assert ceiling == pytest.approx(989e12)
    assert "dense" in source
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(FakeGpu(**H200 | {"name": "NVIDIA H100"})))
    ceiling, source = counters().ceiling_flops_per_second()
    assert ceiling is None
    assert "'NVIDIA H100'" in source


def test_clocks_that_disagree_are_a_warning(counters: Open) -> None:
    device = counters()
    device.clock_ns = iter((0, 1_010_000_000)).__next__
    device.reset_peak_memory()
    device.peak_memory_bytes()
    assert device.report()["warnings"] == []
    device.clock_ns = iter((0, 900_000_000)).__next__
    device.reset_peak_memory()
    device.peak_memory_bytes()
    [warning] = device.report()["warnings"]
    assert "0.9 s by the host's and 1 s by CUDA's" in warning


def test_a_slice_is_no_chip_and_has_no_joules_of_its_own(counters: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = FakeGpu(**A100 | {"uuid": "GPU-h200"}, slices=[FakeSlice()])
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(cut))
    device = counters()
    device.reset_peak_memory()
    device.peak_memory_bytes()
    report = device.report()
    assert report["device"]["chips"] is None
    assert report["device"]["slice"]["fraction"] == pytest.approx(3 / 7)
    assert report["energy"]["joules"] is None
    assert "slice" in report["energy"]["reason"]
    assert "whole GPU" in device.ceiling_flops_per_second()[1]


def test_without_nvml_energy_is_unknown_with_the_reason(counters: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    device = counters()
    device.reset_peak_memory()
    device.peak_memory_bytes()
    report = device.report()
    assert report["energy"]["joules"] is None
    assert "nvidia-ml-py" in report["energy"]["reason"]
    assert any("power, clocks and other processes are unknown" in text for text in report["warnings"])


def test_a_rocm_build_is_named_as_such(counters: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "7.0.1")
    report = counters().report()
    assert (report["device"]["kind"], report["device"]["rocm"]) == ("rocm", "7.0.1")
    assert "AMD" in report["energy"]["reason"]


def test_bf16_that_the_gpu_only_emulates_is_a_warning(counters: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    device = counters(a_case(dtype="bf16"))
    monkeypatch.setattr(device._about, "major", 7)
    assert any("emulated" in text for text in device.report()["warnings"])


def test_tf32_and_another_format_do_not_share_a_process(counters: Open) -> None:
    counters(a_case(dtype="tf32"))
    with pytest.raises(CaseFailed, match="cannot alternate"):
        counters(a_case(dtype="fp32"))


def test_a_torch_without_cuda_is_told_as_such(counters: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(CaseFailed, match="built without CUDA"):
        counters()


class Buffer(nn.Module):
    """A CUDA graph's way with outputs: the next run overwrites the last one's."""

    def __init__(self) -> None:
        super().__init__()
        self.output = torch.zeros(2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.output.copy_(inputs)


@pytest.fixture
def not_compiled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """torch.compile notes its mode and compiles nothing."""
    modes: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda module, dynamic, mode: modes.append(mode) or module)
    return modes


@pytest.mark.parametrize(("scenario", "mode", "copied"), [("generation", "reduce-overhead", True),
                                                          ("offline", "reduce-overhead", False),
                                                          ("generation", "default", False)])
def test_a_graphs_output_is_copied_where_the_next_run_would_overwrite_it(
        counters: Open, not_compiled: list[Any], scenario: str, mode: str, copied: bool) -> None:
    device = counters(a_case(scenario=scenario), compile=mode)
    call = device.prepare(Buffer(), [torch.ones(2)], Work(item="token", items=1))
    first = call(torch.ones(2))
    call(torch.zeros(2))
    assert (first.tolist() == [1.0, 1.0]) is copied
    assert not_compiled == [mode]


def test_the_canary_is_never_compiled(counters: Open, not_compiled: list[Any]) -> None:
    device = counters(compile="max-autotune")
    device.prepare(Buffer(), [torch.ones(2)], Work(item="matmul", items=1), plain=True)(torch.ones(2))
    assert not_compiled == []


def test_a_recorded_cuda_graph_counts_as_compiled(counters: Open) -> None:
    from torch._dynamo.callback import CallbackTrigger, callback_handler

    device = counters(compile="reduce-overhead")
    before = device.compiles()
    for trigger in (CallbackTrigger.CUDAGRAPH_RECORDING, CallbackTrigger.LAZY_BACKWARD, CallbackTrigger.DYNAMO):
        with callback_handler.install_callbacks(trigger, "0/0"):
            pass
    assert device.compiles() == before + 2  # dynamo's own are counted by dynamo


def test_graph_pools_are_memory_of_the_case(counters: Open) -> None:
    device = counters(compile="reduce-overhead")
    device.reset_peak_memory()
    peak_bytes, method = device.peak_memory_bytes()
    assert peak_bytes == 5400
    assert "pools whole" in method


class Loss(nn.Module):
    """A linear layer's squared error."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(self.linear(x).float(), y)


def a_training(accumulate: int = 1) -> Program:
    torch.manual_seed(0)
    batches = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(2)]
    return Program(model=Loss(), batches=batches, optimizer=lambda p: torch.optim.AdamW(p, lr=0.1),
                   accumulate=accumulate)


def test_cuda_graphs_and_accumulated_gradients_are_refused(counters: Open) -> None:
    device = counters(a_case(task="training", scenario="training"), compile="reduce-overhead")
    with pytest.raises(CaseFailed, match="overwrite gradients") as failed:
        device.prepare_training(a_training(accumulate=2), Work(item="sample", items=8))
    assert failed.value.status == "unsupported"


def test_a_scaled_loss_moves_the_weights_as_an_unscaled_one_does(counters: Open) -> None:
    moved = []
    for dtype in ("fp32", "amp-fp16"):
        device = counters(a_case(task="training", scenario="training", dtype=dtype))
        program = a_training(accumulate=2)
        device._autocasting = lambda call: call  # the CPU's fp16 is no part of this
        step = device.prepare_training(program, Work(item="sample", items=16))
        losses = [float(step()) for _ in range(3)]
        moved.append((losses, program.model.linear.weight.detach().clone()))
    assert moved[1][0] == pytest.approx(moved[0][0], rel=1e-5)
    torch.testing.assert_close(moved[1][1], moved[0][1], rtol=1e-4, atol=1e-6)
    about = device.report()["device"]
    assert about["loss_scale"] == 1024.0
    assert about["optimizer"]["name"] == "AdamW"


def test_steps_that_the_loss_scale_skipped_are_a_warning(counters: Open) -> None:
    device = counters(a_case(task="training", scenario="training", dtype="amp-fp16"))
    program = a_training()
    program.batches = [(torch.full((8, 4), float("inf")), torch.zeros(8, 1))]
    device._autocasting = lambda call: call
    device.prepare_training(program, Work(item="sample", items=8))()
    assert any("loss scale fell from 1024 to 512" in text for text in device.report()["warnings"])


def test_an_fp8_case_converts_a_model_once_and_fails_where_there_is_nothing_to_convert(counters: Open) -> None:
    device = counters(a_case(dtype="fp8"))
    model = device.place(nn.Sequential(nn.Linear(32, 16), nn.Linear(16, 3)))
    assert device.place(model) is model
    assert device.place(nn.Linear(256, 256)).weight_NK.dtype == torch.float8_e4m3fn  # the canary's
    assert device.report()["device"]["linear_layers"] == {"fp8": 1, "bf16": 1}
    with pytest.raises(CaseFailed, match="none: use bf16"):
        device.place(nn.Conv2d(3, 8, 3))


def test_the_canarys_fp8_input_is_rounded_once_and_a_models_at_every_call(counters: Open,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[tuple[int, ...]] = []

    def counted(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rounds.append(tuple(tensor.shape))
        return rounded(tensor)

    monkeypatch.setattr("bench.backends.cuda.fp8.rounded", counted)
    device = counters(a_case(dtype="fp8"))
    layer, inputs = device.place(nn.Linear(64, 32, bias=False)), device.put(torch.randn(16, 64))
    outputs = []
    for plain, wanted in ((True, 1), (False, 3)):
        rounds.clear()
        call = device.prepare(layer, [inputs], Work(item="matmul", items=1), plain=plain)
        outputs += [call(inputs) for _ in range(3)]
        assert rounds == [(16, 64)] * wanted
    assert all(torch.equal(output, outputs[0]) for output in outputs)


@pytest.mark.usefixtures("in_process")
def test_an_fp8_model_passes_parity_and_its_canary_is_fp8_too(counters: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CudaBackend, "open", lambda self, case, settings: counters(case, **settings))
    case = case_for("vit", load_workload("vit"), backend="cuda", dtype="fp8", size="tiny", compile="off")
    record = run_case(case, Session(effort=Effort(repeats=1, max_seconds=0.3), instance_type="none"))
    assert record.parity["status"] == "passed"
    assert record.device["linear_layers"]["fp8"] > 4
    assert record.canary["ceiling_flops_per_second"] == pytest.approx(1979e12)


@pytest.mark.usefixtures("in_process")
def test_a_record_has_the_gpus_joules_with_the_hosts_beside_them(counters: Open,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CudaBackend, "open", lambda self, case, settings: counters(case, **settings))
    case = case_for("gemm", load_workload("gemm"), backend="cuda", dtype="bf16", size="tiny", compile="off")
    record = run_case(case, Session(effort=Effort(repeats=1, max_seconds=0.3), instance_type="none"))
    assert record.energy["joules"] == pytest.approx(600.0)
    assert set(record.energy["host"]) == {"joules", "method", "reason"}
    metric = record.metric("joules_per_matmul")
    assert metric is not None
    assert metric.value is not None
    assert "NVML" in str(metric.method)
    assert record.memory["peak_bytes"] == 5000
    assert record.device["chip"] == "h200-sxm"
    assert record.children[1]["watch"]["gpus"][0]["sm_clock_mhz"]["median"] == 1980
    assert record.canary["ceiling_flops_per_second"] == pytest.approx(989e12)
