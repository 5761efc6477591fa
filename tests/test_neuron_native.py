"""The native Neuron flavour on the emulated device: every workload, compiles and caches, fallbacks, waits, faults.

The emulator (tests/neuron_emulator) is built once, about a minute, and kept by NEURON_EMU_BUILD. Nothing
here says anything of a real device: its records carry tier "emulated".
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.backends.neuron.native import ceiling, confirmed, used
from bench.errors import CaseFailed
from bench.record import Record
from tests.commandline import ROOT, records_in, workload_file
from tests.neuron_emulator.every_workload import entries

TOOLS, SAMPLES = ROOT / "tests/fakes/neuron_tools", ROOT / "tests/samples/neuron"
BRIEF = ("--repeats", "1", "--max-seconds", "0.2", "--instance-type", "none")
Variables = dict[str, str]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Variables:
    """Variables of a process that finds the stand-in where others find torch-neuronx."""
    folder = tmp_path_factory.mktemp("emulator")
    done = subprocess.run([str(ROOT / "ci/emulator.sh"), str(folder)], text=True, capture_output=True,
                          env=os.environ | {"VENV": sys.prefix})
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def python(variables: Variables, *words: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *words], env=os.environ | variables | more, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def trnbench_run(variables: Variables, results: Path, *words: object, **more: str) -> list[Record]:
    """`trnbench run --backend neuron` with real children; its records in order."""
    process = python(variables, "-m", "bench", "run", "--backend", "neuron", "--dtype", "fp32", *BRIEF,
                     "--results", str(results), *map(str, words), **more)
    output, _ = process.communicate(timeout=280)
    assert process.returncode in (0, 3), output
    assert "Traceback" not in output
    return records_in(results)


# ---------------------------------------------------------------- every workload


@pytest.fixture(scope="module")
def measured(emulator: Variables, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Eager and compiled at once, each in a process of its own: mode -> its process, and then its records."""
    folders = {mode: tmp_path_factory.mktemp(f"compile-{mode}") for mode in ("off", "on")}
    script = str(ROOT / "tests/neuron_emulator/every_workload.py")
    running = {mode: python(emulator, script, mode, str(folder)) for mode, folder in folders.items()}
    found: dict[str, Any] = {}

    def of(mode: str) -> dict[tuple[str, str], Record]:
        if mode not in found:
            output, _ = running[mode].communicate(timeout=900)
            assert running[mode].returncode == 0, output
            found[mode] = {(record.case.workload, record.case.scenario): record
                           for record in records_in(folders[mode])}
        return found[mode]

    yield {"of": of}
    for process in running.values():
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["off", "on"])
@pytest.mark.parametrize(("name", "entry"), entries(),
                         ids=[f"{name}-{entry['scenario']}" for name, entry in entries()])
def test_a_workload_runs_on_the_device_and_is_right(measured: dict[str, Any], name: str, entry: dict[str, Any],
                                                    mode: str) -> None:
    record = measured["of"](mode)[name, entry["scenario"]]
    # Two processes share this machine's CPUs, of which the device is made: what its times say is no matter.
    assert [reason for reason in record.reasons if not reason.startswith(("canary: impossible", "MFU"))] == []
    assert record.parity["status"] == "passed"
    assert record.tier == "emulated"
    assert (record.device["kind"], record.device["flavour"], record.device["cores"]) == ("neuron", "native", 1)
    assert record.memory["peak_bytes"] > 0
    assert record.fallbacks == {}
    assert record.compile["compiled"] > 0
    assert (record.compile["traced"] > 0) == (mode == "on")


# ---------------------------------------------------------------- with real children


@pytest.mark.slow
def test_the_first_process_compiles_cold_and_the_next_one_warm(emulator: Variables, tmp_path: Path) -> None:
    # 0.1 s a program: cold, dozens of them; warm, they are read from the cache, less a size of the canary's own.
    model = workload_file(tmp_path, "WORKLOAD = W")
    record, = trnbench_run(emulator, tmp_path / "results", "--workload-file", model, "--task", "training",
                           "--repeats", 2, NEURON_EMU_COMPILE_US="100000")
    assert (record.status, record.reasons, record.tier) == ("valid", (), "emulated")
    cold, warm = (child["compile"] for child in record.children[1:])
    assert (cold["cache"], warm["cache"]) == ("cold", "warm")
    assert cold["compiled"] > 20
    assert cold["loaded"] == 0
    assert warm["loaded"] > 0.8 * cold["compiled"]
    assert warm["compiled"] < 0.2 * cold["compiled"]
    assert cold["traced"] == warm["traced"] == 2  # forward and backward
    assert cold["seconds"] > warm["seconds"]
    assert record.metric("compile_s") is not None
    assert record.metric("compile_warm_s") is not None
    assert record.settings["compile"] == "neuron"


