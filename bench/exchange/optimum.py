"""Reports of optimum-benchmark 0.5 and 0.6: `benchmark.json` (configuration and report) or the report alone.

Source: the package's own scenarios and trackers (0.6.0), read 2026-11. Latencies are lists in s, one
process after the other; memory is in MB of 10^6 bytes; energy in kWh. Three of its numbers are not
what they are called, so that rates are recomputed from latencies and counts:
* `generate` throughput is of new tokens less one where each token is timed, though its unit says samples;
* `train` throughput is all samples of all steps over the mean of one step;
* `per_token` latencies of several runs hold the pauses between runs too: their count gives it away.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.case import Scalar
from bench.exchange.foreign import Result, Unusable, documents, number, percentiles_of, unknown
from bench.record import Metric

TARGETS = ("forward", "generate", "train", "call")
"""What is timed at the end: one of these is in each report that has a result."""
OPTIONS = ("name", "device", "torch_compile", "attn_implementation")
"""Settings of a backend that make it another case."""
KWH_JOULES = 3.6e6
DEFAULT_NEW_TOKENS = 100
"""Of the inference scenario, where the configuration names none (0.5 and 0.6)."""


@dataclass(frozen=True, slots=True)
class _Report:
    """A report with its configuration, {} where the file has none."""

    targets: Mapping[str, Any]
    backend: Mapping[str, Any]
    scenario: Mapping[str, Any]
    launcher: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def processes(self) -> int | None:
        """How many processes were measured; None where the report stands alone."""
        return int(self.launcher.get("nproc_per_node") or 1) if self.launcher else None

    @property
    def batch(self) -> int | None:
        """Samples of a call, as configured."""
        shapes = self.scenario.get("input_shapes") or {}
        return int(number(shapes["batch_size"], "batch_size")) if "batch_size" in shapes else None


def results(text: str, name: str) -> Iterator[Result | str]:
    """Yield the result of a report, or why there is none."""
    (document,) = documents(text)
    if not isinstance(document, dict):
        raise Unusable("it is no JSON object")
    config = _dict(document, "config")
    targets = document["report"] if isinstance(document.get("report"), dict) else document
    report = _Report(targets, *(_dict(config, key) for key in ("backend", "scenario", "launcher", "environment")))
    target = next((name for name in TARGETS if _times(report, name)), None)
    if target is None:
        raise Unusable(f"it holds latencies of none of {', '.join(TARGETS)}")
    make = {"forward": _forward, "generate": _generate, "train": _train, "call": _call}[target]
    yield _described(make(report, document), report)


def _forward(report: _Report, entry: Any) -> Result:
    """One call after the other: offline, or a single stream where a call is one sample."""
    task = str(report.backend.get("task") or "")
    item = "image" if "image" in task else "sample"
    times = _times(report, "forward")
    batch = _forward_batch(report)
    plain = _result(entry, item=item, scenario="single-stream" if batch == 1 else "offline", batch=batch)
    found = _rates(item, times, batch, report)
    if batch == 1:
        found += percentiles_of("latency_ms", [s * 1e3 for s in times], "the file's latencies of one process")
    return replace(plain, metrics=(*found, *_energy(report, "forward", item, batch)), memory=_memory(report, "forward"),
                   samples=_samples(times), sequence=_shape(report, "sequence_length"), sequenced=item == "sample")


def _generate(report: _Report, entry: Any) -> Result:
    """Text generation. Time to first token is the prefill's; the decode's are all further tokens."""
    times, prefill, decode = (_times(report, name) for name in ("generate", "prefill", "decode"))
    batch = report.batch or _volume(report, "prefill")
    new = _new_tokens(report, batch)
    items = batch * new if batch and new else None
    found = _rates("token", times, items, report)
    found += percentiles_of("ttft_ms", [s * 1e3 for s in prefill], "prefill: until the first token's logits")
    if decode and new and new > 1:
        found.append(Metric(name="tpot_ms_p50", value=statistics.median(decode) * 1e3 / (new - 1), unit="ms",
                            n=len(decode), method="median decode latency / (new tokens - 1)"))
    else:
        found.append(unknown("tpot_ms_p50", "ms", "the number of new tokens is not known" if not new or not decode
                             else "one output token has no time per further token"))
    gaps, why = _gaps(report, len(times), new)
    found += percentiles_of("itl_ms", [s * 1e3 for s in gaps], "the file's latencies per token") if not why else [
        unknown(f"itl_ms_{label}", "ms", why) for label in ("p50", "p99")]
    series = {"ttft": [_ns(prefill)], "itl": [_ns(gaps)]} if prefill and not why else {}
    prompt = _shape(report, "sequence_length")
    return replace(
        _result(entry, item="token", scenario="generation", batch=batch, items=items),
        item_definition="output tokens", batching="static", samples=_samples(times, series),
        metrics=(*found, *_energy(report, "generate", "token", items)), memory=_memory(report, "decode", "generate"),
        sequence=f"{prompt}/{new}" if prompt and new else None, options={"new_tokens": new} if new else {})


def _train(report: _Report, entry: Any) -> Result:
    """Steps after the warm-up. Each process has its own batch; the file puts all processes' steps in one list."""
    times = _times(report, "train")
    settings = _dict(report.scenario, "training_arguments")
    each = settings.get("per_device_train_batch_size")
    times_each = int(settings.get("gradient_accumulation_steps") or 1) * (report.processes or 1)
    batch = int(each) * times_each if each else None
    found = _step_rates("sample", times, batch, "the report alone does not say the batch size")
    return replace(_result(entry, item="sample", scenario="training", batch=batch), task="training",
                   metrics=tuple(found), samples=_samples(times), memory=_memory(report, "train"),
                   sequence=_shape(report, "sequence_length", "dataset_shapes"))


