"""Published results as records, and when two results are alike."""

import csv
import dataclasses
import io
import json
import subprocess
import sys
import time
from typing import Any

import jsonschema
import pytest

from bench.case import DTYPES, PUBLISHED_DTYPES, Case
from bench.catalog.alike import PRECISION_CLASSES, likeness, unlike
from bench.catalog.published import COLUMNS, FILE, PRECISIONS, load_published, published_records, tier_of
from bench.catalog.rows import shipped
from bench.errors import BenchError
from bench.record import Record, schema
from bench.registry import load_workload
from bench.report.frame import latest
from tests.records import make_record

RECORDS, REFUSED = published_records()
BY_ID = {record.run_id: record for record in RECORDS}
ROWS = list(csv.DictReader(io.StringIO(shipped(FILE))))


def value(row_id: str, name: str) -> float | None:
    metric = BY_ID[row_id].metric(name)
    assert metric, f"{row_id} has no {name}"
    return metric.value


def text_with(row_id: str, **cells: str) -> str:
    """A file of one of the shipped rows, with some of its cells changed."""
    row = next(row for row in ROWS if row["id"] == row_id) | cells
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerow(row)
    return out.getvalue()


def one(row_id: str, **cells: str) -> Record:
    records, refused = load_published(text_with(row_id, **cells), "mine.csv")
    assert not refused
    return records[0]


# -- every row is accounted for


def test_every_row_is_a_record_or_is_refused_with_a_reason() -> None:
    assert len(ROWS) >= 610
    assert sorted(row["id"] for row in ROWS) == sorted([*BY_ID, *(r.row_id for r in REFUSED)])
    assert all(r.reason for r in REFUSED)


def test_claims_and_prices_without_a_throughput_are_refused_as_what_they_are() -> None:
    for start, reason in (("claimed_", "a claim, not a measurement"), ("cost_per_image", "a price of its own basis")):
        rows = {row["id"] for row in ROWS if row["metric"].startswith(start)}
        assert len(rows) >= 4
        assert {r.row_id for r in REFUSED if r.reason.startswith(reason)} == rows


def test_every_record_fits_the_schema_and_is_read_back_equal() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    for record in RECORDS:
        data = json.loads(record.dumps())
        validator.validate(data)
        assert Record.from_json(data) == record


def test_every_record_says_where_it_is_from() -> None:
    for record in RECORDS:
        assert record.source["id"] == record.run_id
        assert record.source["publisher"]
        assert record.source["url"].startswith("http")
        assert record.source["date"]
        assert record.status == "valid"
        assert record.tier in ("published", "vendor")
        assert record.parity["status"] == "unchecked"


def test_a_record_from_before_sources_were_kept_is_still_read() -> None:
    data = {key: kept for key, kept in make_record().to_json().items() if key != "source"}
    assert Record.from_json(data) == make_record()
    assert make_record().source == {}


def test_no_row_hides_another_one_as_the_newest_of_its_case() -> None:
    assert len(latest(RECORDS)) == len(RECORDS)


