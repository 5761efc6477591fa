"""Other tools' result files become records: each format, each dialect of a metric, each wrong input."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bench.catalog.alike import unlike
from bench.catalog.published import published_records
from bench.errors import BenchError
from bench.exchange import Given, Unusable, format_of, import_file
from bench.exchange.vllm import goodput_objectives, tpot_definition
from bench.record import Record, schema
from bench.store import Store
from tests.commandline import trnbench
from tests.foreign import mlperf_table, neuronperf_csv, optimum_report, vllm_result

SAMPLES = Path(__file__).parent / "samples"


def records(content: str | bytes, name: str = "file", kind: str | None = None, **given: Any) -> tuple[Record, ...]:
    """The records of a file that holds nothing else."""
    found = import_file(content.encode() if isinstance(content, str) else content, name, Given(**given), kind)
    assert found.problems == ()
    for record in found.records:
        jsonschema.Draft202012Validator(schema()).validate(json.loads(record.dumps()))
        assert (record.tier, record.parity["status"]) == ("published", "unchecked")
        assert record.source["publisher"]
    return found.records


def one(content: str | bytes, **given: Any) -> Record:
    (record,) = records(content, **given)
    return record


def value(record: Record, name: str) -> float:
    metric = record.metric(name)
    assert metric is not None, name
    assert metric.value is not None, metric.reason
    return metric.value


def why_not(record: Record, name: str) -> str:
    metric = record.metric(name)
    assert metric is not None, name
    assert metric.value is None
    assert metric.reason
    return metric.reason


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


DAY: dict[str, Any] = {"day": date(2026, 11, 22)}


# -- vLLM


def test_a_vllm_result_counts_output_tokens_of_completed_requests() -> None:
    record = one(json.dumps(vllm_result(requests=700)))
    # 700 requests of 100 output tokens, 1024 prompt tokens each, in 100 s
    assert value(record, "tokens_per_second") == pytest.approx(700)
    assert value(record, "total_tokens_per_second") == pytest.approx(7 * 1124)
    assert value(record, "requests_per_second") == pytest.approx(7)
    assert (record.work["item"], record.work["item_definition"]) == ("token", "output tokens")
    assert (record.case.scenario, record.status) == ("server", "valid")
    assert record.started_at == "2025-06-01T10:30:00+00:00"
    assert value(record, "ttft_ms_p50") == pytest.approx(1000)
    assert value(record, "tpot_ms_p99") == pytest.approx(20)
    assert value(record, "latency_ms_p99") == pytest.approx(2980)  # 1000 + 99 x 20


def test_lists_of_requests_give_the_sequence_and_gaps_per_token() -> None:
    record = one(json.dumps(vllm_result(requests=700, detailed=True)))
    assert record.work["sequence"] == "1024/100"
    assert value(record, "tpot_ms_p50") == pytest.approx(20)
    assert value(record, "itl_ms_p99") == pytest.approx(20)
    plain = one(json.dumps(vllm_result(requests=700)))
    assert plain.work["sequence"] == "mean 1024/100"
    assert "per chunk" in why_not(plain, "itl_ms_p99")


def test_the_user_may_say_how_long_the_sequences_were_but_not_contradict_the_file() -> None:
    assert one(json.dumps(vllm_result()), seq_len="1024/100").work["sequence"] == "1024/100"
    found = import_file(json.dumps(vllm_result(detailed=True)).encode(), "f", Given(seq_len="128/100"))
    assert (found.records, len(found.problems)) == ((), 1)
    assert "1024/100" in found.problems[0]


def test_several_results_may_stand_one_a_line() -> None:
    text = "\n".join(json.dumps(vllm_result(requests=n)) for n in (10, 20))
    assert len(records(text)) == 2


def test_failed_requests_are_named_and_count_in_no_throughput() -> None:
    record = one(json.dumps(vllm_result(requests=90, failed=10)))
    assert value(record, "requests_per_second") == pytest.approx(0.9)
    assert "10 of 100 requests failed: they are in no throughput" in record.warnings
    assert record.status == "valid"


def test_no_completed_request_is_a_failed_record() -> None:
    record = one(json.dumps(vllm_result(requests=0, failed=5)))
    assert (record.status, record.reasons[0]) == ("failed", "no request completed")


def test_a_printed_rate_that_its_counts_do_not_give_makes_the_record_invalid() -> None:
    record = one(json.dumps(vllm_result(requests=100) | {"output_throughput": 1124.0}))
    assert record.status == "invalid"
    assert "output_throughput is 1124, but 10000 output tokens in 100 s are 100" in record.reasons[0]


def test_a_time_of_0_is_what_was_not_timed() -> None:
    record = one(json.dumps(vllm_result(requests=700) | {"median_ttft_ms": 0.0, "p99_ttft_ms": 0.0}))
    assert "not timed" in why_not(record, "ttft_ms_p50")


@pytest.mark.parametrize("stated", [{"ttft": 200, "tpot": 50}, "ttft:200 tpot:50", ["ttft:200", "tpot:50"],
                                    {"time_to_first_token": 200, "inter_token_latency": "50"}])
def test_goodput_objectives_have_short_and_long_names(stated: Any) -> None:
    assert goodput_objectives(stated) == {"ttft_ms": 200, "tpot_ms": 50}


def test_an_unknown_goodput_objective_is_refused() -> None:
    with pytest.raises(Unusable, match="'itl' is none of"):
        goodput_objectives({"itl": 3})


@pytest.mark.parametrize("key", ["request_goodput", "request_goodput:"])
def test_goodput_is_kept_with_its_objectives(key: str) -> None:
    entry = {k: v for k, v in vllm_result(requests=700).items() if k != "request_goodput"}
    record = one(json.dumps(entry | {key: 6.5, "goodput": "ttft:200"}))
    metric = record.metric("request_goodput_per_second")
    assert metric
    assert (metric.value, metric.method) == (6.5, "requests within ttft_ms 200")
    assert record.case.options["goodput_ttft_ms"] == 200


def test_a_mean_time_per_output_token_is_told_by_its_parts() -> None:
    # TTFT 1 s, 100 tokens, 20 ms each further one: end to end 2980 ms; 1980/99 = 20, 2980/100 = 29.8
    assert tpot_definition(20.0, 1000, 2980, 100) == "without first token"
    assert tpot_definition(29.8, 1000, 2980, 100) == "with first token"
    assert tpot_definition(40.0, 1000, 2980, 100) is None
    assert tpot_definition(20.0, 20, 2000, 100) is None  # 1980/99 = 2000/100: no telling, no difference


# -- optimum-benchmark


def test_a_forward_report_is_recomputed_from_its_latencies() -> None:
    record = one(json.dumps(optimum_report("forward")), **DAY)
    # batch 8; latencies 0.1 x 8 and two of 0.4 s: median 0.1 s, 80 samples in 1.6 s
    assert value(record, "samples_per_second") == pytest.approx(80)
    assert value(record, "samples_per_second_sustained") == pytest.approx(80 / 1.6)
    assert (record.case.scenario, record.case.batch_size, record.case.dtype) == ("offline", 8, "bf16")
    assert (record.case.seq_len, record.work["sequence"]) == (128, "128")
    assert record.samples["children"][0][:2] == [100_000_000, 100_000_000]
    assert record.memory["peak_bytes"] == 1500e6  # MB are 10^6 bytes
    assert value(record, "joules_per_sample") == pytest.approx(1e-6 * 3.6e6 / 8)


def test_a_report_alone_tells_its_batch_by_rate_and_latency() -> None:
    record = one(json.dumps(optimum_report("forward")["report"]), **DAY)
    assert value(record, "samples_per_second") == pytest.approx(80)
    assert record.case.dtype == "unstated"
    assert any("the report alone says nothing" in warning for warning in record.warnings)


def test_training_throughput_is_that_of_a_step() -> None:
    record = one(json.dumps(optimum_report("train")), **DAY)
    # 10 steps of batch 8 at 4 s: 2 samples/s; the file says 80 samples over one mean step: 20
    assert value(record, "samples_per_second") == pytest.approx(2)
    assert (record.case.task, record.case.scenario) == ("training", "training")
    assert "batch size" in why_not(one(json.dumps(optimum_report("train")["report"]), **DAY), "samples_per_second")


def test_a_generation_has_tokens_and_times_of_first_and_further_ones() -> None:
    record = one(json.dumps(optimum_report("generate")), **DAY)
    # batch 2, 5 new tokens: 0.1 s prefill, 0.4 s decode: 10 tokens in 0.5 s, 0.4 / 4 s a further token
    assert value(record, "tokens_per_second") == pytest.approx(20)
    assert value(record, "tpot_ms_p50") == pytest.approx(100)
    assert value(record, "ttft_ms_p50") == pytest.approx(100)
    assert value(record, "itl_ms_p50") == pytest.approx(100)
    assert (record.work["sequence"], record.case.options["new_tokens"]) == ("128/5", 5)
    alone = one(json.dumps(optimum_report("generate")["report"]), **DAY)
    assert value(alone, "tokens_per_second") == pytest.approx(20)


def test_latencies_per_token_with_pauses_among_them_are_not_used() -> None:
    document = optimum_report("generate")
    gaps = document["report"]["per_token"]["latency"]
    gaps["values"] = gaps["values"] + [3.0]
    assert "pauses between runs" in why_not(one(json.dumps(document), **DAY), "itl_ms_p50")


def test_an_average_over_processes_is_no_systems_throughput() -> None:
    document = optimum_report("forward")
    document["config"]["launcher"] = {"name": "torchrun", "nproc_per_node": 2}
    assert "2 processes" in why_not(one(json.dumps(document), **DAY), "samples_per_second")
    training = optimum_report("train")
    training["config"]["launcher"] = {"name": "torchrun", "nproc_per_node": 2}
    assert value(one(json.dumps(training), **DAY), "samples_per_second") == pytest.approx(4)  # 8 a device, two of them


@pytest.mark.parametrize(("backend", "dtype"), [
    ({"torch_dtype": "float16"}, "fp16"), ({"torch_dtype": None}, "unstated"), ({"torch_dtype": "auto"}, "unstated"),
    ({"torch_dtype": "float32", "allow_tf32": True}, "tf32"), ({"torch_dtype": "float32"}, "fp32"),
    ({"autocast_enabled": True, "autocast_dtype": "bfloat16", "device": "cuda"}, "amp-bf16"),
    ({"autocast_enabled": True, "autocast_dtype": "bfloat16", "device": "cpu"}, "unstated"),
    ({"quantization_config": {"quant_method": "bnb"}}, "unstated")])
def test_the_number_format_is_the_configured_one_or_unstated(backend: dict[str, Any], dtype: str) -> None:
    document = optimum_report("forward")
    document["config"]["backend"] |= backend
    assert one(json.dumps(document), **DAY).case.dtype == dtype


def test_a_gpu_is_found_in_the_catalog_by_its_drivers_name() -> None:
    document = optimum_report("forward")
    document["config"]["backend"] |= {"device": "cuda", "device_ids": "0,1"}
    document["config"]["environment"]["gpu"] = ["NVIDIA A10G", "NVIDIA A10G"]
    device = one(json.dumps(document), **DAY).device
    assert (device["chip"], device["chips"]) == ("a10g", 2)


def test_latencies_in_another_unit_are_refused() -> None:
    document = optimum_report("forward")
    document["report"]["forward"]["latency"]["unit"] = "ms"
    with pytest.raises(Unusable, match="in 'ms', not s"):
        import_file(json.dumps(document).encode(), "f", Given())


def test_a_real_forward_report_is_read() -> None:
    record = one(sample("optimum/bert-forward.json"), **DAY)
    assert value(record, "samples_per_second") == pytest.approx(4 / 0.3080308789994888)  # batch over the median
    assert (record.case.dtype, record.case.batch_size, record.work["sequence"]) == ("bf16", 4, "32")
    assert (record.tool["version"], record.case.backend) == ("0.6.0", "optimum-benchmark")
    assert record.memory["peak_bytes"] == pytest.approx(475_381_760)


def test_a_real_generation_report_counts_tokens_and_its_pauses_are_found() -> None:
    """12 runs of 2 sequences of 6 tokens: 60 gaps, but the file has 456 of them; its rate is of 5 tokens each."""
    document = json.loads(sample("optimum/gpt2-report.json"))
    stated, mean_s = (document["generate"][key][of] for key, of in (("throughput", "value"), ("latency", "mean")))
    assert stated * mean_s == pytest.approx(2 * 5)
    record = one(json.dumps(document), **DAY)
    assert value(record, "tokens_per_second_sustained") == pytest.approx(2 * 6 / mean_s)
    assert "456 latencies per token for 12 runs of 5 further tokens" in why_not(record, "itl_ms_p50")
    assert (record.case.options["new_tokens"], record.case.dtype) == (6, "unstated")


# -- MLPerf


def test_a_real_offline_summary_is_read() -> None:
    record = one(sample("mlperf/offline.txt"), **DAY)
    assert value(record, "samples_per_second") > 0
    assert [m.name for m in record.metrics] == ["samples_per_second"]  # offline latencies run from the test's start
    assert (record.case.scenario, record.status) == ("offline", "valid")


def test_a_real_server_summary_has_completed_samples_and_latencies_in_ms() -> None:
    text = sample("mlperf/server.txt").decode()
    record = one(text, **DAY)
    stated = {key.strip(): number for key, _, number in (line.partition(":") for line in text.splitlines())}
    assert value(record, "samples_per_second") == float(stated["Completed samples per second"])
    assert value(record, "scheduled_samples_per_second") == float(stated["Scheduled samples per second"])
    assert value(record, "latency_ms_p50") == pytest.approx(int(stated["50.00 percentile latency (ns)"]) / 1e6)


def test_a_real_single_stream_summary_has_the_early_stopping_bound() -> None:
    record = one(sample("mlperf/single-stream.txt"), **DAY)
    assert record.case.scenario == "single-stream"
    assert value(record, "latency_ms_p90_bound") >= value(record, "latency_ms_p90")


def test_latencies_of_a_real_multi_stream_summary_are_of_queries_of_several_samples() -> None:
    record = one(sample("mlperf/multi-stream.txt"), **DAY)
    assert record.work["batch_size"] == 8
    metric = record.metric("latency_ms_p50")
    assert metric
    assert metric.method == "LoadGen's percentile of whole queries"


@pytest.mark.parametrize("name", ["mlperf/server-tokens.txt", "mlperf/offline-tokens.txt"])
def test_real_token_summaries_count_output_tokens(name: str) -> None:
    record = one(sample(name), **DAY)
    assert (record.work["item"], record.work["item_definition"]) == ("token", "output tokens")
    assert value(record, "tokens_per_second") > value(record, "samples_per_second")


def test_a_real_token_servers_latencies_are_ours() -> None:
    record = one(sample("mlperf/server-tokens.txt"), **DAY)
    text = sample("mlperf/server-tokens.txt").decode()
    assert "50.00 percentile time to output token (ns)" in text
    assert 0 < value(record, "tpot_ms_p50") < value(record, "latency_ms_p50")
    assert 0 < value(record, "ttft_ms_p50") < value(record, "latency_ms_p50")


def test_an_invalid_run_is_an_invalid_record_with_what_was_not_satisfied() -> None:
    text = sample("mlperf/server.txt").decode().replace("Result is : VALID", "Result is : INVALID")
    text = text.replace("Min duration satisfied : Yes", "Min duration satisfied : NO")
    record = one(text, **DAY)
    assert (record.status, record.reasons) == (
        "invalid", ("LoadGen calls the run INVALID: not satisfied: min duration satisfied",))


def test_the_model_of_a_summary_is_read_from_a_submissions_path() -> None:
    name = "closed/Dell/results/T4x1/bert-99.9/Offline/performance/run_1/mlperf_log_summary.txt"
    (record,) = records(sample("mlperf/offline.txt"), name=name, **DAY)
    assert (record.case.workload, record.case.size, record.work["quality"]) == ("bert", "large", "99.9 %")
    assert record.work["sequence"] == "384 max"
    (image,) = records(sample("mlperf/offline.txt"), name=name.replace("bert-99.9", "resnet50"), **DAY)
    assert value(image, "images_per_second") == value(record, "samples_per_second")


def test_a_summary_that_was_cut_short_or_was_not_timed_is_refused() -> None:
    text = sample("mlperf/offline.txt").decode()
    with pytest.raises(Unusable, match="cut short"):
        import_file(text[:text.index("Result is")].encode(), "f", Given(**DAY))
    with pytest.raises(Unusable, match="AccuracyOnly"):
        import_file(text.replace("PerformanceOnly", "AccuracyOnly").encode(), "f", Given(**DAY))


@pytest.mark.parametrize("headings", ["checker", "published"])
def test_a_table_of_results_is_read_under_the_headings_of_any_round(headings: str) -> None:
    offline, single = records(mlperf_table(headings))
    assert value(offline, "samples_per_second") == pytest.approx(6429)
    assert (offline.device["chip"], offline.device["chips"]) == ("l40s", 4)  # 2 nodes of 2
    assert (offline.case.workload, offline.work["quality"]) == ("bert", "99 %")
    assert (offline.case.dtype, offline.work["precision_class"]) == ("int8", "int8")
    assert offline.started_at == "2024-03-01T00:00:00+00:00"  # v4.0 came out in March 2024
    assert value(single, "latency_ms_p90_bound") == pytest.approx(1.73)
    assert "latency alone" in why_not(single, "samples_per_second")


@pytest.mark.parametrize(("model", "units", "like"), [
    ("bert-99", "Samples/s", "mlperf-inf-v3.0-005"), ("resnet", "Queries/s", "mlperf-inf-v3.0-009"),
    ("llama2-70b-99", "Tokens/s", "mlperf-inf-v4.1-011"), ("mixtral-8x7b", "Tokens/s", "mlperf-inf-v4.1-013"),
    ("stable-diffusion-xl", "Samples/s", "mlperf-inf-v4.1-015"), ("gptj-99", "Samples/s", "mlperf-inf-v4.1-009"),
    ("llama3.1-8b", "Tokens/s", "mlperf-inf-v5.1-003"), ("llama3.1-8b", "Tokens/s", "mlperf-inf-v5.1-004")])
def test_an_imported_result_is_held_against_the_shipped_ones_of_its_benchmark(model: str, units: str,
                                                                              like: str) -> None:
    (shipped,) = [record for record in published_records()[0] if record.run_id == like]
    row = next(csv.DictReader(io.StringIO(mlperf_table("checker"))))
    own = one(json.dumps([row | {"MlperfModel": model, "Units": units, "weight_data_types": shipped.case.dtype,
                                 "Scenario": shipped.case.scenario.title()}]))
    assert unlike(own, shipped) == []


def test_rows_of_power_are_passed_over_with_the_reason() -> None:
    rows = list(csv.DictReader(io.StringIO(mlperf_table("checker"))))
    rows[1] |= {"Units": "Watts", "Result": "350"}
    found = import_file(json.dumps(rows).encode(), "f", Given())
    assert len(found.records) == 1
    assert "row 2 (Some server (2x L40S), bert-99, SingleStream): Watts of a run" in found.problems[0]


# -- NeuronPerf


def test_neuronperf_throughput_is_of_all_models_together() -> None:
    first, second = records(neuronperf_csv(), instance_type="inf1.xlarge", workload="bert", size="base", dtype="fp32",
                            seq_len="128", **DAY)
    assert value(first, "samples_per_second") == pytest.approx(1095.4)
    assert (first.case.batch_size, first.device["cores"], first.device["chips"]) == (8, 4, 1)
    assert first.work["precision_class"] == "16-bit"  # Inferentia1 multiplies float32 models in 16 bit
    assert first.machine["instance"]["type"] == "inf1.xlarge"
    assert value(first, "latency_ms_p50") == pytest.approx(58.3)
    assert first.case_id != second.case_id


def test_a_throughput_that_its_workers_cannot_do_is_invalid() -> None:
    record = records(neuronperf_csv(throughput_avg="9000"), **DAY)[0]
    # 4 models x 2 workers x 8 samples / 58.3 ms = 1098 a second
    assert (record.status, record.reasons[0][:50]) == ("invalid", "throughput_avg 9000 is more than 8 workers with ba")


# -- what the user adds


def test_what_nobody_says_is_unstated_and_told() -> None:
    record = one(json.dumps(vllm_result()))
    assert (record.case.dtype, record.device["chip"], record.device["chips"]) == ("unstated", None, None)
    told = " ".join(record.warnings)
    assert "number format not stated (--dtype says it)" in told
    assert "chip not stated (--chip says it)" in told
    assert record.machine["instance"]["type"] is None
    assert record.machine["instance"]["reason"]


def test_an_instance_says_which_chip_and_how_many_where_it_has_one() -> None:
    record = one(json.dumps(vllm_result()), instance_type="g6.xlarge")
    assert (record.device["chip"], record.device["chips"]) == ("l4", 1)
    several = one(json.dumps(vllm_result()), instance_type="inf2.48xlarge")
    assert (several.device["chip"], several.device["chips"]) == ("inferentia2", None)
    hosts = one(json.dumps(vllm_result()), instance_type="inf2.48xlarge", chips=24).machine["instance"]
    assert hosts["count"] == 2  # 12 chips each


@pytest.mark.parametrize(("given", "told"), [
    ({"chip": "h10-sxm"}, "Unknown chip"), ({"instance_type": "p4.24xlarge"}, "p4.24xlarge"),
    ({"instance_type": "g6.xlarge", "chip": "t4"}, "g6.xlarge has l4, not t4"), ({"chips": 0}, "at least 1"),
    ({"seq_len": "long"}, "no length"), ({"size": "base"}, "--workload")])
def test_options_that_cannot_be_are_usage_errors(given: dict[str, Any], told: str) -> None:
    with pytest.raises(BenchError, match=told):
        Given(**given)


def test_the_command_line_refuses_a_chip_that_the_file_contradicts() -> None:
    found = import_file(mlperf_table("checker").encode(), "f", Given(chip="t4"))
    assert found.records == ()
    assert "its chip is l40s, and the command line says t4" in found.problems[0]


def test_a_known_benchmark_cannot_be_called_another_workload() -> None:
    found = import_file(mlperf_table("checker").encode(), "f", Given(workload="resnet50", size="full"))
    assert found.records == ()
    assert "it is a result of bert:large, and --workload says resnet50:full" in found.problems[0]


def test_samples_of_a_workload_of_images_are_images() -> None:
    record = records(neuronperf_csv(), workload="resnet50", size="full", **DAY)[0]
    assert value(record, "images_per_second") == pytest.approx(1095.4)
    assert record.metric("samples_per_second") is None
    assert (record.work["item_definition"], "sequence_reason" in record.work) == ("images", False)


def test_without_a_date_in_file_or_options_nothing_is_imported() -> None:
    found = import_file(neuronperf_csv().encode(), "f", Given())
    assert found.records == ()
    assert "pass --date" in found.problems[0]


# -- formats and wrong inputs


@pytest.mark.parametrize(("content", "kind"), [
    (json.dumps(vllm_result()), "vllm"), (json.dumps(optimum_report("forward")), "optimum-benchmark"),
    (json.dumps(optimum_report("train")["report"]), "optimum-benchmark"), (mlperf_table("checker"), "mlperf"),
    (neuronperf_csv(), "neuronperf"), ('{"benchmarks": []}', "pytest-benchmark")])
def test_the_format_is_found_from_the_content(content: str, kind: str) -> None:
    assert format_of(content) == kind


NAN = json.dumps(vllm_result() | {"mean_ttft_ms": float("nan")})
TEXT = json.dumps(vllm_result() | {"duration": "100"})


WHOLLY_WRONG = [
    (json.dumps(vllm_result())[:-20], "no whole JSON"), ("a,b\n1,2\n", "pass --format"), ("", "empty"),
    (b"\x93NUMPY\x01\x00\xff\xfe", "no text"), ("abc\0def", "no text"), (TEXT, "duration is '100', not a number"),
    (NAN, "NaN is no number"), ("[" * 50_000, "no whole JSON"), ('{"duration": 1}', "pass --format"),
    ('{"e2e_model": {"throughput": 3}}', "padded prompt"), ('{"tput_per_gpu": 3}', "InferenceX")]
PARTLY_WRONG = [
    (neuronperf_csv(throughput_avg="fast"), "throughput_avg is 'fast', not a number"),
    (neuronperf_csv(throughput_avg="nan"), "which cannot be"), (neuronperf_csv(batch_size="1.5"), "whole number"),
    (mlperf_table("checker").replace("6429.0", "-1"), "which cannot be"),
    (mlperf_table("checker").replace("Offline", "Sometimes"), "none of MLPerf's")]


@pytest.mark.parametrize(("content", "told", "code"), [(*case, 3) for case in WHOLLY_WRONG]
                         + [(*case, 0) for case in PARTLY_WRONG])
def test_what_is_wrong_is_named_and_passed_over(content: str | bytes, told: str, code: int, tmp_path: Path) -> None:
    file = tmp_path / "wrong"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    done = trnbench("import", file, "--results", tmp_path / "r", "--date", "2026-01-01", "--json")
    assert f"Passed over {file}: " in done.stderr
    assert told in done.stderr
    assert done.exit_code == code, done.output
    assert len(json.loads(done.stdout)["stored"]) == (1 if code == 0 else 0)


def places(values: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all parts of a document, of long lists the first two."""
    inner = values.items() if isinstance(values, dict) else enumerate(values[:2]) if isinstance(values, list) else ()
    for key, value in inner:
        yield (*so_far, key)
        yield from places(value, (*so_far, key))