def _call(report: _Report, entry: Any) -> Result:
    """Image diffusion: one call makes a whole image, of so many denoising steps."""
    times, settings = _times(report, "call"), _dict(report.scenario, "call_kwargs")
    batch, each = report.batch, settings.get("num_images_per_prompt") or 1
    images = batch * int(each) if batch else _volume(report, "call")
    steps = settings.get("num_inference_steps") or (30 if report.scenario else None)
    return replace(_result(entry, item="image", scenario="single-stream" if images == 1 else "offline", batch=images),
                   metrics=(*_rates("image", times, images, report), *_energy(report, "call", "image", images)),
                   samples=_samples(times), memory=_memory(report, "call"),
                   sequence=f"steps={steps}" if steps else None)


def _result(entry: Any, *, item: str, scenario: str, batch: int | None, items: int | None = None) -> Result:
    return Result(tool="optimum-benchmark", publisher="optimum-benchmark report", entry=entry, model="unnamed model",
                  scenario=scenario, metrics=(), item=item, batch_size=batch, items_per_step=items or batch)


def _described(result: Result, report: _Report) -> Result:
    """With what the configuration says of model, number format, device and versions."""
    backend, environment = report.backend, report.environment
    device = str(backend.get("device") or "")
    gpus = environment.get("gpu") if device == "cuda" else None
    name = gpus[0] if isinstance(gpus, list) and gpus else None
    used = str(backend.get("device_ids") or "")
    chips = len(used.split(",")) if used else None
    precision, dtype, warning = _precision(backend)
    versions = {key.removesuffix("_version"): value for key, value in environment.items()
                if key in ("optimum_benchmark_version", "transformers_version") and isinstance(value, str)}
    versions |= {str(backend["name"]): backend["version"]} if backend.get("name") and backend.get("version") else {}
    options: dict[str, Scalar] = {key: backend[key] for key in OPTIONS if isinstance(backend.get(key), (str, bool))}
    return replace(
        result, model=str(backend.get("model") or "unnamed model"), version=versions.get("optimum_benchmark"),
        software=", ".join(f"{name} {version}" for name, version in versions.items()) or None,
        chip_name=name, chips=chips if name else None, precision=precision, dtype=dtype,
        options=dict(result.options) | options,
        warnings=(*result.warnings, *([warning] if warning else []),
                  *(["the report alone says nothing of model, batch size, number format and processes"]
                    if not backend else [])))


