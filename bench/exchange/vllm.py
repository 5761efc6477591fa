"""Results of `vllm bench serve` (JSON, one document or one a line).

Source, read 2026-11: https://github.com/vllm-project/vllm, vllm/benchmarks/serve.py. Summaries are
in ms; with --save-detailed there are lists a request, in seconds: `ttfts`, `itls` (gaps between
chunks), `latencies`, and `output_lens` in tokens (0: failed). Its TPOT is (e2e - TTFT) /
(output tokens - 1), ours too; other tools write the same keys with e2e / output tokens, which holds
the first token as well: `tpot_definition` tells the two apart where the file has the parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bench.case import Scalar
from bench.exchange.foreign import (
    PERCENTILES,
    WRONG_SHAPE,
    Result,
    Unusable,
    documents,
    number,
    percentiles_of,
    stated_percentile,
    unknown,
    why,
)
from bench.record import Metric

AGREE = 0.01
"""Numbers that must be equal may differ by this much, as some tools round them."""
SLO_NAMES = {"ttft": "ttft_ms", "tpot": "tpot_ms", "e2el": "e2el_ms", "time_to_first_token": "ttft_ms",
             "inter_token_latency": "tpot_ms", "request_latency": "e2el_ms"}
"""Objectives of goodput by vLLM's short names and AIPerf's long ones, all in ms."""
OPTIONS = ("request_rate", "max_concurrency", "burstiness", "num_prompts", "endpoint_type")


def results(text: str, name: str) -> Iterator[Result | str]:
    """Yield a result, or why there is none, for each document of a file."""
    for place, document in enumerate(documents(text), start=1):
        try:
            yield _result(document)
        except WRONG_SHAPE as error:
            yield f"result {place}: {why(error)}"


def goodput_objectives(stated: Any) -> dict[str, float]:
    """Return objectives in ms by our names, from `{"ttft": 200}`, `["ttft:200"]` or "ttft:200 tpot:50".

    Unusable for a name that is neither a short nor a long one.
    """
    if isinstance(stated, Mapping):
        pairs = [(str(key), str(value)) for key, value in stated.items()]
    else:
        words = stated.replace(",", " ").split() if isinstance(stated, str) else [str(word) for word in stated]
        pairs = [(key, value) for key, _, value in (word.replace("=", ":").partition(":") for word in words)]
    found = {}
    for key, value in pairs:
        if key not in SLO_NAMES:
            raise Unusable(f"goodput objective {key!r} is none of {', '.join(SLO_NAMES)}")
        try:
            found[SLO_NAMES[key]] = number(float(value), key)
        except ValueError as error:
            raise Unusable(f"goodput objective {key!r} is {value!r}, not a number of ms") from error
    return found


def tpot_definition(tpot_ms: float, ttft_ms: float, e2e_ms: float, output_tokens: float) -> str | None:
    """Return which definition a mean TPOT follows: "without first token", "with first token", or None.

    Of a TTFT of 1 s, 100 tokens and 20 ms for each further one, the first is 1980 / 99 = 20.0 ms and the
    second 2980 / 100 = 29.8 ms. None: it is near neither (by 5 %), or both are too near each other to tell.
    """
    if output_tokens <= 1:
        return None
    without, with_first = (e2e_ms - ttft_ms) / (output_tokens - 1), e2e_ms / output_tokens
    near = [name for name, value in (("without first token", without), ("with first token", with_first))
            if math.isclose(tpot_ms, value, rel_tol=0.05)]
    return near[0] if len(near) == 1 else None


def _result(entry: Any) -> Result:
    if not isinstance(entry, dict):
        raise Unusable("it is no JSON object")
    if "tput_per_gpu" in entry or "output_tput_per_gpu" in entry:
        raise Unusable("it is InferenceX's summary, per GPU and in seconds: import the raw file it was made from")
    seconds, completed = number(entry.get("duration"), "duration"), _count(entry, "completed")
    if completed is None or seconds == 0:
        raise Unusable("it does not say how many requests completed, or took no time")
    inputs, outputs = _count(entry, "total_input_tokens"), _count(entry, "total_output_tokens")
    requests = _requests(entry, completed)
    reasons = [*_lost(entry, completed), *_disagree(entry, seconds, completed, inputs, outputs)]
    failed = _count(entry, "failed")
    status = "failed" if completed == 0 else "invalid" if reasons else "valid"
    if completed == 0:
        reasons.insert(0, "no request completed")
    return Result(
        tool="vllm", publisher="vllm bench serve result file", entry=entry, status=status, reasons=tuple(reasons),
        model=str(entry.get("model_id") or "unnamed model"), scenario="server", item="token",
        item_definition="output tokens", metrics=_metrics(entry, seconds, completed, inputs, outputs, requests),
        at=_at(entry.get("date")), software=str(entry.get("backend") or "vllm"),
        batch_size=_count(entry, "max_concurrency") or None, options=_options(entry),
        sequence=_sequence(requests, completed, inputs, outputs),
        warnings=(f"{failed} of {completed + failed} requests failed: they are in no throughput",) if failed else ())


def _metrics(entry: Mapping[str, Any], seconds: float, completed: int, inputs: int | None, outputs: int | None,
             requests: Sequence[Mapping[str, Any]]) -> tuple[Metric, ...]:
    """All rates recomputed from counts and seconds, as printed ones may be rounded."""
    if outputs is None:
        tokens = unknown("tokens_per_second", "tokens/s", "the file does not count output tokens")
    else:
        tokens = Metric(name="tokens_per_second", value=outputs / seconds, unit="tokens/s",
                        method="output tokens over the whole duration")
    found = [tokens, Metric(name="requests_per_second", value=completed / seconds, unit="requests/s",
                            method="completed requests over the whole duration")]
    if inputs is not None and outputs is not None:
        found.append(Metric(name="total_tokens_per_second", value=(inputs + outputs) / seconds, unit="tokens/s",
                            method="prompt and output tokens over the whole duration"))
    goodput = entry.get("request_goodput", entry.get("request_goodput:"))  # vLLM up to 0.8 wrote the colon
    if goodput is not None:
        found.append(Metric(name="request_goodput_per_second", value=number(goodput, "request_goodput"),
                            unit="requests/s", method=_objectives_told(entry)))
    return (*found, *(_of_requests(requests) if requests else _summaries(entry, completed, outputs)))


def _of_requests(requests: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """Latencies from the lists of --save-detailed, by our definitions."""
    several = [r for r in requests if r["tokens"] > 1]
    found = percentiles_of("ttft_ms", [r["ttft_ms"] for r in requests], "all requests")
    found += percentiles_of("tpot_ms", [(r["e2e_ms"] - r["ttft_ms"]) / (r["tokens"] - 1) for r in several],
                            "(end-to-end - TTFT) / (output tokens - 1), a value a request")
    found += percentiles_of("latency_ms", [r["e2e_ms"] for r in requests], "end to end, all requests")
    gaps, further = sum(len(r["itl_ms"]) for r in several), sum(r["tokens"] - 1 for r in several)
    if any(len(r["itl_ms"]) != r["tokens"] - 1 for r in several):
        reason = (f"{gaps} gaps between chunks for {further} further tokens: chunks hold several tokens, and the file "
                  "does not say how many each")
        return [*found, *(unknown(f"itl_ms_{label}", "ms", reason) for label in ("p50", "p99"))]
    return found + percentiles_of("itl_ms", [gap for r in several for gap in r["itl_ms"]], "one token a chunk")


def _summaries(entry: Mapping[str, Any], completed: int, outputs: int | None) -> list[Metric]:
    found = [*_summary(entry, "ttft", "ttft_ms", completed), *_summary(entry, "e2el", "latency_ms", completed)]
    reason = "per chunk, and the file keeps no token counts (--save-detailed does)"
    if any(f"{kind}_itl_ms" in entry for kind in ("mean", "median", "p99")):
        found += [unknown(f"itl_ms_{label}", "ms", reason) for label in ("p50", "p99")]
    return found + _tpot(entry, completed, outputs)


def _tpot(entry: Mapping[str, Any], completed: int, outputs: int | None) -> list[Metric]:
    """TPOT without the first token; where the file's has it in, the mean is put right and the rest is unknown."""
    parts = [entry.get(f"mean_{kind}_ms") for kind in ("tpot", "ttft", "e2el")]
    if None in parts or not outputs or not completed:
        return _summary(entry, "tpot", "tpot_ms", completed)
    tpot, ttft, e2e = (number(value, "a mean latency") for value in parts)
    tokens = outputs / completed
    if tpot_definition(tpot, ttft, e2e, tokens) != "with first token":
        return _summary(entry, "tpot", "tpot_ms", completed)
    reason = "the file's TPOT has the first token in it (end-to-end / output tokens): percentiles cannot be parted"
    return [Metric(name="tpot_ms_mean", value=(e2e - ttft) / (tokens - 1), unit="ms", n=completed,
                   method="(mean end-to-end - mean TTFT) / (mean output tokens - 1); "
                          f"the file's {tpot:g} ms has the first token in it"),
            *(unknown(f"tpot_ms_{label}", "ms", reason) for label in ("p50", "p99"))]