@pytest.mark.parametrize(
    ("row_id", "case", "instance", "chip", "precision_class", "sequence", "metric", "number"), [
        ("neuron-inf1-002", "bert:base inference/offline", ("inf1.xlarge", 1), ("inferentia1", 1), "16-bit", "128",
         "samples_per_second", 1180.7),
        ("neuron-inf2-002", "bert:base inference/offline", ("inf2.xlarge", 1), ("inferentia2", 1), "16-bit", "128",
         "samples_per_second", 2674.2),
        ("neuron-inf2-039", "resnet50:full inference/offline", ("inf2.xlarge", 1), ("inferentia2", 1), "16-bit", None,
         "images_per_second", 4393.3),
        ("neuron-trn1-038", "bert:large training/training", ("trn1.32xlarge", 16), ("trainium1", 256), "16-bit", "128",
         "samples_per_second", 57408),
        ("neuron-trn1-039", "bert:large training/training", ("trn1.32xlarge", 16), ("trainium1", 256), "fp32", "128",
         "samples_per_second", 32363),
        ("neuron-trn1-042", "llama:8b training/training", ("trn1.32xlarge", 32), ("trainium1", 512), "16-bit", "8192",
         "tokens_per_second", 392806),
        ("trt-demobert-003", "bert:base inference/offline", (None, None), ("l4", 1), "16-bit", "128",
         "samples_per_second", 2290.6),
        ("trt-demobert-017", "bert:base inference/offline", (None, None), ("t4", 1), "int8", "128",
         "samples_per_second", 1760.2),
        ("nvidia-dle-002", "bert:large training/training", (None, None), ("a100-80gb", 8), "16-bit", "128",
         "samples_per_second", 4591),
        ("mlperf-inf-v2.0-001", "bert:large inference/offline", ("inf1.2xlarge", 1), ("inferentia1", 1), "16-bit",
         "384 max", "samples_per_second", 63.758),
        ("mlperf-inf-v6.0-013", "gpt-oss-120b:published inference/offline", (None, None), ("h200-sxm", 8), "4-bit",
         "MLPerf gpt-oss-120b", "tokens_per_second", 28680),
        ("thirdparty-seedoss-011", "seed-oss-36b:published inference/server", ("trn2.48xlarge", 1),
         ("trainium2", 2), "16-bit", "1024/500", "tokens_per_second", 959.96),
        ("thirdparty-seedoss-012", "seed-oss-36b:published inference/server", ("p5.48xlarge", 1), ("h100-sxm", 1),
         "fp8", "1024/500", "tokens_per_second", 1419.78),
        ("hf-tgi-sagemaker-006", "llama-2-70b:published inference/server", (None, None), ("a100-40gb", 8), "16-bit",
         None, "tokens_per_second", 321.54),
        ("optimum-neuron-022", "llama:8b inference/offline", ("inf2.48xlarge", 1), ("inferentia2", 4), "16-bit",
         "1500/250", "tokens_per_second", 440.45),
        ("maxtext-002", "llama:8b training/training", (None, None), ("tpu-v6e", 256), "16-bit", "8192",
         "tokens_per_second", 1844992),
        ("neuron-inf2-052", "stable-diffusion-xl:published inference/single-stream", ("inf2.xlarge", 1),
         ("inferentia2", 1), "16-bit", "1024x1024 steps=50", "images_per_second", 0.083),
        ("ml-energy-026", "llama:8b inference/server", (None, None), ("h100-sxm", 1), "16-bit", "ML.ENERGY chat",
         "tokens_per_second", 3391.1),
    ])
def test_rows_copied_by_hand_come_out_as_they_were_published(
        row_id: str, case: str, instance: tuple[Any, Any], chip: tuple[str, int], precision_class: str,
        sequence: str | None, metric: str, number: float) -> None:
    record = BY_ID[row_id]
    named = record.machine["instance"]
    assert f"{record.case.workload}:{record.case.size} {record.case.task}/{record.case.scenario}" == case
    assert (named["type"], named["count"]) == instance
    assert (record.device["chip"], record.device["chips"]) == chip
    assert (record.work["precision_class"], record.work["sequence"]) == (precision_class, sequence)
    assert value(row_id, metric) == number


def test_sizes_of_our_own_workloads_are_ours_and_others_are_called_published() -> None:
    for record in RECORDS:
        case = record.case
        assert case.size == "published" or case.size in load_workload(case.workload).sizes, record.run_id


# -- units


def test_a_mean_latency_is_no_throughput() -> None:
    assert value("hf-encoder-020", "latency_ms_mean") == 2.398
    assert value("hf-encoder-020", "latency_ms_p95") == 2.417
    rate = BY_ID["hf-encoder-020"].metric("samples_per_second")
    assert rate
    assert rate.value is None
    assert "one query at a time" in str(rate.reason)


def test_a_generation_time_gives_latency_and_one_item_a_generation_where_nothing_is_idle() -> None:
    assert value("thirdparty-diffusion-001", "latency_ms") == pytest.approx(18320)  # 18.32 s
    assert value("thirdparty-diffusion-001", "samples_per_second") == pytest.approx(0.0545852)  # 1 / 18.32
    rate = BY_ID["nxdi-contrib-017"].metric("samples_per_second")  # one of a chip's four logical cores
    assert rate
    assert rate.value is None
    assert rate.reason


