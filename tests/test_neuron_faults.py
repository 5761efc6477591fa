"""The native Neuron flavour on the emulated device: failures of every kind through runner and child, waits that are
early for the case alone, and several cores at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.backends.neuron.errors import ROWS, explain, row_of
from tests.commandline import ROOT, records_in, workload_file
from tests.test_neuron_errors import TEXTS, recorded
from tests.test_neuron_native import SAMPLES, TOOLS, Variables, emulator, python, trnbench_run

assert emulator  # the fixture; it is built once a file

FIRST = dict(reversed([*recorded(), *TEXTS]))
"""Of each kind of failure its first text."""


# ---------------------------------------------------------------- failures


def test_every_kind_of_failure_becomes_a_record_with_its_status_and_words(emulator: Variables, tmp_path: Path) -> None:
    assert set(FIRST) == {row.kind for row in ROWS}
    (tmp_path / "texts.json").write_text(json.dumps(list(FIRST.values())))
    process = python(emulator, str(ROOT / "tests/neuron_emulator/every_fault.py"), str(tmp_path / "texts.json"),
                     str(tmp_path / "results"))
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    records = sorted(records_in(tmp_path / "results"), key=lambda record: int(record.labels["text"]))
    for (kind, text), record in zip(FIRST.items(), records, strict=True):
        told = explain(f"RuntimeError: {text}")
        assert told is not None
        assert record.status == told[0], kind
        assert record.reasons == (f"child 1 of 1: {told[1]}",), kind


@pytest.mark.parametrize(("fault", "kind", "child"), [
    ("import:Failed to get Neuron instance information. Status: 1", "no device", 0),  # torch wraps it as it loads
    ("abort:ERROR  NRT:nrt_execute NEURON_HW_ERR=NC_UNCORRECTABLE_ECC", "hardware", 1)])
def test_a_child_that_cannot_load_the_package_or_dies_is_explained_by_what_was_said(
        emulator: Variables, tmp_path: Path, fault: str, kind: str, child: int) -> None:
    model = workload_file(tmp_path, "WORKLOAD = W")
    record, = trnbench_run(emulator, tmp_path / "results", "--workload-file", model, "--no-compile",
                           NEURON_EMU_FAULT=fault)
    row, _ = row_of(fault)
    assert row is not None
    assert (row.kind, record.status) == (kind, row.status)
    assert explain(fault)[1].partition(":")[0] in record.reasons[0]
    assert len(record.children) == child + 1
    assert fault.partition(":")[2] in record.children[child]["stderr" if child else "traceback"]


TALKS = """
print("[NCC_EOOM002] Maximum peak HBM usage of 27.63GB exceeds HBM limit of 24.00GB", file=sys.stderr)
print("Diagnostic logs stored in /home/ubuntu/log-neuron-cc.txt", file=sys.stderr)
for line in range(190):
    print("line", line, "of what the compiler also says", file=sys.stderr)
