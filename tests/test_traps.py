"""Known ways in which benchmark numbers go wrong, each run into on purpose through a public door.

A test is named after its trap. Traps that another file's test runs into already are in `ELSEWHERE`,
which is held against the test files. There is no server scenario yet, so what is in flight at once is
one batch: a warm-up shows its slow start whole, and prompts are repeated without a cache between them.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bench.catalog.alike import unlike
from bench.catalog.chips import chip, peak_flops_per_second
from bench.catalog.claims import Claim, Part, Selector
from bench.catalog.prices import Price, PriceBook, load_book
from bench.claims.judge import judge
from bench.cost.breakeven import cost_ratio
from bench.cost.normalise import amounts
from bench.cost.rate import Rate, rate
from bench.cost.terms import Terms
from bench.errors import BenchError
from bench.exchange import Given, Unusable, import_file
from bench.measure.summarise import metrics_of
from bench.record import Metric, Record
from bench.registry import case_for, load_backend, load_scenario, load_workload
from tests.commandline import records_in, trnbench
from tests.foreign import optimum_report, vllm_result
from tests.records import make_case, make_record

DAY = date(2026, 8, 1)
GIVEN = Given(instance_type="g6.xlarge", day=DAY)

ELSEWHERE = {
    "waiting APIs return early": ("test_cli", "test_a_wrong_answer_or_a_lying_wait_is_an_invalid_record_and_exit_3"),
    "lazy work timed without a wait": ("test_emulated", "test_lazy_execution_is_measured_right"),
    "lazy work whose wait waits for nothing": ("test_emulated", "test_a_wait_that_returns_early_is_invalid"),
    "a warm-up smaller than the concurrency": ("test_emulated", "test_warm_up_waits_a_slow_start_out"),
    "an old noise floor": ("test_machine", "test_an_old_noise_floor_is_still_given_with_its_date_and_called_stale"),
    "one run per point": ("test_compare", "test_one_child_a_side_tells_nothing_and_says_why"),
    "images of other numbers of steps": ("test_published",
                                         "test_images_of_20_denoising_steps_are_not_those_of_50")}


def test_traps_that_are_run_into_elsewhere_are() -> None:
    for trap, (file, name) in ELSEWHERE.items():
        tree = ast.parse((Path(__file__).parent / f"{file}.py").read_text("utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in names, trap


def imported(document: Any) -> Record:
    """The one record of a JSON document."""
    found = import_file(json.dumps(document).encode(), "file", GIVEN)
    assert found.problems == ()
    (record,) = found.records
    return record


def metric(record: Record, name: str) -> Metric:
    found = record.metric(name)
    assert found is not None, name
    return found


def published(run_id: str = "r", *, per_s: float = 1000.0, instance: str | None = "inf2.xlarge",
              chip_id: str = "inferentia2", chips: int = 1, item: str = "sample", **changes: Any) -> Record:
    """A published result of so many items a second."""
    plain: dict[str, Any] = {
        "metrics": (Metric(name=f"{item}s_per_second", value=per_s, unit=f"{item}s/s"),), "tier": "published",
        "machine": {"name": instance, "instance": {"provider": "aws", "type": instance, "region": None, "count": 1}},
        "source": {"id": run_id, "publisher": "somebody"}, "work": {"item": item}, "children": (), "samples": {},
        "device": {"kind": "accelerator", "name": chip_id, "chip": chip_id, "chips": chips}, "phases_s": {},
        "wall_s": None}
    return dataclasses.replace(make_record(run_id), **(plain | changes))


def price(instance_type: str, usd_per_hour: float, basis: str = "on-demand", *, region: str = "us-east-1",
          as_of: date = date(2026, 7, 20)) -> Price:
    return Price(provider="aws", instance_type=instance_type, region=region, basis=basis, usd_per_hour=usd_per_hour,
                 as_of=as_of, source="a test")


def rated(record: Record, *prices: Price, **terms: Any) -> Rate:
    return rate(record, Terms(**({"as_of": DAY} | terms)), PriceBook(prices))


# -- what a metric's name means


def test_tpot_with_or_without_first_token() -> None:
    """TTFT 1 s, 100 tokens, 20 ms each: 1980 / 99 = 20.0 ms without the first, 2980 / 100 = 29.8 ms with it."""
    without = imported(vllm_result(requests=700))
    assert metric(without, "tpot_ms_mean").value == pytest.approx(20.0)
    with_first = imported(vllm_result(requests=700, mean_tpot_ms=29.8, median_tpot_ms=29.8, p99_tpot_ms=29.8))
    assert metric(with_first, "tpot_ms_mean").value == pytest.approx(20.0)
    assert metric(with_first, "tpot_ms_p50").value is None
    assert "has the first token in it" in str(metric(with_first, "tpot_ms_p50").reason)


def test_itl_per_chunk_with_speculative_decoding() -> None:
    """Three tokens a chunk: gaps of 60 ms are no time per token, and nobody says how many tokens each holds."""
    one_each, three = (imported(vllm_result(requests=700, tokens=100, detailed=True, chunk=n)) for n in (1, 3))
    assert metric(one_each, "itl_ms_p50").value == pytest.approx(20.0)
    assert metric(three, "itl_ms_p50").value is None
    assert "23100 gaps between chunks for 69300 further tokens" in str(metric(three, "itl_ms_p50").reason)
    assert metric(three, "tpot_ms_p50").value == pytest.approx(20.0)  # which chunks do not change


def test_samples_that_are_tokens() -> None:
    """optimum-benchmark calls 16 "samples/s" what is 2 sequences of 5 tokens in 0.5 s."""
    document = optimum_report("generate")
    assert document["report"]["generate"]["throughput"] == {"unit": "samples/s", "value": 16.0}
    record = imported(document)
    assert record.work["item_definition"] == "output tokens"
    assert metric(record, "tokens_per_second").value == pytest.approx(20.0)
    assert record.metric("samples_per_second") is None


def test_padded_prompt_and_output_called_throughput() -> None:
    """All tokens are never output tokens, and a tool that knows padded ones alone is refused."""
    record = imported(vllm_result(requests=700, prompt=100, tokens=100))
    both, output = metric(record, "total_tokens_per_second").value, metric(record, "tokens_per_second").value
    assert both == pytest.approx(1400)
    assert output == pytest.approx(700)
    total = dataclasses.replace(record, work=record.work | {"item_definition": "prompt and output tokens"})
    assert "what is counted differs" in " ".join(unlike(record, total))
    with pytest.raises(Unusable, match="padded prompt and output"):
        import_file(b'{"e2e_model": {"throughput": 1400}}', "f", GIVEN)


def test_gibibytes_called_gigabytes() -> None:
    """2^30 bytes in 1 s are 1.0737 decimal GB/s, not 1: bandwidth is made of bytes and time."""
    child = {"work": {"item": "copy", "items_per_step": 1, "flops_per_step": None, "bytes_per_step": 2.0**30},
             "steps_per_round": 1, "samples_ns": [1e9] * 3, "series_ns": {}, "canary": {"gb_per_second": 2.0,
             "gb_per_second_source": "a test"}, "energy": {}, "compile": {"seconds": None}, "device": {"chips": 1}}
    found = {m.name: m.value for m in metrics_of(make_case(workload="membw"), [child])[0]}
    assert found["gb_per_second"] == pytest.approx(1.073741824)


def test_megabytes_of_another_tool_are_decimal() -> None:
    assert imported(optimum_report("forward")).memory["peak_bytes"] == 1_500_000_000


def test_counter_and_integrated_power_are_told_apart() -> None:
    """187 against 327 J for one thing measured in two ways: the way is kept with the number."""
    assert metric(imported(optimum_report("forward")), "joules_per_sample").method == \
        "codecarbon: CPU, RAM and GPU of the whole machine"
    counted = make_record(energy={"joules": 187.0, "method": "RAPL package counters"})
    assert counted.energy["method"] == "RAPL package counters"


# -- what was measured


def test_peak_of_a_chip_that_nobody_knows() -> None:
    """No fallback to some other chip's peak, and none to the sparse one, which is twice the dense."""
    with pytest.raises(BenchError, match="Unknown chip 'h10-sxm'"):
        peak_flops_per_second("h10-sxm", "bf16")
    assert peak_flops_per_second("l4", "bf16")[0] == pytest.approx(121e12)  # headline: 242 with sparsity
    peak, why = peak_flops_per_second("t4", "fp8")
    assert peak is None
    assert "no dense fp8 peak" in why


