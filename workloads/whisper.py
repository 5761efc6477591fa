"""Whisper-small: transcribing one 30 s clip, decoder tokens given (teacher forced).

mel_BMT [B, 80, 3000] and tokens_BN int64 -> logits [B, decoder_tokens, 51865]: the encoder runs once
over the clip, the decoder once over `decoder_tokens` tokens together. A greedy transcription would
run the decoder token by token; its work is the same, its time is not.

FLOPs of a clip, with F = frames / 2 encoder positions, N = decoder_tokens, h = width, i = inner: two
convolutions 2*frames*3*mels*h + 2*F*3*h^2; an encoder layer 8*F*h^2 + 4*F^2*h + 4*F*h*i; a decoder
layer 8*N*h^2 + 4*N^2*h (its causal mask saves nothing in this count), cross attention
4*N*h^2 + 4*F*h^2 + 4*N*F*h, and 4*N*h*i; the logits 2*N*h*vocab.
"""

from __future__ import annotations

from typing import Any

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads._common import attention_flops, linear_flops, wrap

SIZES = {
    "tiny": {"frames": 100, "mels": 16, "layers": 2, "width": 64, "heads": 2, "inner": 128, "vocab": 512},
    "small": {"frames": 3000, "mels": 80, "layers": 12, "width": 768, "heads": 12, "inner": 3072,
              "vocab": 51865},
}
MAX_DECODER_TOKENS = 448
ATTENTION = "trnbench_unmasked_sdpa"
"""transformers' SDPA under a name of ours, for which it makes no masks: the decoder is causal all the
same, while making a mask would read positions back from the device in every step."""


def build(case: Case) -> Program:
    import torch
    from transformers import WhisperForConditionalGeneration

    torch.manual_seed(case.seed)
    size, batch = SIZES[case.size], case.batch_size
    whisper = WhisperForConditionalGeneration(_config(size)).eval()
    model = wrap(whisper, lambda net, mel_BMT, tokens_BN:
                 net(input_features=mel_BMT, decoder_input_ids=tokens_BN).logits)
    mel_BMT = torch.rand(batch, size["mels"], size["frames"]) * 2 - 1  # log-mel is scaled to about -1..1
    return Program(model=model, weights=whisper,
                   inputs=[mel_BMT, torch.randint(size["vocab"], (batch, _tokens(case)))])


def _config(size: dict[str, int]) -> Any:
    from transformers import AttentionInterface, WhisperConfig
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(ATTENTION, sdpa_attention_forward)
    return WhisperConfig(
        num_mel_bins=size["mels"], max_source_positions=size["frames"] // 2,
        max_target_positions=MAX_DECODER_TOKENS, d_model=size["width"], vocab_size=size["vocab"],
        encoder_layers=size["layers"], decoder_layers=size["layers"],
        encoder_attention_heads=size["heads"], decoder_attention_heads=size["heads"],
        encoder_ffn_dim=size["inner"], decoder_ffn_dim=size["inner"], use_cache=False,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,  # within any vocab
        attn_implementation=ATTENTION)


def _tokens(case: Case) -> int:
    return int(case.options["decoder_tokens"] or 0)


def work(case: Case) -> Work:
    size, tokens = SIZES[case.size], _tokens(case)
    frames, width = size["frames"], size["width"]
    heard = frames // 2
    stem = linear_flops(frames, 3 * size["mels"], width) + linear_flops(heard, 3 * width, width)
    encoder = attention_flops(heard, heard, width) + 2 * linear_flops(heard, width, size["inner"])
    decoder = (attention_flops(tokens, tokens, width) + attention_flops(tokens, heard, width)
               + 2 * linear_flops(tokens, width, size["inner"]))
    flops = stem + size["layers"] * (encoder + decoder) + linear_flops(tokens, width, size["vocab"])
    return Work(item="sample", items=case.batch_size, flops=case.batch_size * flops)


def limits(case: Case) -> str | None:
    if not 1 <= _tokens(case) <= MAX_DECODER_TOKENS:
        return f"Whisper decodes 1 to {MAX_DECODER_TOKENS} tokens, not decoder_tokens={_tokens(case)}"
    return None


WORKLOAD = Workload(
    summary="Whisper-small transcription step: encoder over a 30 s clip, decoder over 64 given tokens.",
    source="Radford et al. 2022, arXiv:2212.04356, section 2.2 and table 1; "
           "transformers WhisperForConditionalGeneration",
    sizes=SIZES,
    default_size="small",
    scenarios={"inference": ("offline", "single-stream")},
    build=build,
    work=work,
    options={"decoder_tokens": 64},
    limits=limits,
)