def _summary(entry: Mapping[str, Any], key: str, name: str, completed: int) -> list[Metric]:
    """What the file states of a latency in ms: its mean, median and percentiles."""
    found = []
    for said, percent in (("median", 50), *((f"p{p:g}", p) for p in PERCENTILES if p != 50)):
        value = entry.get(f"{said}_{key}_ms")
        if value is not None:
            ms = number(value, f"{said}_{key}_ms")
            found.append(stated_percentile(name, percent, ms, completed, "the file's percentile") if ms > 0 else
                         unknown(f"{name}_{PERCENTILES[percent]}", "ms", "0 is what vLLM writes of what was not timed"))
    mean = entry.get(f"mean_{key}_ms")
    if mean:
        found.append(Metric(name=f"{name}_mean", value=number(mean, f"mean_{key}_ms"), unit="ms", n=completed,
                            method="the file's mean"))
    return found


def _requests(entry: Mapping[str, Any], completed: int) -> list[dict[str, Any]]:
    """Completed requests of a detailed file: ttft_ms, e2e_ms, tokens, itl_ms; none where it has no lists."""
    ttfts, itls, lengths = (_list(entry, key) for key in ("ttfts", "itls", "output_lens"))
    if not (ttfts and itls and lengths):
        return []
    ends = _list(entry, "latencies") or [ttft + sum(gaps) for ttft, gaps in zip(ttfts, itls, strict=False)]
    prompts = _list(entry, "input_lens") or [None] * len(lengths)
    if len({len(values) for values in (ttfts, itls, lengths, ends, prompts)}) != 1:
        raise Unusable("its lists of requests are not of one length")
    found = [{"ttft_ms": number(ttft, "ttfts") * 1e3, "e2e_ms": number(end, "latencies") * 1e3, "tokens": length,
              "itl_ms": [number(gap, "itls") * 1e3 for gap in gaps], "prompt": prompt}
             for ttft, gaps, length, end, prompt in zip(ttfts, itls, lengths, ends, prompts, strict=True)
             if number(length, "output_lens") > 0]
    if len(found) != completed:
        raise Unusable(f"{completed} requests completed, and {len(found)} have output tokens")
    return found