def test_mfu_above_one_is_no_number() -> None:
    """Three times the dense peak: the throughput, the FLOPs or the peak is wrong, and none is shown."""
    peak = chip("inferentia2").peak_flops_per_second["bf16"]
    record = published(metrics=(Metric(name="flops_per_second", value=3 * peak, unit="FLOP/s"),))
    mfu = amounts(record, rated(record))["mfu"]
    assert mfu.value is None
    assert "3.00 of the dense peak" in str(mfu.reason)


@pytest.mark.usefixtures("in_process")
def test_compile_inside_or_outside_the_clock(tmp_path: Path) -> None:
    """Compiling stands in its own phase of the ledger; no timed round has any of its seconds in it."""
    done = trnbench("run", "gemm", "--size", "tiny", "--backend", "emulated", "--repeats", "1", "--max-seconds", "0.1",
                    "--backend-option", "compile_cold_s=40", "--results", tmp_path)
    assert done.exit_code == 0, done.output
    (record,) = records_in(tmp_path)
    assert metric(record, "compile_s").value == pytest.approx(40, rel=0.01)
    (rounds,) = record.samples["children"]
    assert max(rounds) < 1e9


def test_dropped_responses_counted_as_success() -> None:
    """1000 issued, 910 answered, none said to have failed: 9 % are gone, and nobody says where."""
    document = vllm_result(requests=910) | {"num_prompts": 1000}
    for entry in (document, {key: value for key, value in document.items() if key != "failed"}):
        record = imported(entry)
        assert record.status == "invalid"
        assert "1000 requests were issued, 910 completed" in record.reasons[0]
    all_counted = imported(vllm_result(requests=910) | {"request_throughput": 10.0})  # 1000 in 100 s
    assert (all_counted.status, "but 910 completed requests" in all_counted.reasons[0]) == ("invalid", True)