def test_a_time_to_train_is_in_seconds() -> None:
    assert value("mlperf-train-v3.1-001", "time_to_train_s") == pytest.approx(328.14)  # 5.469 min x 60
    assert BY_ID["mlperf-train-v3.1-001"].work["item"] == "run"


def test_energy_is_per_output_token() -> None:
    record = BY_ID["ml-energy-027"]
    assert value("ml-energy-027", "joules_per_token") == 0.1651
    assert record.work["item_definition"] == "output tokens"
    assert record.metric("tokens_per_second") is None


def test_tokens_of_prompt_and_answer_are_not_output_tokens() -> None:
    assert BY_ID["neuron-inf2-037"].work["item_definition"] == "prompt and output tokens"
    assert BY_ID["neuron-inf2-034"].work["item_definition"] == "output tokens"
    both = one("neuron-inf2-034"), one("neuron-inf2-034", unit="total_tokens/s")
    assert unlike(*both) == ["what is counted differs: output tokens against prompt and output tokens"]


def test_what_a_latency_is_of_is_part_of_its_name() -> None:
    assert value("neuron-inf2-002", "latency_ms_p50") == 5.974  # of a batch
    assert value("neuron-trn2-001", "tpot_ms_p50") == 19.66  # of an output token
    assert value("ml-energy-026", "itl_ms_p99") == 18.416  # gaps between tokens
    assert value("hf-tgi-sagemaker-006", "ntpot_ms_p50") == 59.799  # end to end over output tokens
    assert value("neuron-inf2-037", "total_token_ms_p50") == 8.97  # of a token, those of the prompt counted
    assert value("neuron-inf2-018", "ttft_ms_p50") == 823.53
    assert value("neuron-inf2-018", "ttft_ms_p99") == 832.84
    assert value("optimum-neuron-002", "ttft_ms_mean") == 1253.8
    assert value("optimum-neuron-002", "itl_ms_mean") == 44.464


def test_a_derived_throughput_keeps_its_tier_and_says_so() -> None:
    record = BY_ID["trt-demobert-003"]
    assert record.tier == "vendor"
    assert value(record.run_id, "latency_ms_mean") == 13.97  # 32 / 0.01397 s = 2290.6 samples/s
    assert any("derived and not published as such" in text for text in record.warnings)
    derived = [row["id"] for row in ROWS if row["metric"] == "throughput_derived"]
    assert len(derived) >= 49
    assert all(any("derived" in text for text in BY_ID[row_id].warnings) for row_id in derived)


def test_no_number_is_made_from_a_published_cost() -> None:
    record = BY_ID["neuron-inf1-002"]
    assert record.source["cost"] == "0.026 USD per 1M inferences"
    assert record.source["usd_per_hour"] == "0.11"
    assert not any("usd" in metric.name for r in RECORDS for metric in r.metrics)


# -- who says so


@pytest.mark.parametrize(("publisher", "tier"), [
    ("AWS Neuron docs", "vendor"), ("AWS Neuron release notes", "vendor"), ("AWS Neuron NxDI contrib", "vendor"),
    ("NVIDIA TensorRT demoBERT", "vendor"), ("NVIDIA TensorRT-LLM docs", "vendor"),
    ("NVIDIA DeepLearningExamples", "vendor"), ("Google MaxText", "vendor"),
    ("MLCommons, submitted by NVIDIA", "published"), ("MLCommons, submitted by Nebius", "published"),
    ("Hugging Face optimum-neuron", "published"), ("ML.ENERGY leaderboard", "published"), ("Somebody", None)])
def test_who_sells_a_chip_is_a_vendor_and_others_are_not(publisher: str, tier: str | None) -> None:
    assert tier_of(publisher) == tier


def test_a_vendors_figure_of_a_rivals_chip_is_a_vendors_too() -> None:
    record = BY_ID["nxdi-contrib-006"]
    assert (record.device["chip"], record.tier) == ("a10g", "vendor")


# -- what was run on


