"""Cases over several processes: how work is split and put together, and what ends them when it goes wrong.

The ranks are real processes, two of one thread each, on torch's gloo.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch import nn

from bench import parallel, scaling
from bench.case import Case, Effort
from bench.cli.choices import plan_from
from bench.contracts import Program, Work
from bench.errors import BenchError, CaseFailed
from bench.launch import merged
from bench.parallel import Ranks
from bench.record import Record, schema
from bench.registry import load_backend, load_workload
from bench.runner import Session, run_case
from bench.stats.intervals import typical_round
from bench.store import Store
from tests.commandline import trnbench, workload_file
from tests.records import make_record
from workloads import collectives

TWO_RANKS = {"backend": "cpu", "dtype": "fp32", "threads": 1, "compile": "off", "parallelism": "dp=2"}

BLOCKS = """
def build(case):
    import torch
    from torch import nn
    torch.manual_seed(case.seed)
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(64, 32)
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU())
                                        for _ in range(2))
            self.last = nn.Linear(32, 10)
        def forward(self, inputs, labels):
            hidden = self.first(inputs)
            for block in self.blocks:
                hidden = hidden + block(hidden)
            return nn.functional.cross_entropy(self.last(hidden).float(), labels)
    batches = [[torch.randn(case.batch_size, 64), torch.randint(10, (case.batch_size,))] for _ in range(4)]
    return my_model.Program(model=Blocks(), batches=batches, accumulate=2,
                            optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-2))
WORKLOAD = dataclasses.replace(W, build=build, work=lambda case: dataclasses.replace(W.work(case), flops=None))
"""


def case_of(path: Path, **changes: Any) -> Case:
    plain: dict[str, Any] = {"workload": path.stem, "size": "tiny", "task": "training", "scenario": "training",
                             "batch_size": 8, "workload_file": str(path)} | TWO_RANKS
    return Case(**(plain | changes))


def measured(path: Path, *, timeout_s: float = 120.0, max_seconds: float = 0.2, find: scaling.Find | None = None,
             **changes: Any) -> Record:
    session = Session(effort=Effort(repeats=1, max_seconds=max_seconds, timeout_s=timeout_s), machine={"name": "here"})
    session.find = find or session.find
    record = run_case(case_of(path, **changes), session)
    jsonschema.validate(json.loads(record.dumps()), schema())
    return record


def in_two_ranks(folder: Path, name: str, code: str) -> Path:
    """A workload of which `code` runs in the ranks alone, `rank` being which; the scout's process stays whole."""
    which = "import torch.distributed as dist\nrank = str(dist.get_rank()) if dist.is_initialized() else None"
    return workload_file(folder, f"{which}\nif rank is not None:\n    {code}\nWORKLOAD = W", name)


# ---------------------------------------------------------------- real ranks


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("parallelism", ["dp=2", "fsdp=2"])
def test_two_ranks_train_as_one_process_does_on_both_batches(tmp_path: Path, parallelism: str) -> None:
    record = measured(workload_file(tmp_path, BLOCKS), parallelism=parallelism)
    assert (record.status, record.reasons) == ("valid", ())
    assert record.parity["status"] == "passed"
    assert record.parity["compared"] == 10
    assert record.parity["error"] < 1e-5
    assert record.work["items_per_step"] == 2 * 8
    assert record.device["threads"] == 2
    whole, each = record.metric("samples_per_second"), record.metric("samples_per_second_per_rank")
    assert whole is not None
    assert each is not None
    assert whole.value == pytest.approx(2 * (each.value or 0))
    ranks = record.children[1]["ranks"]
    assert [rank["rank"] for rank in ranks] == [0, 1]
    assert all(rank["memory"]["peak_bytes"] >= 0 and rank["disturbance"]["wall_s"] > 0 for rank in ranks)
    assert sum(record.phases_s.values()) == pytest.approx(record.wall_s, rel=0.02)
    efficiency = record.metric("scaling_efficiency")
    assert efficiency is not None
    assert efficiency.value is None
    assert "--parallelism dp=1,dp=2" in str(efficiency.reason)