def _lost(entry: Mapping[str, Any], completed: int) -> list[str]:
    """Issued requests that are neither completed nor failed: a dropped response is no success."""
    issued, failed = _count(entry, "num_prompts"), _count(entry, "failed")
    if issued is None or completed + (failed or 0) == issued:
        return []
    told = "the file counts no failures" if failed is None else f"{failed} failed"
    return [f"{issued} requests were issued, {completed} completed and {told}: the difference is unexplained"]


def _disagree(entry: Mapping[str, Any], seconds: float, completed: int, inputs: int | None,
              outputs: int | None) -> list[str]:
    """Printed rates that are not the counts over the duration: something else was counted."""
    both = inputs + outputs if inputs is not None and outputs is not None else None
    wrong = []
    for key, count, what in (("request_throughput", completed, "completed requests"),
                             ("output_throughput", outputs, "output tokens"),
                             ("total_token_throughput", both, "prompt and output tokens")):
        printed = entry.get(key)
        if printed is None or count is None:
            continue
        if not math.isclose(number(printed, key), count / seconds, rel_tol=AGREE):
            wrong.append(f"{key} is {printed:g}, but {count} {what} in {seconds:g} s are {count / seconds:g}")
    return wrong


def _sequence(requests: Sequence[Mapping[str, Any]], completed: int, inputs: int | None,
              outputs: int | None) -> str | None:
    """"1024/128" where each request is known to be so long; else the means, which match nothing exact."""
    lengths = {(r["prompt"], r["tokens"]) for r in requests}
    if len(lengths) == 1:
        prompt, tokens = lengths.pop()
        if prompt is not None:
            return f"{prompt}/{tokens}"
    if not completed or inputs is None or outputs is None:
        return None
    return f"mean {inputs / completed:.5g}/{outputs / completed:.5g}"


def _options(entry: Mapping[str, Any]) -> dict[str, Scalar]:
    found: dict[str, Scalar] = {key: entry[key] for key in OPTIONS if isinstance(entry.get(key), (str, int, float))}
    if entry.get("goodput"):
        found |= {f"goodput_{key}": value for key, value in goodput_objectives(entry["goodput"]).items()}
    return found


def _objectives_told(entry: Mapping[str, Any]) -> str:
    if not entry.get("goodput"):
        return "its objectives are not in the file"
    objectives = goodput_objectives(entry["goodput"])
    return "requests within " + ", ".join(f"{key} {value:g}" for key, value in objectives.items())


def _list(entry: Mapping[str, Any], key: str) -> list[Any]:
    found = entry.get(key)
    return found if isinstance(found, list) else []


def _count(entry: Mapping[str, Any], key: str) -> int | None:
    value = entry.get(key)
    if value is not None and number(value, key) != int(value):
        raise Unusable(f"{key} is {value!r}, not a whole number")
    return None if value is None else int(value)


def _at(text: Any) -> str | None:
    """Its local time ("20250601-103000") taken as UTC; None where the file has none of that form."""
    try:
        return datetime.strptime(str(text), "%Y%m%d-%H%M%S").replace(tzinfo=UTC).isoformat()
    except ValueError:
        return None