@pytest.mark.parametrize(("row_id", "why"), [
    ("trt-demobert-001", "names 1 GPU and no instance"), ("hf-tgi-sagemaker-005", "SageMaker"),
    ("nvidia-dle-002", "bought and not rented"), ("mlperf-inf-v3.0-001", "submitter's own system"),
    ("mlperf-inf-v4.1-030", "TPU slice"), ("maxtext-001", "names 256 chips and no instance"),
    ("mlperf-train-v5.1-007", "Oracle")])
def test_a_result_without_an_instance_says_why(row_id: str, why: str) -> None:
    instance = BY_ID[row_id].machine["instance"]
    assert (instance["type"], instance["count"], instance["provider"]) == (None, None, None)
    assert why in instance["reason"]


def test_every_result_names_an_instance_or_says_why_not_and_counts_the_chips_in_use() -> None:
    for record in RECORDS:
        instance = record.machine["instance"]
        assert bool(instance["type"]) != bool(instance["reason"])
    used = {record.run_id: record.device["chips"] for record in RECORDS}
    assert used["neuron-inf2-037"] == 4  # 8 NeuronCores of 2 a chip are busy, of the instance's 6 chips
    assert used["hf-encoder-001"] is None  # 8 vCPUs: a share of a CPU


def test_an_a10_is_no_a10g_and_an_a100_of_unknown_memory_is_neither_kind() -> None:
    assert BY_ID["mlperf-inf-v1.1-003"].device["chip"] == "a10"
    assert "A10 is not the A10G of g5 instances" in BY_ID["mlperf-inf-v1.1-003"].warnings
    assert BY_ID["tensorrt-llm-035"].device["chip"] not in ("a100-40gb", "a100-80gb")


# -- precision


def test_every_precision_that_occurs_has_a_number_format_and_a_class() -> None:
    known = (*DTYPES, *PUBLISHED_DTYPES)
    for text, (dtype, group) in PRECISIONS.items():
        assert dtype in known or dtype == "unstated", text
        assert group == PRECISION_CLASSES.get(dtype) or (dtype == "unstated" and text), text


def test_a_float32_model_is_of_16_bit_on_inferentia1_and_of_32_bit_elsewhere() -> None:
    assert BY_ID["neuron-inf1-002"].work["precision_class"] == "16-bit"
    assert BY_ID["neuron-trn1-039"].work["precision_class"] == "fp32"
    assert BY_ID["hf-encoder-008"].work["precision_class"] == "fp32"


def test_weights_of_fewer_bits_count_as_theirs_and_say_so() -> None:
    record = BY_ID["neuron-inf2-018"]
    assert record.work["precision_class"] == "int8"
    assert any("held as int8" in text for text in record.warnings)
    assert BY_ID["neuron-trn2-004"].work["precision_class"] == "fp8"
    assert BY_ID["neuron-trn2-007"].work["precision_class"] == "16-bit"  # dequantised before it is multiplied


def test_a_number_format_that_is_published_only_can_be_in_a_case_but_is_never_offered() -> None:
    assert Case(workload="bert", size="base", task="inference", scenario="offline", backend="published",
                dtype="int8", batch_size=1).dtype == "int8"
    with pytest.raises(BenchError) as caught:
        dataclasses.replace(make_record().case, dtype="int9")
    assert "int8" not in caught.value.fix
    assert not set(DTYPES) & set(PUBLISHED_DTYPES)


# -- traps


def test_replicas_that_run_beside_one_another_are_no_single_stream_but_their_latency_is() -> None:
    """1998.2 samples/s x 0.999 ms / batch 1 = 2.0 queries in flight; 125.7 x 7.9 ms = 0.99."""
    two, single = BY_ID["neuron-inf2-009"], BY_ID["neuron-inf1-009"]
    assert (two.work["streams"], single.work["streams"]) == (2, 1)
    assert any("queries run at a time" in text for text in two.warnings)
    assert unlike(two, single) == ["queries in flight differs: 2 against 1"]
    assert unlike(two, single, ignore=("streams",)) == []
    assert unlike(two, BY_ID["trt-demobert-001"]) == ["queries in flight differs: 2 against 1"]


