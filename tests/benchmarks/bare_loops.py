"""Hand-tuned loops with no harness at all: what the machine can do. `python bare_loops.py NAME THREADS COMPILE`.

Prints one JSON line: the median ns of a step in a window of seconds after a warm-up.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch

SECONDS = 6.0


def bert() -> Callable[[], object]:
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(attn_implementation="sdpa"), add_pooling_layer=False).eval().to(torch.bfloat16)
    ids = torch.randint(30522, (8, 128))
    call = _maybe_compiled(model)
    return lambda: call(ids)


def resnet50() -> Callable[[], object]:
    from transformers import ResNetConfig, ResNetForImageClassification

    model = ResNetForImageClassification(ResNetConfig(num_labels=1000)).eval()
    model.to(torch.bfloat16).to(memory_format=torch.channels_last)
    images = torch.randn(8, 3, 224, 224).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    call = _maybe_compiled(model)
    return lambda: call(images)


def vit() -> Callable[[], object]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(attn_implementation="sdpa", num_labels=1000)
    model = ViTForImageClassification(config).eval().to(torch.bfloat16)
    images = torch.randn(8, 3, 224, 224).to(torch.bfloat16)
    call = _maybe_compiled(model)
    return lambda: call(images)


def gpt2() -> Callable[[], object]:
    """One token of greedy decoding on transformers' own cache, the context going from 128 to 144 tokens."""
    from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(attn_implementation="sdpa")).eval().to(torch.bfloat16)
    ids = torch.randint(50257, (1, 128))
    state: dict[str, object] = {"left": 0}

    def step() -> None:
        if not state["left"]:
            cache = DynamicCache(config=model.config)
            out = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            state.update(left=15, cache=cache, token=out.logits.argmax(-1))
            return  # the prefill: one step in sixteen, so that the median is a decode step's
        out = model(state["token"], past_key_values=state["cache"], use_cache=True)
        state["token"] = out.logits.argmax(-1)
        state["left"] -= 1  # type: ignore[operator]

    return step


def _maybe_compiled(model: torch.nn.Module) -> Callable[..., object]:
    if sys.argv[3] != "inductor":
        return model
    import torch._inductor.config

    torch._inductor.config.freezing = True
    return torch.compile(model, dynamic=False)


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    times_ns = []
    with torch.inference_mode():
        step = {"bert": bert, "resnet50": resnet50, "vit": vit, "gpt2": gpt2}[sys.argv[1]]()
        for _ in range(5):
            step()
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            start_ns = time.perf_counter_ns()
            step()
            times_ns.append(time.perf_counter_ns() - start_ns)
    print(json.dumps({"median_ns": statistics.median(times_ns), "rounds": len(times_ns)}))


if __name__ == "__main__":
    main()