GARBAGE = [None, True, -1, 0, 1e308, "x", "", [], {}, [1, "a"], {"a": 1}, 1.5, 10**30, "\x00", [[1]]]


@pytest.mark.parametrize("document", [
    vllm_result(requests=5), vllm_result(requests=5, detailed=True) | {"goodput": {"ttft": 3}, "request_goodput": 2},
    *map(optimum_report, ("forward", "generate", "train")), json.loads(sample("optimum/gpt2-report.json")),
    list(csv.DictReader(io.StringIO(mlperf_table("checker"))))])
def test_garbage_anywhere_is_told_or_makes_a_record_that_fits_the_schema(document: Any) -> None:
    draw = random.Random(7)
    for place in draw.sample(found := list(places(document)), min(25, len(found))):
        for garbage in draw.sample(GARBAGE, 4):
            changed = copy.deepcopy(document)
            part = changed
            for key in place[:-1]:
                part = part[key]
            part[place[-1]] = garbage
            try:
                imported = import_file(json.dumps(changed).encode(), "f", Given(**DAY))
            except Unusable:
                continue
            for record in imported.records:
                jsonschema.Draft202012Validator(schema()).validate(json.loads(record.dumps()))


def test_a_csv_with_other_columns_is_refused_by_the_format_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("model,speed\nbert,3\n")
    for kind in ("neuronperf", "vllm", "optimum-benchmark", "pytest-benchmark"):
        done = trnbench("import", file, "--format", kind, "--results", tmp_path / "r")
        assert (done.exit_code, "Passed over" in done.stderr) == (3, True), kind