def test_the_queries_in_flight_are_those_of_littles_law() -> None:
    checked = 0
    for record in RECORDS:
        latency = record.metric("latency_ms_p50")
        rate = record.metric(f"{record.work['item']}s_per_second")
        if record.case.scenario == "single-stream" and latency and latency.value and rate and rate.value:
            assert record.work["streams"] == round(rate.value * latency.value / 1e3), record.run_id
            checked += 1
    assert checked > 20


def test_a_batch_above_one_is_offline_although_labelled_real_time() -> None:
    record = BY_ID["neuron-inf1-010"]
    assert (record.case.scenario, record.case.batch_size) == ("offline", 3)
    assert any("labelled Real Time" in text for text in record.warnings)
    assert all(r.case.batch_size == 1 for r in RECORDS if r.case.scenario == "single-stream")


def test_whisper_counts_tokens() -> None:
    record = BY_ID["mlperf-inf-v5.1-007"]
    assert record.work["item"] == "token"
    assert any("labels them samples/s" in text for text in record.warnings)


def test_images_of_20_denoising_steps_are_not_those_of_50() -> None:
    neuron, mlperf = BY_ID["neuron-inf2-052"], BY_ID["mlperf-inf-v5.1-019"]
    assert "sequence differs: 1024x1024 steps=50 against 1024x1024 steps=20" in unlike(neuron, mlperf)
    assert BY_ID["neuron-inf2-054"].work["sequence"] is None  # the number of steps is not in the table
    assert "sequence is not stated of neuron-inf2-054" in unlike(BY_ID["neuron-inf2-054"], neuron)


def test_a_measurement_file_that_says_fp16_of_an_fp8_run_is_pointed_out() -> None:
    record = BY_ID["mlperf-inf-v4.1-011"]
    assert record.work["precision_class"] == "fp8"
    assert any("says fp16" in text for text in record.warnings)
    assert BY_ID["mlperf-inf-v4.1-025"].work["precision_class"] is None


def test_copies_that_were_left_out_are_pointed_out() -> None:
    rows = [record for record in RECORDS if record.run_id.startswith("trt-demobert")]
    assert len(rows) >= 43
    assert all(any("copies from and to the host are left out" in text for text in r.warnings) for r in rows)


def test_speculative_decoding_matches_none_that_runs_plain() -> None:
    plain, drafted = BY_ID["neuron-trn2-001"], BY_ID["neuron-trn2-002"]
    assert unlike(plain, drafted) == ["speculative decoding differs: none against Llama-3.2-1B draft"]


def test_mlperfs_bert_training_is_another_job_than_phase_1() -> None:
    assert "workload differs: bert-large-mlperf against bert" in unlike(BY_ID["mlperf-train-v3.1-001"],
                                                                        BY_ID["nvidia-dle-002"])


def test_a_baseline_that_should_be_none_says_so() -> None:
    assert any("no baseline" in text for text in BY_ID["nxdi-contrib-026"].warnings)
    assert any("weak baseline" in text for text in BY_ID["hf-encoder-008"].warnings)


# -- alike


@pytest.mark.parametrize(("a", "b"), [
    ("neuron-inf1-002", "trt-demobert-003"),  # BERT-base, 128 tokens, 16 bit, each at its own batch
    ("neuron-inf2-002", "trt-demobert-012"),
    ("neuron-inf2-003", "trt-demobert-006"),
    ("neuron-trn1-040", "nvidia-dle-002"),  # phase-1 pre-training, a node each
    ("neuron-trn1-038", "nvidia-dle-006"),  # 16 nodes each
    ("thirdparty-seedoss-011", "thirdparty-seedoss-009"),  # 40 requests at a time on both
    ("optimum-neuron-002", "optimum-neuron-020"),
    ("mlperf-inf-v6.0-001", "mlperf-inf-v6.0-013"),
    ("mlperf-inf-v5.1-002", "mlperf-inf-v6.0-004"),
    ("neuron-trn1-042", "maxtext-002"),
])
def test_results_that_may_be_held_against_each_other(a: str, b: str) -> None:
    assert unlike(BY_ID[a], BY_ID[b]) == unlike(BY_ID[b], BY_ID[a]) == []