def test_repeated_prompts_hit_no_prefix_cache() -> None:
    """Every generation of the same prompt reads the whole of it again, so that its TTFT is one of work."""
    workload, cpu = load_workload("gpt2"), load_backend("cpu")
    case = case_for("gpt2", workload, backend="cpu", size="tiny", scenario="generation", dtype="fp32", compile="off",
                    threads=1, seq_len=24)
    program, read = workload.build(case), []
    assert program.prefill is not None
    program.prefill.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].numel()))
    with contextlib.closing(cpu.open(case, cpu.fixed(case))) as device:
        timed = load_scenario("generation").prepare(program, device, workload.work(case))
        for _ in range(3):
            timed.step()
    assert read == [24 * case.batch_size] * 3
    assert len(timed.series["ttft"]) == 3


def test_p99_of_20_samples() -> None:
    record = imported(vllm_result(requests=20))
    assert metric(record, "ttft_ms_p99").value is None
    assert metric(record, "ttft_ms_p99").reason == "20 samples; p99 needs 662"
    assert metric(record, "ttft_ms_p50").value == pytest.approx(1000)
    assert metric(imported(vllm_result(requests=20, detailed=True)), "tpot_ms_p99").value is None


def test_per_device_rates_are_no_systems_sum() -> None:
    """Averages over processes and rates per GPU are not multiplied up by a guess."""
    document = optimum_report("forward")
    document["config"]["launcher"] = {"nproc_per_node": 4}
    assert metric(imported(document), "samples_per_second").value is None
    found = import_file(b'{"tput_per_gpu": 3086.4, "tp": 4}', "f", GIVEN)
    assert (found.records, "per GPU and in seconds" in found.problems[0]) == ((), True)


# -- money


def test_price_basis_changed_under_the_same_column_name() -> None:
    """The basis is in the price's id and in the rate: 0.7582 and 0.303 an hour are never one column."""
    record = published()
    both = [price("inf2.xlarge", 0.7582), price("inf2.xlarge", 0.303, "reserved-3yr")]
    rates = [rated(record, *both, basis=basis) for basis in ("on-demand", "reserved-3yr")]
    assert [r.price_id for r in rates] == ["aws/inf2.xlarge/us-east-1/on-demand/2026-07-20",
                                           "aws/inf2.xlarge/us-east-1/reserved-3yr/2026-07-20"]
    assert [amounts(record, r)["usd_per_1m_inferences"].source for r in rates] == [r.price_id for r in rates]


def test_same_machine_other_month_or_region() -> None:
    """p4d.24xlarge before and after June 2025, and in another region: three prices, three ids."""
    record = published(instance="p4d.24xlarge", chip_id="a100-40gb", chips=8)
    prices = [price("p4d.24xlarge", 32.77, as_of=date(2025, 5, 31)), price("p4d.24xlarge", 21.957642),
              price("p4d.24xlarge", 24.2, region="eu-west-1")]
    found = [rated(record, *prices, as_of=date(2025, 5, 31)), rated(record, *prices),
             rated(record, *prices, region="eu-west-1")]
    assert [r.usd_per_hour for r in found] == [32.77, 21.957642, 24.2]
    assert len({r.price_id for r in found}) == 3
    assert load_book().quote("p4d.24xlarge", "on-demand", as_of=date(2025, 5, 31)).price != \
        load_book().quote("p4d.24xlarge", "on-demand", as_of=DAY).price