def _precision(backend: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """The configured number format as text and as ours, and a warning where the two part."""
    cast, kept = backend.get("autocast_dtype"), backend.get("torch_dtype")
    quantised = backend.get("quantization_config") or {}
    if quantised:
        return f"quantised: {quantised.get('quant_method') or quantised}", None, None
    if backend.get("autocast_enabled"):
        if backend.get("device") == "cpu":
            warning = "autocast was asked for on the CPU, where optimum-benchmark does not apply it"
            return f"autocast {cast}", None, warning
        return f"autocast {cast}", {"bfloat16": "amp-bf16", "float16": "amp-fp16"}.get(str(cast)), None
    if kept == "float32" and backend.get("allow_tf32"):
        return "float32, TF32 allowed", "tf32", None
    return (kept, None, None) if kept != "auto" else ("auto", None, None)


def _rates(item: str, times: Sequence[float], items: int | None, report: _Report) -> list[Metric]:
    """Throughput of calls; none where several processes were averaged, as that is no system's sum."""
    if report.processes and report.processes > 1:
        reason = f"{report.processes} processes: the file keeps their calls in one list and averages their rates"
        return [unknown(f"{item}s_per_second", f"{item}s/s", reason), _step_time(times)]
    return _step_rates(item, times, items, "how many are in a call is not known: the report stands alone")


def _step_rates(item: str, times: Sequence[float], items: int | None, missing: str) -> list[Metric]:
    """As of our own records: of the median step, and sustained over all of them."""
    unit = f"{item}s/s"
    if items is None:
        return [unknown(f"{item}s_per_second", unit, missing), _step_time(times)]
    return [Metric(name=f"{item}s_per_second", value=items / statistics.median(times), unit=unit, n=len(times),
                   method=f"{items} {item}s over the median of the file's latencies"),
            Metric(name=f"{item}s_per_second_sustained", value=items * len(times) / sum(times), unit=unit, n=len(times),
                   method="all items over all timed seconds"), _step_time(times)]


def _step_time(times: Sequence[float]) -> Metric:
    return Metric(name="step_time_ms", value=statistics.median(times) * 1e3, unit="ms", n=len(times),
                  method="median of the file's latencies")


def _gaps(report: _Report, runs: int, new: int | None) -> tuple[list[float], str | None]:
    """Latencies per token, or why they cannot be used."""
    gaps = _times(report, "per_token")
    if not gaps:
        return [], "the file has no latencies per token"
    if not new:
        return [], "the number of new tokens is not known"
    if len(gaps) != runs * (new - 1):
        return [], (f"{len(gaps)} latencies per token for {runs} runs of {new - 1} further tokens: "
                    "pauses between runs are among them")
    return gaps, None


def _new_tokens(report: _Report, batch: int | None) -> int | None:
    """New tokens of a generation: configured, or from the decode's rate, which counts all but the first."""
    settings = _dict(report.scenario, "generate_kwargs")
    stated = report.scenario.get("new_tokens") or settings.get("max_new_tokens")
    if stated:
        return int(number(stated, "new_tokens"))
    if report.scenario:
        return DEFAULT_NEW_TOKENS
    further = _volume(report, "decode")
    return further // batch + 1 if further and batch and further % batch == 0 else None


def _forward_batch(report: _Report) -> int | None:
    return report.batch or (2 if report.scenario else _volume(report, "forward"))  # 2: its default


def _volume(report: _Report, target: str) -> int | None:
    """Items of a call, from the file's rate x mean latency, where that is a whole number."""
    throughput, latency = (_dict(_dict(report.targets, target), key) for key in ("throughput", "latency"))
    if not throughput.get("value") or not latency.get("mean"):
        return None
    volume = number(throughput["value"], "throughput") * number(latency["mean"], "mean latency")
    return round(volume) if volume >= 0.5 and math.isclose(volume, round(volume), rel_tol=1e-6) else None


def _times(report: _Report, target: str) -> list[float]:
    """A target's latencies in s; none where it has none. Unusable for another unit, or a latency of 0."""
    latency = _dict(_dict(report.targets, target), "latency")
    values = latency.get("values") or []
    if values and latency.get("unit") != "s":
        raise Unusable(f"the latencies of {target} are in {latency.get('unit')!r}, not s")
    times = [number(value, f"a latency of {target}") for value in values]
    if times and min(times) <= 0:
        raise Unusable(f"a latency of {target} is 0 s")
    return times


def _memory(report: _Report, *targets: str) -> dict[str, Any]:
    """Peak bytes: what torch allocated on the device, or resident memory on a CPU. MB are 10^6 bytes."""
    found = next((found for target in targets if (found := _dict(_dict(report.targets, target), "memory"))), {})
    kind = "max_ram" if report.backend.get("device") == "cpu" else "max_allocated"
    value = found.get(kind)
    if value is None or found.get("unit") != "MB":
        return {"peak_bytes": None, "method": "not in the file"}
    return {"peak_bytes": number(value, kind) * 1e6, "method": f"optimum-benchmark's {kind}"}


def _energy(report: _Report, target: str, item: str, items: int | None) -> list[Metric]:
    """Joules an item, from kWh a call of CPU, RAM and GPU together (codecarbon)."""
    energy = _dict(_dict(report.targets, target), "energy")
    if energy.get("unit") != "kWh" or not items or energy.get("total") is None:
        return []
    return [Metric(name=f"joules_per_{item}", value=number(energy["total"], "energy") * KWH_JOULES / items, unit="J",
                   method="codecarbon: CPU, RAM and GPU of the whole machine")]


def _samples(times: Sequence[float], series: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"unit": "ns", "steps_per_round": [1], "children": [_ns(times)], "series": dict(series or {})}


def _ns(times: Sequence[float]) -> list[int]:
    return [round(seconds * 1e9) for seconds in times]


def _shape(report: _Report, name: str, shapes: str = "input_shapes") -> str | None:
    value = _dict(report.scenario, shapes).get(name)
    return str(int(number(value, name))) if value is not None else None


def _dict(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part of a document that is an object; {} where there is none or it is something else."""
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}