@pytest.mark.usefixtures("in_process")
def test_streams_side_by_side_add_up_and_keep_each_its_latencies(tmp_path: Path) -> None:
    slow_second = in_two_ranks(tmp_path, "streams.py", """build = W.build
    def slow(case):
        from torch import nn
        program = build(case)
        class Late(nn.Module):
            def __init__(self):
                super().__init__()
                self.model = program.model
            def forward(self, inputs):
                time.sleep(0.005 if rank == '0' else 0.02)
                return self.model(inputs)
        return dataclasses.replace(program, model=Late())
    W = dataclasses.replace(W, build=slow)""")
    record = measured(slow_second, task="inference", scenario="single-stream", batch_size=1, max_seconds=1.0)
    assert (record.status, record.reasons) == ("valid", ())
    (first, second), = record.samples["streams"]
    times_ms = [ns / 1e6 for ns in record.samples["children"][0]]
    assert len(times_ms) == first + second
    assert min(times_ms[:first]) >= 5
    assert min(times_ms[first:]) >= 20
    assert abs(sum(times_ms[:first]) - sum(times_ms[first:])) < 100  # the same window
    rate, latency = record.metric("samples_per_second"), record.metric("latency_ms_p50")
    assert rate is not None
    assert rate.value is not None
    medians = [sorted(part)[len(part) // 2] for part in (times_ms[:first], times_ms[first:])]
    assert rate.value == pytest.approx(sum(1e3 / ms for ms in medians), rel=0.05)
    assert latency is not None
    assert latency.n == first + second


@pytest.mark.usefixtures("in_process")
def test_a_collective_leaves_what_it_must_and_has_a_bus_bandwidth() -> None:
    case = Case(workload="collectives", size="tiny", task="inference", scenario="collective", batch_size=1,
                options={"operation": "all-gather"}, **TWO_RANKS)
    record = run_case(case, Session(effort=Effort(repeats=1, max_seconds=0.1), machine={"name": "here"}))
    assert (record.status, record.reasons) == ("valid", ())
    assert record.parity["status"] == "passed"
    bus, step = record.metric("bus_gb_per_second"), record.metric("step_time_ms")
    assert bus is not None
    assert step is not None
    assert bus.value is not None
    assert step.value is not None
    assert bus.value == pytest.approx(2**16 / 2 / 1e6 / step.value)  # half of the bytes comes from the other rank


@pytest.mark.usefixtures("in_process")
def test_ranks_end_every_collective_with_what_the_reference_says(tmp_path: Path) -> None:
    """In the ranks the workload itself compares, for each operation twice over, and dies where they differ."""
    path = in_two_ranks(tmp_path, "each.py", """build = W.build
    def check(case):
        import torch
        from workloads import collectives
        for operation in collectives.OPERATIONS if torch.distributed.is_initialized() else ():
            wanted = dataclasses.replace(case, size="tiny", options={"operation": operation})
            program = collectives.build(wanted)
            given = program.inputs[0][:2**16 // 8] / (int(rank) + 1)
            right = collectives.expected(operation, 2, given)
            for _ in range(2):
                torch.testing.assert_close(program.model(*program.inputs), right[::max(1, right.numel() // 4096)])
            open(__file__ + operation + rank, "w").close()
        return build(case)
    W = dataclasses.replace(W, build=check)""")
    record = measured(path, task="inference", scenario="offline")
    assert (record.status, record.reasons) == ("valid", ())
    assert {found.name for found in tmp_path.glob("each.py?*")} == {
        f"each.py{operation}{rank}" for operation in collectives.OPERATIONS for rank in (0, 1)}


@pytest.mark.usefixtures("in_process")
def test_an_all_reduce_that_does_nothing_makes_the_record_invalid(tmp_path: Path) -> None:
    path = in_two_ranks(tmp_path, "deaf.py",
                        "import torch.distributed; torch.distributed.all_reduce = lambda *_, **__: None")
    record = measured(path)
    assert record.status == "invalid"
    assert "an all-reduce of ones over 2 ranks gave 1 on rank" in record.reasons[0]
    assert record.metrics == ()


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("code", "told"), [
    ("rank == '1' and os.kill(os.getpid(), signal.SIGKILL)", "rank 1 of 2: died of SIGKILL"),
    ("rank == '1' and (sys.stderr.write('no such core\\n'), os._exit(7))",
     "rank 1 of 2: ended with exit code 7 and no answer; last words: no such core"),
    ("1 / (rank == '0')", "rank 1 of 2: Workload file"),
])
def test_a_rank_that_fails_ends_the_others_within_seconds(tmp_path: Path, code: str, told: str) -> None:
    started_s = time.monotonic()
    record = measured(in_two_ranks(tmp_path, "ill.py", code))
    assert record.status == "failed"
    assert told in record.reasons[0]
    assert time.monotonic() - started_s < 60  # of which importing torch takes nearly all


def test_ranks_end_with_their_launcher(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    path = in_two_ranks(tmp_path, "stuck.py", f"""pids = {str(pids)!r}
    open(pids, "a").write(f"{{os.getpid()}}\\n")
    while rank == "1" and open(pids).read().count("\\n") < 2:
        time.sleep(0.01)
    rank == "1" and os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1e6)""")
    record = measured(path)
    assert record.status == "failed"
    assert "killed by SIGKILL" in record.reasons[0]
    ranks = [Path(f"/proc/{pid}") for pid in pids.read_text().split()]
    assert len(ranks) == 2
    for _ in range(100):
        if not any(rank.exists() for rank in ranks):
            break
        time.sleep(0.05)
    assert not any(rank.exists() for rank in ranks)


@pytest.mark.usefixtures("in_process")
def test_ranks_that_each_train_for_themselves_are_found_by_their_losses(tmp_path: Path) -> None:
    alone = BLOCKS + """
from bench.backends import _eager
_eager.spread = lambda model, case: model
"""
    record = measured(workload_file(tmp_path, alone))
    assert record.status == "invalid"
    assert record.parity["status"] == "failed"


# ---------------------------------------------------------------- how work is split


def program_of(samples: int, *, accumulate: int = 1) -> Program:
    torch.manual_seed(0)
    batches = [[torch.randn(samples, 3), torch.randn(samples, 1)] for _ in range(2)]
    return Program(model=nn.Linear(3, 1), batches=batches, accumulate=accumulate)


def training(**changes: Any) -> Case:
    return Case(**{"workload": "mine", "size": "tiny", "task": "training", "scenario": "training",
                   "batch_size": 2} | TWO_RANKS | changes)


def test_ranks_share_a_batch_without_overlap_and_without_rest() -> None:
    program, case = program_of(6), training(parallelism="dp=3")
    shares = [parallel.share(program, case, rank) for rank in range(3)]
    for i, batch in enumerate(program.batches):
        for j, tensor in enumerate(batch):
            assert torch.equal(torch.cat([share.batches[i][j] for share in shares]), tensor)


def test_parts_accumulated_in_one_process_give_the_gradient_of_the_whole_batch() -> None:
    program, case = program_of(4), training()
    parts = parallel.in_parts(program, case)
    assert parts.accumulate == 2

    def gradient(batches: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        program.model.zero_grad()
        for inputs, wanted in batches:
            (nn.functional.mse_loss(program.model(inputs), wanted) / len(batches)).backward()
        found = program.model.weight.grad
        assert isinstance(found, torch.Tensor)
        return found.clone()

    assert torch.allclose(gradient(parts.batches[:2]), gradient(program.batches[:1]))
    assert torch.allclose(gradient(parts.batches[2:]), gradient(program.batches[1:]))


def test_batches_that_have_not_their_samples_first_cannot_be_split() -> None:
    with pytest.raises(CaseFailed, match="splits along the first dimension") as failed:
        parallel.share(program_of(5), training(), 0)
    assert failed.value.status == "unsupported"


def test_streams_have_no_batch_in_common() -> None:
    case = training(task="inference", scenario="offline")
    program = program_of(2)
    assert parallel.whole(case).batch_size == 2
    assert parallel.share(program, case, 1) is program


class Stream(Ranks):
    """One of two streams, told what both would answer."""

    def __init__(self, *answers: list[Any]) -> None:
        super().__init__(size=2)
        self._answers = iter(answers)

    def gather(self, value: Any) -> list[Any]:
        return next(self._answers)


def test_only_rounds_count_during_which_every_stream_ran() -> None:
    chunks = [(100, [10, 10, 10]), (135, [10, 10])]  # 100-110-120-130, 135-145-155
    assert Stream([(100, 155), (108, 150)], [2, 3]).common(chunks) == slice(1, 4)
    assert Ranks().common(chunks) == slice(None)
    with pytest.raises(CaseFailed, match="no whole round while all ran"):
        Stream([(100, 155), (146, 147)], [0, 1]).common(chunks)


def test_rates_of_streams_add_up_where_one_is_slower() -> None:
    assert typical_round([10, 10, 10, 30], [3, 1]) == pytest.approx(15)  # 1/10 + 1/30 = 2/15
    assert typical_round([10, 20, 90]) == 20


def test_the_work_of_all_ranks_is_n_times_one_s_but_for_what_goes_over_each_link() -> None:
    work = Ranks(size=4).all_of(Work(item="token", items=8, flops=10.0, parts={"decode": 4.0}))
    assert work == Work(item="token", items=32, flops=40.0, parts={"decode": 16.0})
    exchange = Work(item="collective", items=1, bus_bytes=6.0)
    assert Ranks(size=4).all_of(exchange) == exchange


@pytest.mark.parametrize(("changes", "told"), [
    ({"parallelism": "dp=4096"}, "needs a core for each process"),
    ({"parallelism": "fsdp=2", "task": "inference", "scenario": "offline"}, "sharded in training alone"),
    ({"backend": "emulated"}, "the emulated device is one device"),
])
def test_what_ranks_cannot_do_is_refused_before_a_child_starts(changes: dict[str, Any], told: str) -> None:
    record = run_case(training(**changes), Session(effort=Effort(), machine={"name": "here"}))
    assert record.status == "unsupported"
    assert told in record.reasons[0]


def test_devices_without_a_way_to_exchange_tensors_train_alone() -> None:
    backend = load_backend("emulated")
    assert "which backend 'emulated' does not offer" in str(parallel.refuse(training(), backend))
    assert parallel.refuse(training(task="inference", scenario="offline"), backend) is None


# ---------------------------------------------------------------- how results are put together


def result_of(**changes: Any) -> dict[str, Any]:
    return {"status": "valid", "reason": None, "samples_ns": [10, 11], "series_ns": {"ttft": [1, 2]}, "stream": True,
            "steps_per_round": 1, "memory": {"peak_bytes": 5, "method": "as it is"}, "warnings": ["late"],
            "energy": {"joules": 2.0, "method": "a counter", "reason": None}, "disturbance": {}, "warmup": {},
            "phases_s": {}, "compile": {}, "parity": {"status": "passed", "reason": None},
            "canary": {"flops_per_second": 3.0, "flops_per_second_source": "here", "passed": True, "reasons": []},
            } | changes


def test_streams_are_kept_one_after_the_other_with_all_that_speaks_against_them() -> None:
    found = merged([result_of(), result_of(
        samples_ns=[20], series_ns={"ttft": [3]}, memory={"peak_bytes": 9, "method": "as it is"},
        parity={"status": "failed", "reason": "wrong"},
        canary={"flops_per_second": 4.0, "passed": False, "reasons": ["too fast"]})])
    assert (found["samples_ns"], found["streams"], found["series_ns"]) == ([10, 11, 20], [2, 1], {"ttft": [1, 2, 3]})
    assert found["memory"] == {"peak_bytes": 9, "method": "as it is; the largest of 2 ranks"}
    assert found["parity"]["status"] == "failed"
    assert found["canary"] == {"flops_per_second": 7.0, "flops_per_second_source": "here, summed over 2 ranks",
                               "passed": False, "reasons": ["rank 1: too fast"]}
    assert found["warnings"] == ["rank 0: late", "rank 1: late"]
    assert [rank["memory"]["peak_bytes"] for rank in found["ranks"]] == [5, 9]


def test_energy_of_devices_adds_up_and_that_of_the_host_is_there_once() -> None:
    assert merged([result_of(), result_of()])["energy"]["joules"] == 2.0
    device = {"joules": 2.0, "method": "a counter", "reason": None, "host": {}, "rounds": 5}
    both = merged([result_of(energy=device), result_of(energy=device | {"rounds": 3})])["energy"]
    assert (both["joules"], both["rounds"]) == (4.0, 4.0)  # a round here is one of every rank
    blind = device | {"joules": None, "reason": "no counter"}
    assert merged([result_of(energy=device), result_of(energy=blind)])["energy"] == {
        "joules": None, "method": "a counter", "reason": "no counter", "rounds": 5.0, "host": {}}
    seen = merged([result_of(watch={"gpus": [n]}) for n in range(2)])["ranks"]
    assert [rank["watch"] for rank in seen] == [{"gpus": [0]}, {"gpus": [1]}]


def parallel_record(**changes: Any) -> Record:
    return make_record("20260102T000000-bbbb", step_ms=12.5, items=16, case={"parallelism": "dp=2"}, **changes)


def test_scaling_efficiency_is_throughput_over_n_times_that_of_one() -> None:
    one = make_record(step_ms=10.0, spread=0.0)
    record = scaling.with_scaling(parallel_record(spread=0.0), {one.case_id: one}.get)
    found = record.metric("scaling_efficiency")
    assert found is not None
    assert found.value == pytest.approx((16 / 12.5) / (2 * 8 / 10.0), rel=0.02)
    assert "against 2 times 20260101T000000-aaaa (dp=1)" in str(found.method)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert scaling.with_scaling(one, {}.get) is one


def test_scaling_efficiency_is_unknown_where_one_device_ran_otherwise() -> None:
    one = make_record(settings={"threads": 2, "layout": "contiguous", "compile": "inductor"})
    found = scaling.with_scaling(parallel_record(), {one.case_id: one}.get).metric("scaling_efficiency")
    assert found is not None
    assert found.value is None
    assert "dp=1 ran with threads=2, each rank here with threads=1" in str(found.reason)


@pytest.mark.parametrize(("changes", "told"), [
    ({"device": {"kind": "cuda", "name": "NVIDIA L4", "chips": 1}}, "device=NVIDIA L4, each rank here with device="),
    ({"machine": {"name": "emr-2c", "software": {"torch": "2.12"}}}, "torch=2.12, each rank here with torch=2.13.0"),
])
def test_scaling_efficiency_is_unknown_where_one_device_is_another(changes: dict[str, Any], told: str) -> None:
    one = make_record(**changes)
    found = scaling.with_scaling(parallel_record(), {one.case_id: one}.get).metric("scaling_efficiency")
    assert found is not None
    assert found.value is None
    assert told in str(found.reason)


def test_a_collective_has_no_scaling_efficiency_as_no_device_does_it_alone() -> None:
    record = parallel_record()
    record = dataclasses.replace(record, work=record.work | {"bus_bytes_per_step": 1e6})
    assert scaling.with_scaling(record, {}.get) is record


def test_one_device_is_looked_for_among_the_valid_results_of_this_machine(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    old, new = make_record("20260101T000000-aaaa"), make_record("20260103T000000-cccc",
                                                                started_at="2026-01-03T00:00:00Z")
    for record in (old, new, make_record("20260104T000000-dddd", machine={"name": "elsewhere"})):
        store.save(record)
    find = scaling.newest_in(store, "emr-2c")
    assert find(old.case_id) == new
    assert find("another") is None


# ---------------------------------------------------------------- the formulas of collectives


@pytest.mark.parametrize(("operation", "ranks", "wanted"), [
    ("all-reduce", 4, 1.5e9), ("all-gather", 4, 0.75e9), ("reduce-scatter", 4, 0.75e9), ("all-to-all", 4, 0.75e9),
    ("all-reduce", 2, 1e9), ("all-to-all", 8, 0.875e9)])
def test_bus_bytes_are_those_of_nccl_tests(operation: str, ranks: int, wanted: float) -> None:
    """1 GB among 4 ranks in 10 ms is 100 GB/s by the algorithm, and 150 on the bus of an all-reduce."""
    assert collectives.bus_bytes(operation, 10**9, ranks) == pytest.approx(wanted)


OPERATORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "all-reduce": lambda given_RE: given_RE.max(0).values,
    "reduce-scatter": lambda given_RE: given_RE.sum(0)[:2],  # rank 0's chunk
    "all-to-all": lambda given_RE: given_RE[:, :2].flatten()}


@pytest.mark.parametrize("operation", collectives.OPERATIONS)
def test_the_reference_of_a_collective_is_what_the_ranks_give_put_together(operation: str) -> None:
    chunk_E = torch.tensor([0.5, 1.5])
    given_RE = torch.stack([(rank + 1) * chunk_E.repeat(3) for rank in range(3)])
    wanted = given_RE[:, :2].flatten() if operation == "all-gather" else OPERATORS[operation](given_RE)
    assert torch.equal(collectives.expected(operation, 3, chunk_E), wanted)


def test_a_collective_says_what_it_needs_and_moves_whole_elements() -> None:
    workload = load_workload("collectives")
    case = Case(workload="collectives", size="tiny", task="inference", scenario="collective", backend="cpu",
                dtype="bf16", batch_size=1, parallelism="dp=3", options={"operation": "all-gather"})
    assert workload.limits(case) is None
    assert workload.work(case).bus_bytes == pytest.approx(2**16 // 2 // 3 * 3 * 2 * 2 / 3)
    assert "needs two devices" in str(workload.limits(parallel.alone(case)))
    wrong = Case.from_json(case.to_json() | {"options": {"operation": "broadcast"}})
    assert "broadcast" in str(workload.limits(wrong))


# ---------------------------------------------------------------- what users type


def planned(*words: str) -> list[str]:
    from bench.cli.run import command

    params = command.make_context("run", ["bert", "--size", "tiny", "--backend", "cpu", *words]).params
    return [item.case.parallelism for item in plan_from(params)[0]]


@pytest.mark.parametrize(("words", "wanted"), [
    ([], ["dp=1"]), (["--parallelism", "dp=2,dp=1"], ["dp=1", "dp=2"]), (["--cores", "2"], ["dp=2"]),
    (["--parallelism", "dp=1,dp=2", "--shard", "fsdp"], ["dp=1", "fsdp=2"])])
def test_one_device_comes_first_and_shards_are_of_several(words: list[str], wanted: list[str]) -> None:
    assert planned(*words) == wanted


def test_ranks_said_twice_or_wrongly_are_a_usage_error() -> None:
    with pytest.raises(BenchError, match="say the same thing"):
        planned("--cores", "2", "--parallelism", "dp=2")
    result = trnbench("run", "bert", "--parallelism", "2x")
    assert result.exit_code == 2
    assert "'2x' is not a list of parallelisms, such as dp=1,dp=2" in result.stderr


def test_a_workload_that_needs_two_devices_gets_them_unasked() -> None:
    result = trnbench("run", "collectives", "--size", "tiny", "--backend", "cpu", "--dry-run", "--json")
    case = json.loads(result.stdout)["cases"][0]["case"]
    assert (case["parallelism"], case["options"]) == ("dp=2", {"operation": "all-reduce"})


def test_a_case_of_several_ranks_says_so_and_is_another_case() -> None:
    one, two = training(parallelism="dp=1"), training()
    assert (two.ranks, two.label) == (2, f"{one.label} dp=2")
    assert one.id != two.id
    assert training(parallelism="fsdp=2").id != two.id
    assert training(parallelism="tp=8").ranks == 1  # of others' results