def test_reserved_on_one_side_and_on_demand_on_the_other() -> None:
    """A verdict asked for on reserved prices has no pair where one side has none; no other basis steps in."""
    ours, theirs = published(), published("l4", per_s=900.0, instance="g6.xlarge", chip_id="l4")
    prices = [price("inf2.xlarge", 0.303, "reserved-3yr"), price("g6.xlarge", 0.8048)]
    own, others = (rated(r, *prices, basis=basis) for r, basis in ((ours, "reserved-3yr"), (theirs, "on-demand")))
    with pytest.raises(ValueError, match="mixed price bases"):
        cost_ratio(ours, own, theirs, others)
    part = Part(name="cost", metric="usd_per_item", claimed="-40 %", ratio=1 / 0.6, up_to=False,
                subject=Selector(chips=("inferentia2",)), baseline=Selector(chips=("l4",)))
    claim = Claim(id="X", title="cheaper", statement="cheaper", source={}, parts=(part,))
    verdict = judge(claim, [ours, theirs], Terms(basis="reserved-3yr", as_of=DAY), PriceBook(prices))
    assert verdict.answer == "insufficient evidence"
    assert [pair.ratio for pair in verdict.pairs if pair.ratio is not None] == []


def test_spot_guessed_from_on_demand() -> None:
    record = published()
    found = rated(record, price("inf2.xlarge", 0.7582), basis="spot")
    assert found.usd_per_hour is None
    assert "no spot price of inf2.xlarge" in str(found.reason)


def test_missing_price_is_not_zero() -> None:
    """What depends on an unknown price is unknown too, each number with the reason; so is a missing counter."""
    record = published()
    found = amounts(record, rated(record))
    for name in ("usd_per_1m_inferences", "inferences_per_usd"):
        assert found[name].value is None
        assert "no price of inf2.xlarge" in str(found[name].reason)
    assert (found["joules_per_sample"].value, found["joules_per_sample"].reason) == (None, "energy was not measured")


def test_whole_machine_billed_twice() -> None:
    """Two results on halves of one machine: charged by chips their shares add up to one bill; by instance each
    pays the whole, and the rate says so.
    """
    halves = [published(f"half-{i}", instance="trn1.32xlarge", chip_id="trainium1", chips=8) for i in (1, 2)]
    by_chips = [rated(r, price("trn1.32xlarge", 21.5), attribution="chips") for r in halves]
    assert sum(r.usd_per_hour or 0 for r in by_chips) == pytest.approx(21.5)
    assert sum(r.share or 0 for r in by_chips) == pytest.approx(1)
    whole = rated(halves[0], price("trn1.32xlarge", 21.5))
    assert (whole.usd_per_hour, whole.share, whole.attribution) == (21.5, 0.5, "instance")


def test_input_and_output_tokens_are_not_both_charged() -> None:
    """One throughput counts for money: output tokens. The total of both kinds has no price of its own."""
    record = imported(vllm_result(requests=700))
    found = amounts(record, rated(record, price("g6.xlarge", 0.8048)))
    # 700 output tokens a second at 0.8048 USD/h: 0.8048 / (3600 x 700) x 1e6
    assert found["usd_per_1m_tokens"].value == pytest.approx(0.8048 / (3600 * 700) * 1e6)
    assert [name for name in found if name.startswith("usd_per_1m_") and "all_in" not in name] == ["usd_per_1m_tokens"]


def test_cost_from_rounded_throughput() -> None:
    """0.004 items a second printed as "0.00" would cost nothing or everything: full precision all the way."""
    record = published(per_s=0.0041666667)
    cost = amounts(record, rated(record, price("inf2.xlarge", 0.7582)))["usd_per_1m_inferences"].value
    assert cost == pytest.approx(1e6 * 0.7582 / (3600 * 0.0041666667), rel=1e-12)
    rounded = imported(vllm_result(requests=3, tokens=333, seconds=333) | {
        "request_throughput": 0.00900901, "output_throughput": 3.0})
    assert metric(rounded, "requests_per_second").value == pytest.approx(3 / 333, rel=1e-12)