def test_operators_that_fall_back_in_the_timed_part_are_named_and_warned_of(emulator: Variables,
                                                                           tmp_path: Path) -> None:
    model = workload_file(tmp_path, "WORKLOAD = W")
    record, = trnbench_run(emulator, tmp_path / "results", "--workload-file", model, "--no-compile",
                           NEURON_EMU_FALLBACK="aten::relu,aten::cos")
    assert (record.status, record.reasons) == ("valid", ())
    assert record.fallbacks == {"operators": {"aten::relu": None}, "runs": None,
                                "reason": "torch-neuronx says which operators fell back, and not how often"}
    assert any("1 operator(s) fell back to the CPU in the timed part (aten::relu)" in text
               for text in record.warnings)


def test_a_wait_that_returns_early_is_found_and_made_whole(emulator: Variables, tmp_path: Path) -> None:
    # Three operators of 5 ms each that are waited for; a wait that does not wait would show well under 1 ms.
    model = workload_file(tmp_path, "WORKLOAD = W")
    slow = {"NEURON_EMU_OP_US": "5000"}
    honest, = trnbench_run(emulator, tmp_path / "a", "--workload-file", model, "--no-compile", **slow)
    early, = trnbench_run(emulator, tmp_path / "b", "--workload-file", model, "--no-compile", **slow,
                          NEURON_EMU_EARLY_WAIT="1")
    assert (honest.reasons, early.reasons) == ((), ())
    assert min(early.samples["children"][0]) / early.samples["steps_per_round"][0] >= 15e6
    assert any("returned before the work was done" in text for text in early.warnings)
    assert not any("returned before the work was done" in text for text in honest.warnings)


GROWS = """
import torch

class Grows(torch.nn.Module):
    \"\"\"A new shape at each call.\"\"\"
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x + x.new_zeros(self.calls).sum()

WORKLOAD = dataclasses.replace(W, scenarios={"inference": ("offline",)}, build=lambda case: my_model.Program(
    model=Grows(), inputs=[torch.ones(case.batch_size, 64)]))
"""


def test_a_compile_inside_the_timed_part_voids_it(emulator: Variables, tmp_path: Path) -> None:
    model = workload_file(tmp_path, GROWS)
    record, = trnbench_run(emulator, tmp_path / "results", "--workload-file", model, "--no-compile")
    assert record.status == "invalid"
    assert "compiled inside the timed part" in record.reasons[0]


HOLDS = """
import torch

class Holds(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("held", torch.full((25_000_000,), 0.5))

    def forward(self, x):
        return x + self.held[:64]

WORKLOAD = dataclasses.replace(W, scenarios={"inference": ("offline",)}, build=lambda case: my_model.Program(
    model=Holds(), inputs=[torch.ones(case.batch_size, 64)]))
"""


def test_memory_is_what_the_model_takes_and_beyond_the_cores_it_is_oom(emulator: Variables, tmp_path: Path) -> None:
    model = workload_file(tmp_path, HOLDS)
    fits, = trnbench_run(emulator, tmp_path / "a", "--workload-file", model, "--no-compile")
    assert (fits.status, fits.reasons) == ("valid", ())
    assert fits.memory["peak_bytes"] == pytest.approx(100e6, rel=0.01)
    assert "max_memory_allocated" in fits.memory["method"]
    too_large, = trnbench_run(emulator, tmp_path / "b", "--workload-file", model, "--no-compile",
                              NEURON_EMU_HBM_BYTES=str(90_000_000))
    assert too_large.status == "oom"
    assert "out of device memory: asked" in too_large.reasons[0]


LOOKS_UP = """
import torch

class Loss(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding.from_pretrained(torch.ones(10, 4), freeze=False, sparse=True)

    def forward(self, rows):
        return self.table(rows).square().mean()

WORKLOAD = dataclasses.replace(W, scenarios={"training": ("training",)}, build=lambda case: my_model.Program(
    model=Loss(), batches=[[torch.arange(case.batch_size) % 10]], optimizer=lambda p: torch.optim.SGD(p, lr=0.1)))
"""