@pytest.mark.parametrize(("a", "b", "reasons"), [
    ("neuron-inf1-002", "trt-demobert-007", ["precision class differs: 16-bit against int8"]),
    ("mlperf-inf-v2.0-001", "mlperf-inf-v3.0-001", ["precision class differs: 16-bit against int8"]),
    ("mlperf-inf-v2.0-003", "neuron-inf1-016", ["quality target differs: 99 % against none"]),
    ("mlperf-inf-v2.0-001", "mlperf-inf-v3.0-012", ["quality target differs: 99 % against 99.9 %"]),
    ("mlperf-inf-v3.0-012", "trt-demobert-009",
     ["sequence differs: 384 max against 384", "quality target differs: 99.9 % against none"]),
    ("hf-encoder-020", "hf-encoder-008", ["precision class is not stated of hf-encoder-020"]),
    ("hf-encoder-020", "hf-encoder-015", ["precision class is not stated of hf-encoder-020 and hf-encoder-015"]),
    ("thirdparty-seedoss-011", "thirdparty-seedoss-005", ["requests at a time differs: 40 against 20"]),
    ("tensorrt-llm-006", "tensorrt-llm-008", ["sequence differs: 2048/128 against 2048/2048"]),
    ("tensorrt-llm-035", "tensorrt-llm-036", ["sequence differs: 128/128 against 128/2048"]),
    ("neuron-inf2-018", "tensorrt-llm-008",
     ["precision class differs: int8 against fp8", "batching differs: static against continuous"]),
    ("neuron-trn1-040", "neuron-trn1-050", ["sequence is not stated of neuron-trn1-050"]),
    ("neuron-inf2-002", "neuron-inf2-003", ["size differs: base against large"]),
    ("optimum-neuron-002", "ml-energy-026",
     ["scenario differs: offline against server", "sequence differs: 1500/250 against ML.ENERGY chat"]),
])
def test_results_that_may_not_say_why(a: str, b: str, reasons: list[str]) -> None:
    assert unlike(BY_ID[a], BY_ID[b]) == reasons


def measured(**case: Any) -> Record:
    return make_record(case=case, item="token" if case.get("scenario") == "generation" else "sample")


def test_a_measured_record_is_held_against_published_ones() -> None:
    mine = measured()  # BERT-base, bf16, 128 tokens, batch 8
    assert unlike(mine, BY_ID["neuron-inf2-002"]) == []
    assert unlike(mine, BY_ID["trt-demobert-007"]) == ["precision class differs: 16-bit against int8"]
    assert unlike(measured(dtype="fp32"), BY_ID["neuron-inf2-002"]) == ["precision class differs: fp32 against 16-bit"]
    assert unlike(measured(seq_len=64), BY_ID["neuron-inf2-002"]) == ["sequence differs: 64 against 128"]
    assert unlike(measured(dtype="unstated"), BY_ID["neuron-inf2-002"]) == [
        f"precision class is not stated of {mine.run_id}"]


def llama(size: str, batch_size: int, prompt: int = 2048, new: int = 2048) -> Record:
    return measured(workload="llama", size=size, scenario="generation", batch_size=batch_size, seq_len=prompt,
                    options={"new_tokens": new})


def test_generation_of_one_sequence_is_a_single_stream_and_of_several_a_static_batch() -> None:
    assert likeness(llama("70b", 1)).scenario == "single-stream"
    assert likeness(llama("70b", 4)).scenario == "offline"
    assert unlike(llama("70b", 1), BY_ID["neuron-trn1-031"]) == []
    assert unlike(llama("70b", 4), BY_ID["neuron-trn1-018"]) == []
    assert unlike(llama("70b", 4), BY_ID["neuron-trn1-031"]) == ["scenario differs: offline against single-stream"]
    assert unlike(llama("8b", 8), BY_ID["tensorrt-llm-008"]) == [
        "precision class differs: 16-bit against fp8", "batching differs: static against continuous"]
    assert unlike(llama("8b", 8, 512, 128), BY_ID["neuron-trn2-009"]) == ["scenario differs: offline against server"]


