"""Faults of machines, models and users: each ends as a record or a message, and nothing measured is lost."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import pytest

from bench import runner
from bench.backends._eager import EagerDevice
from bench.case import Case, Effort
from bench.errors import BenchError, CaseFailed
from bench.measure import child
from bench.record import Record, schema
from bench.registry import case_for, load_workload, load_workload_file
from bench.report.cells import notes
from bench.report.frame import parity_ok
from bench.runner import Session, run_case
from bench.store import Store
from tests.commandline import BRIEF, EMULATED, one_document, records_in, spawn, trnbench, workload_file
from tests.fakes.inprocess import converse_here

PATIENCE_S = 60.0
IMPOSSIBLE = ("run", "gemm", "--dtype", "tf32", "--backend", "cpu")
"""A case whose record is made without any child, in milliseconds."""

MODEL = """
def model(forward):
    import torch
    class Model(torch.nn.Module):
        calls = 0
        def forward(self, x):
            self.calls += 1
            return forward(self, x)
    return lambda case: dataclasses.replace(W.build(case), model=Model(), weights=None)
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's side runs in this process: for faults that leave the process whole."""
    monkeypatch.setattr(runner, "converse", converse_here)


def case_of(path: Path, **changes: Any) -> Case:
    """my_model's smallest case, of a file as `workload_file` writes it."""
    plain: dict[str, Any] = {
        "workload": path.stem, "size": "tiny", "task": "inference", "scenario": "offline", "backend": "emulated",
        "dtype": "fp32", "batch_size": 4, "workload_file": str(path)}
    return Case(**(plain | changes))


def measured(path: Path, *, repeats: int = 1, timeout_s: float = PATIENCE_S, **changes: Any) -> Record:
    """The record of a user's file; whatever happened, it fits the schema and JSON."""
    session = Session(effort=Effort(repeats=repeats, max_seconds=0.1, timeout_s=timeout_s), machine={"name": "here"})
    record = run_case(case_of(path, **changes), session)
    jsonschema.validate(json.loads(record.dumps()), schema())
    return record


def until(true: Callable[[], Any], what: str) -> Any:
    """Wait for something that another process does."""
    for _ in range(int(PATIENCE_S / 0.05)):
        found = true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen in {PATIENCE_S:g} s")


def gone(pid: int) -> bool:
    """Whether a process has ended (one that nobody has waited for is but a name)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


# ---------------------------------------------------------------- children that die, hang or run out of memory


def test_a_child_killed_in_the_second_of_three_repeats_leaves_the_first_ones_times(tmp_path: Path) -> None:
    path = workload_file(tmp_path, """