def test_sparse_gradients_are_said_to_be_unsupported(emulator: Variables, tmp_path: Path) -> None:
    model = workload_file(tmp_path, LOOKS_UP)
    record, = trnbench_run(emulator, tmp_path / "results", "--workload-file", model, "--no-compile")
    assert record.status == "unsupported"
    assert "sparse_gradients=false" in record.reasons[0]


def test_the_machine_s_tools_are_read_during_the_timed_part(emulator: Variables, tmp_path: Path) -> None:
    model = workload_file(tmp_path, "WORKLOAD = W")
    record, = trnbench_run(
        emulator, tmp_path / "results", "--workload-file", model, "--no-compile",
        PATH=f"{TOOLS}{os.pathsep}{os.environ['PATH']}", FAKE_NEURON_LS=str(SAMPLES / "neuron-ls-trn2.json"),
        FAKE_NEURON_MONITOR=str(SAMPLES / "neuron-monitor-sound.jsonl"))
    device = record.device
    assert (device["chip"], device["lnc"], device["chips"], device["cores"]) == ("trainium2", 2, 1, 1)
    assert device["monitor"]["utilization_percent"]
    # Trainium2 has 181 TFLOP/s of fp32 in 8 cores (AWS Neuron documentation, trn2-arch); two of them are one here.
    assert record.canary["ceiling_flops_per_second"] == pytest.approx(181e12 * 2 / 8)
    assert device["sysfs_peak_bytes_per_core"] is None
    assert device["flags"]["NEURON_LAUNCH_BLOCKING"] == "0"
    assert "--auto-cast=none" in device["flags"]["NEURON_CC_FLAGS"]
    assert device["packages"]["torch-neuronx"] == "2.13.3.0+emulator"


# ---------------------------------------------------------------- several processes, and the emulator itself


RANK = """
import os, torch, torch.distributed as dist
dist.init_process_group("neuron")
ones = torch.ones(3, device="neuron")
dist.all_reduce(ones)
os.write(1, f"SUM {ones.tolist()}\\n".encode())  # in one piece: the ranks share it
dist.destroy_process_group()
"""


