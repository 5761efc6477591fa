"""Result files of other tools, made to measure: what importers are fed with where a real one would not do."""

from __future__ import annotations

import csv
import io
from typing import Any


def vllm_result(*, requests: int = 700, failed: int = 0, prompt: int = 1024, tokens: int = 100, ttft_ms: float = 1000,
                gap_ms: float = 20, seconds: float = 100, detailed: bool = False, chunk: int = 1,
                **changes: Any) -> dict[str, Any]:
    """What `vllm bench serve --save-result` writes of requests that are all alike.

    `chunk`: tokens that arrive together after the first one (speculative decoding).
    """
    e2e_ms = ttft_ms + (tokens - 1) * gap_ms
    gaps = [gap_ms * chunk / 1e3] * ((tokens - 1) // chunk)
    latencies = {f"{said}_{name}_ms": ms if said != "std" else 0.0
                 for name, ms in (("ttft", ttft_ms), ("tpot", gap_ms), ("itl", gap_ms * chunk), ("e2el", e2e_ms))
                 for said in ("mean", "median", "std", "p99")}
    lists = {"input_lens": [prompt] * (requests + failed), "output_lens": [tokens] * requests + [0] * failed,
             "ttfts": [ttft_ms / 1e3] * requests + [0.0] * failed, "itls": [gaps] * requests + [[]] * failed,
             "latencies": [e2e_ms / 1e3] * requests + [0.0] * failed,
             "errors": [""] * requests + ["refused"] * failed}
    return {
        "date": "20250601-103000", "endpoint_type": "vllm", "backend": "vllm", "label": None,
        "model_id": "meta-llama/Llama-3.1-8B-Instruct", "tokenizer_id": "meta-llama/Llama-3.1-8B-Instruct",
        "num_prompts": requests + failed, "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 32,
        "duration": seconds, "completed": requests, "failed": failed, "total_input_tokens": requests * prompt,
        "total_output_tokens": requests * tokens, "request_throughput": requests / seconds, "request_goodput": None,
        "output_throughput": requests * tokens / seconds,
        "total_token_throughput": requests * (prompt + tokens) / seconds,
    } | latencies | (lists if detailed else {}) | changes


def _latency(values: list[float]) -> dict[str, Any]:
    mean = sum(values) / len(values)
    return {"unit": "s", "values": values, "count": len(values), "total": sum(values), "mean": mean, "p50": mean}


def optimum_report(kind: str) -> dict[str, Any]:
    """What optimum-benchmark 0.6 saves as `benchmark.json`: a forward pass, a generation or a training.

    Its rates are as it computes them: of a generation, tokens less one over the whole latency, called
    samples; of training, all samples over the mean of one step.
    """
    scenario: dict[str, Any] = {"name": "inference", "input_shapes": {"batch_size": 8, "sequence_length": 128}}
    if kind == "forward":
        report = {"load_model": {"latency": _latency([3.0])}, "forward": {
            "latency": _latency([0.1] * 8 + [0.4] * 2), "throughput": {"unit": "samples/s", "value": 8 / 0.16},
            "memory": {"unit": "MB", "max_ram": 1500.0, "max_allocated": None},
            "energy": {"unit": "kWh", "total": 1e-6}}}
    elif kind == "generate":
        scenario |= {"input_shapes": {"batch_size": 2, "sequence_length": 128},
                     "generate_kwargs": {"max_new_tokens": 5}}
        report = {
            "generate": {"latency": _latency([0.5] * 12), "throughput": {"unit": "samples/s", "value": 2 * 4 / 0.5}},
            "prefill": {"latency": _latency([0.1] * 12), "throughput": {"unit": "samples/s", "value": 2 / 0.1}},
            "decode": {"latency": _latency([0.4] * 12), "throughput": {"unit": "tokens/s", "value": 2 * 4 / 0.4}},
            "per_token": {"latency": _latency([0.1] * 48)}}
    else:
        scenario = {"name": "training", "dataset_shapes": {"sequence_length": 256},
                    "training_arguments": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}}
        report = {"train": {"latency": _latency([4.0] * 10), "throughput": {"unit": "samples/s", "value": 80 / 4.0}}}
    return {"report": report, "config": {
        "name": "b", "scenario": scenario, "launcher": {"name": "inline"},
        "backend": {"name": "pytorch", "version": "2.13.0", "model": "bert-base", "task": "feature-extraction",
                    "device": "cpu", "device_ids": None, "torch_dtype": "bfloat16", "autocast_enabled": False},
        "environment": {"optimum_benchmark_version": "0.6.0", "transformers_version": "4.57.6"}}}


def neuronperf_csv(**changes: str) -> str:
    """NeuronPerf's summary columns: a row of four models with two workers, with `changes`, and one of one with one."""
    row = {"throughput_avg": "1095.4", "latency_ms_p50": "58.3", "latency_ms_p99": "65.0", "n_models": "4",
           "pipeline_size": "1", "workers_per_model": "2", "batch_size": "8", "model_filename": "models/bert_b8.pt"}
    second = row | {"throughput_avg": "140.0", "latency_ms_p50": "57.0", "n_models": "1", "workers_per_model": "1"}
    return _csv([row | changes, second])


def mlperf_table(headings: str) -> str:
    """Two results of one system, as the submission checker ("checker") or the published table names columns."""
    offline = {
        "Organization": "Somebody", "Availability": "available", "Division": "closed", "SystemType": "edge",
        "SystemName": "Some server (2x L40S)", "Platform": "L40Sx2", "Model": "bert-99", "MlperfModel": "bert-99",
        "Scenario": "Offline", "Result": "6429.0", "Accuracy": "90.2", "number_of_nodes": "2",
        "accelerator_model_name": "NVIDIA L40S", "accelerators_per_node": "2",
        "Location": "closed/Somebody/results/L40Sx2/bert-99/Offline", "framework": "TensorRT 9.3.0", "notes": "",
        "errors": "0", "version": "v4.0", "has_power": "False", "Units": "Samples/s", "weight_data_types": "int8"}
    single = offline | {"Scenario": "SingleStream", "Result": "1.73", "Units": "Latency (ms)"}
    if headings == "checker":
        return _csv([offline, single])
    renamed = {"Organization": "Submitter", "Division": "Category", "SystemName": "System", "Model": "UsedModel",
               "MlperfModel": "Model", "number_of_nodes": "Nodes", "accelerator_model_name": "Accelerator",
               "accelerators_per_node": "a#", "framework": "Software", "Result": "Performance_Result",
               "Units": "Performance_Units"}
    return _csv([{renamed.get(key, key): value for key, value in row.items()} for row in (offline, single)])


def _csv(rows: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