def build(case):
    if os.environ["TRNBENCH_CHILD"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return W.build(case)
WORKLOAD = dataclasses.replace(W, build=build)""")
    record = measured(path, repeats=3)
    assert record.status == "failed"
    assert record.reasons == ("child 2 of 3: killed by SIGKILL, by hand or for a limit on memory: if for memory, "
                              "try a smaller --batch-size or --size",)
    assert [child["role"] for child in record.children] == ["scout", "measure", "measure"]
    assert [child["status"] for child in record.children] == ["valid", "valid", "failed"]
    assert [len(times) > 2 for times in record.samples["children"]] == [True]
    rate = record.metric("samples_per_second")
    assert rate is not None
    assert rate.value is not None


def test_a_child_that_the_kernel_killed_for_memory_is_oom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = itertools.count()
    monkeypatch.setattr("bench.machine.memory.oom_kills", lambda: next(counter))  # one more at each look
    path = workload_file(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    record = measured(path)
    assert (record.status, len(record.children)) == ("oom", 1)
    assert record.reasons == ("the kernel killed it, as memory ran out: try a smaller --batch-size or --size",)


def test_a_crash_in_native_code_is_a_record_that_names_the_signal(tmp_path: Path) -> None:
    result = trnbench("run", "gemm", "--size", "tiny", *EMULATED, "--backend-option", "crash_at_step=3",
                      "--results", tmp_path)
    assert result.exit_code == 3
    [record] = records_in(tmp_path)
    assert record.status == "failed"
    assert record.reasons == ("child 1 of 1: died of SIGSEGV; last words: none",)
    assert "died of SIGSEGV" in result.stdout


def test_a_hanging_child_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    path = workload_file(tmp_path, """
def build(case):
    import subprocess
    helper = subprocess.Popen(["sleep", "1000"])
    open("pids", "w").write(f"{os.getpid()} {helper.pid}")
    time.sleep(1000)
WORKLOAD = dataclasses.replace(W, build=build)""")
    result = trnbench("run", "--workload-file", path, *EMULATED, "--timeout", "6", "--results", tmp_path / "r")
    assert result.exit_code == 3
    assert "timeout: no answer within 6 s (in phase load)" in result.stdout
    [record] = records_in(tmp_path / "r")
    assert record.status == "timeout"
    assert record.reasons == ("no answer within 6 s (in phase load): it hung, or needs a longer --timeout",)
    assert 6.0 <= (record.wall_s or 0) < 25.0
    for pid in (tmp_path / "pids").read_text().split():
        until(lambda pid=pid: gone(int(pid)), "the end of a hanging process")  # type: ignore[misc]


def test_a_child_that_left_a_process_with_its_pipe_open_is_answered_at_once(tmp_path: Path) -> None:
    path = workload_file(tmp_path, """
if os.fork() == 0:
    open("pid", "w").write(str(os.getpid()))
    time.sleep(1000)
    os._exit(0)
WORKLOAD = dataclasses.replace(W, build=lambda case: None)""")
    record = measured(path)
    assert record.reasons == ("build() returned NoneType, not a bench.contracts.Program",)
    assert (record.wall_s or PATIENCE_S) < PATIENCE_S / 2
    until(lambda: gone(int((tmp_path / "pid").read_text())), "the end of a forked process")


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize("greedy", ["__import__('torch').empty(2**46)", "bytearray(2**46)"])
@pytest.mark.parametrize("backend", ["cpu", "emulated"])
def test_host_memory_that_runs_out_is_oom_on_every_backend(greedy: str, backend: str, tmp_path: Path) -> None:
    path = workload_file(tmp_path, f"WORKLOAD = dataclasses.replace(W, build=lambda case: {greedy})")
    record = measured(path, backend=backend)
    assert record.status == "oom"
    assert record.reasons[0].startswith("host memory ran out: try a smaller --batch-size or --size.")


@pytest.mark.usefixtures("in_one_process")
def test_device_memory_that_runs_out_is_oom_and_exit_3(tmp_path: Path) -> None:
    result = trnbench("run", "gemm", "--size", "tiny", *EMULATED, "--backend-option", "memory_limit_bytes=1000",
                      "--results", tmp_path)
    assert result.exit_code == 3
    [record] = records_in(tmp_path)
    assert record.status == "oom"
    assert "Out of device memory" in record.reasons[0]
    assert "Out of device memory" in result.stdout


class Full:
    """A device's memory that is full from the end of the timed part on: what is put then raises."""

    def __init__(self, patch: pytest.MonkeyPatch, error: Exception) -> None:
        self.asked = 0
        real_part, real_put = child.timed_part, EagerDevice.put
        timed = False

        def timed_part(*given: Any, **named: Any) -> dict[str, Any]:
            nonlocal timed
            result = real_part(*given, **named)
            timed = True
            return result

        def put(device: EagerDevice, tensor: Any) -> Any:
            if timed:
                self.asked += 1
                raise error
            return real_put(device, tensor)

        patch.setattr(child, "timed_part", timed_part)
        patch.setattr(EagerDevice, "put", put)


def copying(backend: str) -> Record:
    """A case whose canary looks at products and copies."""
    case = case_for("membw", load_workload("membw"), backend=backend, dtype="fp32", size="tiny", compile="off",
                    threads=1)
    record = run_case(case, Session(effort=Effort(repeats=1, max_seconds=0.1), machine={"name": "here"}))
    jsonschema.validate(json.loads(record.dumps()), schema())
    return record


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize(("backend", "error"), [
    ("cpu", RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 512 MiB")),
    ("cpu", MemoryError("no 512 MiB")),
    ("emulated", CaseFailed("oom", "Out of device memory: can't allocate memory"))])
def test_memory_too_full_for_the_canary_after_the_timed_part_voids_nothing(
        backend: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Full(monkeypatch, error)
    record = copying(backend)
    assert full.asked == 2
    assert (record.status, record.reasons) == ("valid", ())
    assert record.parity["status"] == "passed"
    assert record.canary["flops_per_second"] > 0, "what was seen before the timed part stands"
    mbu, rate = record.metric("mbu"), record.metric("gb_per_second")
    assert mbu is not None
    assert rate is not None
    assert (mbu.value, mbu.reason) == (None, "no peak GB/s was measured beside it")
    assert rate.value is not None
    told = [text for text in record.warnings if "left no room" in text]
    assert [text.partition(": ")[2].partition(": ")[0] for text in told] == [
        f"memory left no room for the canary's {what} after the timed part" for what in ("products", "copies")]
    assert all(str(error)[-8:] in text for text in told)


@pytest.mark.usefixtures("in_one_process")
def test_another_fault_of_the_canary_after_the_timed_part_is_none_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    Full(monkeypatch, RuntimeError("an illegal memory access was encountered"))
    record = copying("cpu")
    assert record.status == "failed"
    assert "illegal memory access" in record.reasons[0]


# ---------------------------------------------------------------- references that would take too long


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize(("changes", "flops"), [
    ({}, 3e12), ({"task": "training", "scenario": "training"}, 3e11)])  # ten steps give the losses
def test_a_reference_that_would_take_most_of_the_timeout_is_not_made_and_the_record_says_so(
        changes: dict[str, Any], flops: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "float32_rate", lambda enough: 1e9)
    path = workload_file(tmp_path, "WORKLOAD = dataclasses.replace(W, work=lambda case: "
                                   f"dataclasses.replace(W.work(case), flops={flops}))")
    # 3e12 FLOP at half of 1e9 FLOP/s are 6,000 s; half of 180 min is 5,400 s, and half of 240 min 7,200 s.
    record = measured(path, timeout_s=3 * 3600, **changes)
    assert (record.status, record.parity["status"]) == ("valid", "unchecked")
    assert record.parity["reason"] == ("the float32 reference would take about 100 min on this host (3e+12 FLOP); "
                                       "90 min of the --timeout are for it")
    assert parity_ok(record) is None
    [note] = notes([dataclasses.replace(record, tier="measured")])
    assert "parity not checked: the float32 reference would take about 100 min" in note
    assert measured(path, timeout_s=4 * 3600, **changes).parity["status"] == "passed"


# ---------------------------------------------------------------- several ranks

EXCHANGE = """
from workloads import collectives
def build(case):
    import torch
    program = collectives.build(case)
    class Wrong(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = program.model
        def forward(self, given):
            return self.model(given) * (3 if os.environ.get("RANK") == "1" else 1)
    return dataclasses.replace(program, model=Wrong())
WORKLOAD = dataclasses.replace(collectives.WORKLOAD, build=build)
"""


@pytest.mark.usefixtures("in_one_process")
def test_a_rank_whose_output_is_wrong_keeps_none_of_the_others_waiting(tmp_path: Path) -> None:
    started_s = time.monotonic()
    record = measured(workload_file(tmp_path, EXCHANGE), backend="cpu", threads=1, compile="off", batch_size=1,
                      scenario="collective", parallelism="dp=2", options={"operation": "all-reduce"}, timeout_s=300)
    assert record.status == "invalid"
    assert record.reasons == ("parity: output 0 is 2 away from the float32 reference, relative; fp32 is allowed 0.001",)
    assert time.monotonic() - started_s < PATIENCE_S  # of which importing torch takes nearly all


PICTURES = """
from bench.backends._eager import EagerDevice
place = EagerDevice.place
def placing(device, model):
    parts = [(p.to_local() if hasattr(p, "to_local") else p).numel() for p in model.parameters()]
    wholes = [p.numel() for p in model.parameters()]
    if os.environ.get("RANK") and len(parts) > 1:  # no canary's
        open(__file__ + os.environ["RANK"], "w").write(f"{sum(parts)} {sum(wholes)}")
    return place(device, model)
EagerDevice.place = placing

def build(case):
    import torch
    from torch import nn
    torch.manual_seed(case.seed)
    class Pictures(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 9, 3)
            self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(9, 9, 3, padding=1), nn.BatchNorm2d(9), nn.ReLU())
                                        for _ in range(2))
            self.last = nn.Linear(9 * 36, 7)
        def forward(self, images, labels):
            hidden = self.first(images)
            for block in self.blocks:
                hidden = hidden + block(hidden)
            return nn.functional.cross_entropy(self.last(hidden.flatten(1)).float(), labels)
    batches = [[torch.randn(case.batch_size, 3, 8, 8), torch.randint(7, (case.batch_size,))]]
    return my_model.Program(model=Pictures(), batches=batches,
                            optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3))
WORKLOAD = dataclasses.replace(W, build=build, work=lambda case: dataclasses.replace(W.work(case), flops=None))
"""


@pytest.mark.usefixtures("in_one_process")
def test_a_sharded_model_is_in_shards_before_it_is_placed_and_is_tried_on_no_single_device(tmp_path: Path) -> None:
    record = measured(workload_file(tmp_path, PICTURES), backend="cpu", dtype="bf16", threads=1, task="training",
                      scenario="training", parallelism="fsdp=2")
    assert (record.status, record.reasons) == ("valid", ())
    assert (record.parity["status"], record.parity["compared"]) == ("passed", 10)
    assert record.tuning == {"trials": [], "notes": [
        "nothing was tried for fsdp=2: a trial has one device, and there the model is not in shards; "
        "layout=contiguous is the first guess"]}
    shards = [tuple(map(int, (tmp_path / f"mine.py{rank}").read_text().split())) for rank in (0, 1)]
    # Weights 3x9x9 + 9, twice (9x9x9 + 9, 9 + 9) and 324x7 + 7, split along their first dimension: 9 in 5 and 4, 7 in
    # 4 and 3.
    assert [whole for _, whole in shards] == [252 + 2 * (738 + 18) + 2275] * 2
    assert [part for part, _ in shards] == [140 + 2 * (410 + 10) + 1300, 112 + 2 * (328 + 8) + 975]


# ---------------------------------------------------------------- broken workload files


@pytest.mark.parametrize(("code", "told"), [
    ("def f(:", "SyntaxError: invalid syntax (mine.py, line 6)"),
    ("1 / 0", "does not import: ZeroDivisionError in line 6: division by zero"),
    ("import nothing_like_it", "does not import: ModuleNotFoundError in line 6: No module named 'nothing_like_it'"),
    ("sys.exit(3)", "does not import: SystemExit in line 6: 3"),
    ("X = W", "has no WORKLOAD = Workload(...)."),
    ("WORKLOAD = 5", "has no WORKLOAD = Workload(...)."),
    ("WORKLOAD = dataclasses.replace(W, scenarios={})", "scenarios is empty."),
    ("WORKLOAD = dataclasses.replace(W, scenarios={'inference': ('ofline',)})", "something other than collective"),
    ("WORKLOAD = dataclasses.replace(W, scenarios={'inferense': ('offline',)})", "an unknown task: 'inferense'."),
    ("WORKLOAD = dataclasses.replace(W, scenarios=['offline'])", "AttributeError: "),
    ("WORKLOAD = dataclasses.replace(W, dtypes=('bf61',))", "dtypes has something other than"),
    ("WORKLOAD = dataclasses.replace(W, sizes={8: {}})", "sizes has a name that is no text: 8."),
    ("WORKLOAD = dataclasses.replace(W, default_size='huge')", "default_size 'huge' is none of sizes: tiny, wide."),
    ("WORKLOAD = dataclasses.replace(W, options={'heads': [1]})", "options has a default that is no number"),
])
def test_a_broken_workload_file_is_told_with_its_fault(code: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError) as raised:
        load_workload_file(str(workload_file(tmp_path, code)))
    assert told in raised.value.what
    assert "mine.py" in raised.value.what
    assert raised.value.fix
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(("code", "told"), [
    ("print('chatter')\n1 / 0", "does not import: ZeroDivisionError in line 7"),
    ("os._exit(7)", "mine.py': ended with exit code 7 and no answer"),
    ("WORKLOAD = dataclasses.replace(W, sizes={'tiny': os})", "fits no record: Object of type module"),
])
def test_a_broken_workload_file_is_a_usage_error_before_anything_is_measured(code: str, told: str,
                                                                             tmp_path: Path) -> None:
    path = workload_file(tmp_path, code)
    result = trnbench("run", "--workload-file", path, *EMULATED, "--json", "--results", tmp_path / "r")
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in " ".join(result.stderr.split())
    assert "To fix: " in result.stderr
    assert not (tmp_path / "r").exists()


def test_a_workload_file_that_hangs_as_it_is_imported_is_ended_by_the_timeout(tmp_path: Path) -> None:
    path = workload_file(tmp_path, "time.sleep(1000)")
    result = trnbench("run", "--workload-file", path, *EMULATED, "--timeout", "1", "--results", tmp_path / "r")
    assert result.exit_code == 2
    assert "mine.py': no answer within 1 s (in phase start): it hung, or needs a longer --timeout" in result.stderr


def test_a_workload_file_that_is_no_file_or_no_python_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("hello")
    for path, told in ((tmp_path / "nowhere.py", "No workload file"), (tmp_path, "No workload file"),
                       (tmp_path / "model.txt", "its name must end in .py")):
        with pytest.raises(BenchError, match=told):
            load_workload_file(str(path))


def test_a_workload_file_can_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a_helper_beside_it.py").write_text("SUMMARY = 'helped'")
    path = workload_file(tmp_path, "from a_helper_beside_it import SUMMARY\n"
                                   "WORKLOAD = dataclasses.replace(W, summary=SUMMARY)")
    assert load_workload_file(str(path)).summary == "helped"


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize(("code", "status", "reason"), [
    ("W, build=lambda case: 1 / 0", "failed", "ZeroDivisionError: division by zero"),
    ("W, build=lambda case: None", "failed", "build() returned NoneType, not a bench.contracts.Program"),
    ("W, work=lambda case: {'items': 1}", "failed", "work() returned dict, not a bench.contracts.Work"),
    ("W, work=lambda case: dataclasses.replace(W.work(case), items=0)", "failed", "work() states 0 items a step"),
    ("W, work=lambda case: dataclasses.replace(W.work(case), flops=float('nan'))", "failed", "states nan flops"),
    ("W, limits=lambda case: 'not on Sundays'", "unsupported", "not on Sundays"),
    ("W, build=model(lambda self, x: sys.exit('bye'))", "failed", "SystemExit: bye"),
    ("W, build=model(lambda self, x: {'logits': x})", "failed", "the model returned dict where a tensor"),
    ("W, build=model(lambda self, x: None)", "failed", "the model returned NoneType where a tensor"),
    ("W, build=model(lambda self, x: x * float('nan'))", "invalid", "parity: output 0 is not finite in the float32"),
])
def test_a_workload_that_builds_garbage_is_a_record_with_the_reason(code: str, status: str, reason: str,
                                                                    tmp_path: Path) -> None:
    record = measured(workload_file(tmp_path, f"{MODEL}\nWORKLOAD = dataclasses.replace({code})"))
    assert record.status == status
    assert reason in record.reasons[0]
    if "Error: " in reason or "SystemExit" in reason:
        assert "mine.py" in record.children[-1]["traceback"], "a user finds the place in the record"
    assert not any("Traceback" in text for text in record.reasons)


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize(("later", "reason"), [
    ("x[:1]", "output 0 has shape (1, 64) where the float32 reference has (4, 64)"),
    ("x * 0", "output 0 is 1 away from the float32 reference"),
])
def test_a_model_that_does_less_from_its_third_call_on_is_caught(later: str, reason: str, tmp_path: Path) -> None:
    path = workload_file(tmp_path, f"{MODEL}\nWORKLOAD = dataclasses.replace(W, build=model("
                                   f"lambda self, x: x if self.calls < 3 else {later}))")
    record = measured(path, backend="cpu", threads=1, compile="off")
    assert record.status == "invalid"
    assert record.reasons[0].startswith(f"parity: after the timed part, {reason}")


@pytest.mark.usefixtures("in_one_process")
def test_flops_that_no_chip_could_have_done_are_caught(tmp_path: Path) -> None:
    path = workload_file(tmp_path, "WORKLOAD = dataclasses.replace(W, work=lambda case: "
                                   "dataclasses.replace(W.work(case), flops=1e20))")
    record = measured(path, backend="cpu", threads=1, compile="off")
    assert record.status == "invalid"
    assert "is above 1 against the peak measured in the same process" in record.reasons[0]


@pytest.mark.usefixtures("in_one_process")
def test_training_without_an_optimiser_is_told(tmp_path: Path) -> None:
    path = workload_file(tmp_path, "WORKLOAD = dataclasses.replace(W, build=lambda case: "
                                   "dataclasses.replace(W.build(case), optimizer=None))")
    record = measured(path, task="training", scenario="training")
    assert record.reasons == ("build() returned a Program without optimizer: training needs them",)


def test_what_a_workload_prints_goes_to_no_ones_json(tmp_path: Path) -> None:
    path = workload_file(tmp_path, """
print("at import")
os.write(1, b"straight to the descriptor\\n")
WORKLOAD = dataclasses.replace(W, build=lambda case: print("in build") or W.build(case))""")
    process = spawn("run", "--workload-file", path, *EMULATED, "--json", "--results", tmp_path / "r")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert [row["status"] for row in one_document(out)["rows"]] == ["valid"]
    assert "at import" not in err


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize(("make", "told"), [
    (lambda path: None, "No weights at"),
    (lambda path: path.mkdir(), "holds no checkpoint"),
    (lambda path: path.with_suffix(".pt").write_bytes(b"x"), "is a pickle"),
])
def test_weights_that_are_not_there_or_no_checkpoint_are_a_usage_error(make: Callable[[Path], Any], told: str,
                                                                       tmp_path: Path) -> None:
    make(tmp_path / "weights")
    found = next(tmp_path.glob("weights*"), tmp_path / "weights")
    result = trnbench("run", "dlrm", "--size", "tiny", *EMULATED, "--weights", found, "--results", tmp_path / "r")
    assert result.exit_code == 2
    assert told in result.stderr
    assert "To fix: " in result.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("in_one_process")
@pytest.mark.parametrize(("content", "told"), [
    (b"no safetensors at all", "is damaged or no safetensors file"),
    (b"", "is damaged or no safetensors file"),
    ("other", "missing (0.bias, 0.weight, 2.bias, ...)"),
])
def test_weights_that_cannot_be_loaded_are_a_failed_record_that_says_why(content: bytes | str, told: str,
                                                                         tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    if isinstance(content, bytes):
        weights.write_bytes(content)
    else:
        import torch
        from safetensors.torch import save_file

        save_file({"weight": torch.ones(2, 2)}, weights)
    path = workload_file(tmp_path, "WORKLOAD = W")
    record = measured(path, weights=str(weights), weights_sha256="0" * 64)
    assert record.status == "failed"
    assert told in record.reasons[0]
    assert "To fix: " in record.reasons[0]


@pytest.mark.usefixtures("in_one_process")
def test_weights_for_a_workload_that_takes_none_are_unsupported(tmp_path: Path) -> None:
    path = workload_file(tmp_path, f"{MODEL}\nWORKLOAD = dataclasses.replace(W, build=model(lambda self, x: x))")
    record = measured(path, weights="anything", weights_sha256="0" * 64)
    assert (record.status, record.reasons) == ("unsupported", ("workload 'mine' takes no --weights",))


# ---------------------------------------------------------------- places that take no records


def test_a_results_folder_below_a_file_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = trnbench(*IMPOSSIBLE, "--results", tmp_path / "file" / "r")
    assert result.exit_code == 2
    assert "Records cannot be stored in" in result.stderr
    assert "To fix: pass --results" in result.stderr
    assert "unsupported" not in result.output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no right to mount a tmpfs here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_disk_is_refused_before_anything_runs(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    result = trnbench(*IMPOSSIBLE, "--results", small_disk)
    assert result.exit_code == 2
    assert "Read-only file system" in result.stderr
    assert "To fix: pass --results" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_results_folder_without_write_permission_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir(mode=0o500)
    result = trnbench(*IMPOSSIBLE, "--results", tmp_path / "r")
    assert result.exit_code == 2
    assert "Permission denied" in result.stderr
    assert "To fix: pass --results" in result.stderr


def not_lost(result: Any, folder: Path) -> None:
    """The second of three records found no space: the first is stored, the second printed, the third not run."""
    assert result.exit_code == 2
    [stored] = records_in(folder)
    assert stored.case.size == "tiny"
    assert "No space left on device" in result.stderr
    assert "To fix: free space" in result.stderr
    printed = Record.from_json(json.loads(next(line for line in result.stderr.splitlines() if line.startswith("{"))))
    assert printed.case.size == "1024"
    assert printed.labels == stored.labels
    assert "not run: gemm:2048" in result.stderr
    assert [row["size"] for row in one_document(result.stdout)["rows"]] == ["tiny", "1024"]


def test_a_full_disk_loses_no_record(small_disk: Path) -> None:
    note = "x" * 40_000  # one such record fits, two do not
    not_lost(trnbench(*IMPOSSIBLE, "--size", "tiny,1024,2048", "--label", f"note={note}", "--json",
                      "--results", small_disk), small_disk)


def test_a_disk_that_fills_up_loses_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above for machines where nothing can be mounted: what is told to sync finds no space."""
    saves, sync, save = itertools.count(), os.fsync, Store.save

    def saving(self: Store, record: Record) -> str:
        if next(saves) == 1:
            monkeypatch.setattr(os, "fsync", no_space)
        return save(self, record)

    def no_space(*_: Any) -> NoReturn:
        monkeypatch.setattr(os, "fsync", sync)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Store, "save", saving)
    not_lost(trnbench(*IMPOSSIBLE, "--size", "tiny,1024,2048", "--json", "--results", tmp_path), tmp_path)


def test_no_space_for_a_childs_scratch_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkdtemp", no_space)
    result = trnbench("run", "gemm", "--size", "tiny", *EMULATED, "--results", tmp_path)
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert "To fix: " in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_a_message() -> None:
    with open("/dev/full", "w") as full:
        process = spawn("list", "scenarios", stdout=full)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "No space left on device" in err
    assert "Traceback" not in err


# ---------------------------------------------------------------- being stopped

THREE_SIZES = """
def build(case):
    if case.size == "hangs" and os.environ["TRNBENCH_CHILD"] == os.environ["HANGS_IN"]:
        open("hanging", "w").write(str(os.getpid()))
        time.sleep(1000)
    return W.build(dataclasses.replace(case, size="tiny"))

WORKLOAD = dataclasses.replace(W, build=build, work=lambda case: W.work(dataclasses.replace(case, size="tiny")),
                               sizes={"runs": {}, "hangs": {}, "waits": {}}, default_size="runs")
"""


def stopped(number: int, tmp_path: Path, *words: object, hangs_in: str) -> tuple[int, str, str]:
    """Run THREE_SIZES, stop it with a signal while its second case hangs; return the code and what it printed."""
    path = workload_file(tmp_path, THREE_SIZES)
    process = spawn("run", "--workload-file", path, "--size", "runs,hangs,waits", *EMULATED, *words,
                    "--results", tmp_path / "r", HANGS_IN=hangs_in)
    child = int(until(lambda: (tmp_path / "hanging").exists() and (tmp_path / "hanging").read_text(), "the hang"))
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    until(lambda: gone(child), "the end of the child")
    assert "Traceback" not in err
    return process.returncode, out, err


def test_ctrl_c_half_way_keeps_what_is_finished_and_marks_the_rest(tmp_path: Path) -> None:
    code, out, err = stopped(signal.SIGINT, tmp_path, "--repeats", "2", hangs_in="1")
    assert code == 130
    first, second = records_in(tmp_path / "r")
    assert (first.case.size, first.status, len(first.samples["children"])) == ("runs", "valid", 2)
    assert (second.case.size, second.status, len(second.samples["children"])) == ("hangs", "interrupted", 1)
    assert second.reasons == ("stopped by the user after 1 of 2 children",)
    assert "not run: mine:waits" in err
    assert "mine:runs" in out
    assert "interrupted" in out


def test_sigterm_does_as_ctrl_c_does_and_json_is_still_one_document(tmp_path: Path) -> None:
    code, out, _ = stopped(signal.SIGTERM, tmp_path, "--json", hangs_in="0")
    assert code == 130
    assert [row["status"] for row in one_document(out)["rows"]] == ["valid", "interrupted"]
    assert [record.status for record in records_in(tmp_path / "r")] == ["valid", "interrupted"]


def test_a_killed_parent_leaves_no_child_running(tmp_path: Path) -> None:
    path = workload_file(tmp_path, "open('hanging', 'w').write(str(os.getpid()))\ntime.sleep(1000)")
    process = spawn("run", "--workload-file", path, *BRIEF, "--results", tmp_path / "r")
    child = int(until(lambda: (tmp_path / "hanging").exists() and (tmp_path / "hanging").read_text(), "the hang"))
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    until(lambda: gone(child), "the end of the child")


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal that is not ignored, as it is where tests run in the background."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_while_a_record_is_stored_waits_until_it_is(number: int, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    save = Store.save

    def saving(self: Store, record: Record) -> str:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # nobody presses once
        return save(self, record)

    monkeypatch.setattr(Store, "save", saving)
    result = trnbench(*IMPOSSIBLE, "--size", "tiny,1024", "--results", tmp_path)
    assert result.exit_code == 130
    assert [record.case.size for record in records_in(tmp_path)] == ["tiny"]
    assert "not run: gemm:1024" in result.stderr
    assert signal.getsignal(number) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    with runner.Stop() as stop:
        os.kill(os.getpid(), number)
    assert not stop.wanted
    assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.parametrize("words", [
    ("report", "."), ("doctor", "--backend", "cpu"), ("run", "--workload-file", "mine.py"),
    ("ab", "gemm --size tiny --backend emulated", "gemm --size tiny --backend emulated")])
def test_ctrl_c_in_any_other_place_is_130_too(words: tuple[str, ...], tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    workload_file(tmp_path, "WORKLOAD = W")
    monkeypatch.setattr("bench.store.open_results", pressed)
    monkeypatch.setattr(runner, "converse", pressed)
    result = trnbench(*words)
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