WORKLOAD = W
"""


def test_what_the_compiler_said_on_stderr_tells_why_and_is_kept_with_the_path_of_its_log(
        emulator: Variables, tmp_path: Path) -> None:
    model = workload_file(tmp_path, TALKS)
    record, = trnbench_run(emulator, tmp_path / "results", "--workload-file", model, NEURON_EMU_FAULT="compile:"
                           "Compilation error occurred on Neuron for operation=aten::mm; COMPILATION FAILED")
    assert record.status == "oom"
    assert record.reasons[0].startswith("child 1 of 1: the graph needs 27.63GB of 24.00GB (NCC_EOOM002)")
    assert record.reasons[0].endswith("(the compiler's log: /home/ubuntu/log-neuron-cc.txt)")
    child = record.children[-1]
    assert child["status"] == "oom"
    assert "NCC_EOOM002" in child["stderr"]
    assert "line 189 of what the compiler also says" in child["stderr"]
    assert "operation=aten::mm" in child["traceback"]


def test_a_device_that_never_answers_is_given_up(emulator: Variables, tmp_path: Path) -> None:
    model = workload_file(tmp_path, "WORKLOAD = W")
    record, = trnbench_run(emulator, tmp_path / "results", "--workload-file", model, "--no-compile", "--timeout", "15",
                           NEURON_EMU_FAULT="hang:")
    assert record.status == "timeout"
    assert "no answer within 15 s" in record.reasons[0]
    assert len(record.children) == 2  # the scout, which has no device, and the one that hung


def test_numerical_errors_in_the_timed_part_leave_no_valid_record(emulator: Variables, tmp_path: Path) -> None:
    model = workload_file(tmp_path, "WORKLOAD = W")
    record, = trnbench_run(
        emulator, tmp_path / "results", "--workload-file", model, "--no-compile",
        PATH=f"{TOOLS}:/usr/bin:/bin", FAKE_NEURON_MONITOR=str(SAMPLES / "neuron-monitor-trn2.jsonl"))
    assert record.status == "failed"
    assert "a numerical error (NaN) on the device" in record.reasons[0]
    assert "completed_with_num_err rose by 3" in record.reasons[0]


# ---------------------------------------------------------------- waits


def test_a_wait_that_is_early_for_the_case_alone_is_found_though_the_canary_s_are_whole(
        emulator: Variables, tmp_path: Path) -> None:
    # An operator takes 40 ms and a wait gives up after 90: a product of the canary (with its transposed weight, two)
    # is waited for, and the model's three are not, by more than a loaded host is late.
    model = workload_file(tmp_path, "WORKLOAD = W")
    record, = trnbench_run(emulator, tmp_path / "results", "--workload-file", model, "--no-compile",
                           NEURON_EMU_OP_US="40000", NEURON_EMU_EARLY_WAIT="90000")
    assert (record.reasons, record.canary["passed"]) == ((), True)
    assert any("returned before the work was done" in text for text in record.warnings)
    assert min(record.samples["children"][0]) / record.samples["steps_per_round"][0] >= 120e6


# ---------------------------------------------------------------- several cores


def test_a_model_on_each_of_two_cores_is_two_streams_on_cores_of_their_own(emulator: Variables,
                                                                           tmp_path: Path) -> None:
    # The model's output tells what its process sees: parity fails where a rank has not the one core of its number.
    model = workload_file(tmp_path, SEES_ONE_CORE)
    record, = trnbench_run(emulator, tmp_path / "results", "--workload-file", model, "--no-compile", "--cores", "2")
    assert (record.status, record.reasons, record.tier) == ("valid", (), "emulated")
    assert record.parity["status"] == "passed"
    assert record.case.parallelism == "dp=2"
    assert record.device["cores"] == 2
    [rounds] = record.samples["streams"]
    assert len(rounds) == 2
    assert sum(rounds) == len(record.samples["children"][0])
    assert [(rank["rank"], rank["compile"]["cache"]) for rank in record.children[-1]["ranks"]] == [
        (0, "cold"), (1, "cold")]


SEES_ONE_CORE = """
import torch
import torch.distributed as dist

class Sees(torch.nn.Module):
    def forward(self, x):
        one = not hasattr(torch, "neuron") or x.device.type == "cpu" or (
            torch.neuron.device_count(), os.environ["NEURON_RT_VISIBLE_CORES"]) == (1, str(dist.get_rank()))
        return x * (1.0 if one else 2.0)

WORKLOAD = dataclasses.replace(W, scenarios={"inference": ("offline",)}, build=lambda case: my_model.Program(
    model=Sees(), inputs=[torch.ones(case.batch_size, 64)]))
"""


@pytest.mark.parametrize("operation", [
    "all-reduce", *(pytest.param(name, marks=pytest.mark.slow) for name in ("all-gather", "reduce-scatter",
                                                                            "all-to-all"))])
def test_two_cores_exchange_tensors_by_each_collective_operation(emulator: Variables, tmp_path: Path,
                                                                 operation: str) -> None:
    record, = trnbench_run(emulator, tmp_path, "collectives", "--size", "tiny", "--option", f"operation={operation}")
    assert (record.status, record.reasons, record.tier) == ("valid", (), "emulated")
    assert record.parity["status"] == "passed"
    assert (record.device["kind"], record.device["cores"]) == ("neuron", 2)
    assert record.metric("bus_gb_per_second") is not None
    assert record.fallbacks == {}