def test_a_server_under_mlperfs_rules_matches_such_servers_alone() -> None:
    mlperf, driven = BY_ID["mlperf-inf-v6.0-006"], BY_ID["ml-energy-026"]
    assert "batching is not stated of ml-energy-026" in unlike(mlperf, driven)
    assert "batching is not stated of ml-energy-026" in unlike(driven, mlperf)


def test_what_is_ignored_knowingly_is_no_reason() -> None:
    assert unlike(BY_ID["neuron-inf1-002"], BY_ID["trt-demobert-007"], ignore=("precision_class",)) == []


def test_alike_records_have_no_reason_exactly_when_their_likeness_agrees() -> None:
    """The same decision by another road: over all offline encoder results, equal likeness but for the batch."""
    rows = [r for r in RECORDS if r.case.workload in ("bert", "resnet50", "vit") and r.case.scenario == "offline"]

    def key(record: Record) -> object:
        return dataclasses.replace(likeness(record), batch_size=None, batching=None)

    for a in rows:
        for b in rows:
            stated = likeness(a).precision_class and likeness(b).precision_class
            known = "unstated" not in (likeness(a).sequence, likeness(b).sequence)
            assert (not unlike(a, b)) == bool(stated and known and key(a) == key(b)), (a.run_id, b.run_id)


# -- bad rows


@pytest.mark.parametrize(("row_id", "cells", "column", "what"), [
    ("neuron-inf1-002", {"publisher": "Somebody"}, "publisher", "does it sell a chip"),
    ("neuron-inf1-002", {"precision": "FP17 model"}, "precision", "not known"),
    ("neuron-inf2-002", {"precision": "FP32 model"}, "precision", "not known"),
    ("neuron-inf1-002", {"chip": "Inferentia9"}, "chip", "no chip of the name"),
    ("neuron-inf1-002", {"value": "0"}, "value", "above 0"),
    ("neuron-inf1-002", {"value": "nan"}, "value", "above 0"),
    ("neuron-inf1-002", {"value": "1,180"}, "value", "above 0"),
    ("neuron-inf1-002", {"unit": "ms"}, "unit", "not known"),
    ("neuron-inf1-002", {"unit": "images/s"}, "item", "counts images"),
    ("neuron-inf2-034", {"unit": "tokens/s"}, "unit", "tokens/s in inference"),
    ("neuron-trn1-042", {"unit": "output_tokens/s", "task": "inference", "metric": "made_up"}, "metric", "not known"),
    ("neuron-inf1-002", {"scenario": "single_stream"}, "scenario", "single-stream"),
    ("neuron-inf1-002", {"latency_of": ""}, "latency_of", "although a latency is given"),
    ("neuron-inf1-002", {"instance": ""}, "no_instance", "one of the two"),
    ("neuron-inf1-002", {"no_instance": "names none"}, "no_instance", "one of the two"),
    ("neuron-inf1-002", {"url": "javascript:alert(1)"}, "url", "https://"),
    ("neuron-inf1-002", {"date": "2024-13"}, "date", "must be a day"),
    ("neuron-inf1-002", {"chips": "1.5"}, "chips", "whole number"),
])
def test_a_bad_cell_is_named_by_file_line_row_and_column(row_id: str, cells: dict[str, str], column: str,
                                                          what: str) -> None:
    with pytest.raises(BenchError) as caught:
        load_published(text_with(row_id, **cells), "mine.csv")
    assert f"mine.csv line 2 ({row_id}), {column}: " in caught.value.what
    assert what in str(caught.value)


def test_a_row_that_stands_twice_is_an_error() -> None:
    text = text_with("neuron-inf1-002")
    with pytest.raises(BenchError, match="both neuron-inf1-002"):
        load_published(text + text.splitlines()[1] + "\n", "mine.csv")


def test_dates_are_as_exact_as_published_and_count_from_their_first_day() -> None:
    record = BY_ID["neuron-inf2-018"]
    assert (record.source["date"], record.started_at) == ("2024-04", "2024-04-01T00:00:00Z")


# -- speed


def test_all_results_are_read_in_under_150_ms_and_without_pandas() -> None:
    text, seconds = shipped(FILE), []
    for _ in range(5):
        start = time.process_time()
        load_published(text, FILE)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.15
    code = "import sys, bench.catalog.published as p; p.published_records(); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