def test_two_processes_of_the_group_neuron_add_up(emulator: Variables, tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    process = python(emulator, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d",
                     "--rdzv-endpoint=localhost:0", str(script), TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    output, _ = process.communicate(timeout=200)
    assert output.count("SUM [2.0, 2.0, 2.0]") == 2, output


@pytest.mark.slow
def test_two_processes_train_one_model_to_the_losses_of_one_process(emulator: Variables, tmp_path: Path) -> None:
    model = workload_file(tmp_path, "WORKLOAD = W")
    record, = trnbench_run(emulator, tmp_path / "results", "--workload-file", model, "--no-compile", "--task",
                           "training", "--parallelism", "dp=2")
    assert (record.status, record.reasons, record.tier) == ("valid", (), "emulated")
    assert record.parity["status"] == "passed"
    assert record.device["cores"] == 2
    assert record.device["chips"] is None
    assert "chips_here" in record.device["unknown"]


@pytest.mark.slow
def test_each_rank_compiles_for_itself_and_finds_it_again(emulator: Variables, tmp_path: Path) -> None:
    model = workload_file(tmp_path, "WORKLOAD = W")
    words = ("--workload-file", model, "--task", "training", "--parallelism", "dp=2", "--no-compile")
    kept = ("--backend-option", f"cache={tmp_path / 'kept'}")

    def of_ranks(folder: str, *more: str) -> list[tuple[str, bool]]:
        record, = trnbench_run(emulator, tmp_path / folder, *words, *more)
        found = [rank["compile"] for rank in record.children[1]["ranks"]]
        return [(one["cache"], one["compiled"] > one["loaded"]) for one in found]

    assert of_ranks("cold") == [("cold", True)] * 2
    process = python(emulator, "-m", "bench", "compile", "--backend", "neuron", "--dtype", "fp32", *map(str, words),
                     *kept)
    output, _ = process.communicate(timeout=280)
    assert "1 of 1 cases compiled" in output
    assert of_ranks("warm", *kept) == [("warm", False)] * 2


ITSELF = """
import time, torch, torch_neuronx
from torch_neuronx import metrics

def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start

x = torch.ones(4, 4, device="neuron")
torch.neuron.synchronize()
torch.neuron.emu_enqueue(60_000)
assert seconds(lambda: x + x) < 0.05  # returns at once: the work of 60 ms is queued
assert seconds(torch.neuron.synchronize) > 0.02
torch.neuron.emu_enqueue(60_000)
assert seconds(lambda: x.sum().item()) > 0.05  # a value on the host waits for what it is made of

assert metrics.get_counter_value("CompilationCache.TotalCompilations") is None  # until they are switched on
metrics.set_enabled(True)
count = lambda: metrics.get_counter_value("CompilationCache.TotalCompilations")
before = count(); x @ x; x @ x
assert count() == before + 1  # a program is compiled once ...
torch.ones(5, 5, device="neuron") @ torch.ones(5, 5, device="neuron")
assert count() > before + 1  # ... and again for new shapes

one, two = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False)
two.weight = one.weight
model = torch.nn.Sequential(one, two).to("neuron")
assert model[0].weight is model[1].weight  # moved, tied weights stay tied
torch.neuron.reset_peak_memory_stats()
base = torch.neuron.memory_allocated()
del x
assert torch.neuron.memory_allocated() == base - 64
assert torch.neuron.max_memory_allocated() == base
with torch.autocast("neuron", dtype=torch.bfloat16):
    assert model(torch.ones(1, 4, device="neuron")).dtype == torch.bfloat16
assert torch_neuronx.EMULATOR and "emulator" in torch_neuronx.__version__
print("AS DESCRIBED")
"""


def test_the_emulator_queues_work_compiles_once_and_counts_memory(emulator: Variables) -> None:
    output, _ = python(emulator, "-c", ITSELF).communicate(timeout=120)
    assert "AS DESCRIBED" in output, output


# ---------------------------------------------------------------- what needs no device


def test_a_package_that_is_not_the_native_one_is_told_by_what_it_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_neuronx", None)
    with pytest.raises(CaseFailed, match="does not import"):
        confirmed(compiling=False)
    monkeypatch.setitem(sys.modules, "torch_neuronx", SimpleNamespace(device_count=lambda: 1))
    with pytest.raises(CaseFailed, match="called 'privateuseone', not 'neuron'"):
        confirmed(compiling=False)
    monkeypatch.setattr("torch._C._get_privateuse1_backend_name", lambda: "neuron")
    assert confirmed(compiling=False).device_count() == 1
    with pytest.raises(CaseFailed, match="no backend 'neuron'"):
        confirmed(compiling=True)
    monkeypatch.setitem(sys.modules, "torch_neuronx", SimpleNamespace(device_count=lambda: 0))
    with pytest.raises(CaseFailed, match="sees no logical core"):
        confirmed(compiling=False)


@pytest.mark.parametrize(("chip", "lnc", "dtype", "flags", "tflops"), [
    ("trainium2", 2, "bf16", "--auto-cast=none", 166.75),  # 667 TFLOP/s in 8 cores, two of them
    ("trainium2", 1, "amp-bf16", "", 83.375),
    ("trainium2", 2, "fp32", "--auto-cast=none", 45.25),  # 181 in 8
    ("trainium2", 2, "fp32", "--auto-cast=all", 166.75),  # float32 is multiplied as bf16
    ("trainium3", 2, "fp8", "", 629.25),  # 2517 in 8
    (None, 2, "bf16", "", None), ("trainium2", None, "bf16", "", None), ("inferentia1", 1, "fp32", "", None)])
def test_the_ceiling_is_the_dense_peak_of_the_cores_in_use(chip: str | None, lnc: int | None, dtype: str, flags: str,
                                                           tflops: float | None) -> None:
    peak, source = ceiling({"chip": chip, "lnc": lnc}, dtype, flags)
    assert peak == (None if tflops is None else pytest.approx(tflops * 1e12))
    assert source


def test_processes_of_one_core_each_fill_chips_one_after_the_other() -> None:
    trn2 = {"chips_here": 16, "cores_here": 64}
    assert used(trn2, 1) == {"chips": 1, "cores": 1, "share_of_chips": 0.25}
    assert used(trn2, 4) == {"chips": 1, "cores": 4, "share_of_chips": 1.0}
    assert used(trn2, 5) == {"chips": 2, "cores": 5, "share_of_chips": 0.625}
    unknown = {"chips_here": None, "cores_here": None}
    assert used(unknown, 2) == {"chips": None, "cores": 2, "share_of_chips": None}