# -- the command


def test_importing_twice_changes_nothing_and_a_broken_file_beside_a_good_one_is_passed_over(tmp_path: Path) -> None:
    good, broken = tmp_path / "good.json", tmp_path / "broken.json"
    good.write_text(json.dumps(vllm_result()))
    broken.write_text("{")
    words = ("import", good, broken, "--results", tmp_path / "r", "--instance-type", "g6.xlarge", "--label", "a=b")
    first, second = trnbench(*words), trnbench(*words, "--json")
    assert (first.exit_code, second.exit_code) == (0, 0)
    said = json.loads(second.stdout)
    assert [len(said[name]) for name in ("stored", "already", "problems")] == [0, 1, 1]
    (record,) = Store(str(tmp_path / "r")).load_all().records
    assert record.labels == {"a": "b"}
    assert said["already"] == [record.run_id]


def test_importing_with_other_options_is_told_and_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(vllm_result()))
    assert trnbench("import", file, "--results", tmp_path / "r").exit_code == 0
    done = trnbench("import", file, "--results", tmp_path / "r", "--dtype", "bf16")
    assert (done.exit_code, "with other options" in done.stderr) == (2, True)


def test_sizes_of_our_workloads_are_checked_and_other_names_noted(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(vllm_result()))
    done = trnbench("import", file, "--results", tmp_path / "r", "--workload", "llama", "--size", "9b")
    assert (done.exit_code, "Did you mean '8b'" in done.stderr) == (2, True)
    done = trnbench("import", file, "--results", tmp_path / "r", "--workload", "lama")
    assert done.exit_code == 0
    assert "Did you mean" in done.stderr


def test_options_that_describe_a_result_do_not_go_with_pytest_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"benchmarks": []}')
    assert trnbench("import", file, "--chip", "t4", "--results", tmp_path / "r").exit_code == 2
