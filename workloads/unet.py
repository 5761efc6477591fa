"""Stable Diffusion 1.5's UNet: one denoising step of one 512 x 512 image.

latents_BCHW [B, 4, 64, 64], timesteps_B int64, text_BTE [B, 77, 768] -> predicted noise
[B, 4, 64, 64]. Without guidance: with it an image takes two of these a step, so batch size 2.

FLOPs: convolutions 2 * output positions * kernel^2 * channels in * channels out, linear layers, and
attention over the positions (self) and over the text's 77 tokens (cross).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads._common import attention_flops, linear_flops, wrap

SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"side": 16, "widths": (32, 64), "depth": 1, "heads": 2, "text_width": 32, "text": 8},
    "sd15": {"side": 64, "widths": (320, 640, 1280, 1280), "depth": 2, "heads": 8, "text_width": 768,
             "text": 77},
}
LATENT_CHANNELS = 4


def build(case: Case) -> Program:
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(case.seed)
    size, batch = SIZES[case.size], case.batch_size
    attending = len(size["widths"]) - 1  # the level of the lowest resolution has no attention
    unet = UNet2DConditionModel(
        sample_size=size["side"], in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=size["widths"], layers_per_block=size["depth"],
        attention_head_dim=size["heads"],  # by an old mistake of diffusers: the number of heads
        cross_attention_dim=size["text_width"],
        down_block_types=("CrossAttnDownBlock2D",) * attending + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * attending).eval()
    inputs = [torch.randn(batch, LATENT_CHANNELS, size["side"], size["side"]),
              torch.randint(1000, (batch,)), torch.randn(batch, size["text"], size["text_width"])]
    model = wrap(unet, lambda net, latents, timesteps, text:
                 net(latents, timesteps, encoder_hidden_states=text).sample)
    return Program(model=model, inputs=inputs, weights=unet)


def work(case: Case) -> Work:
    size = SIZES[case.size]
    widths, pixels, top = size["widths"], size["side"] ** 2, size["widths"][0]
    time_width = 4 * top
    flops = (_conv(pixels, LATENT_CHANNELS, top) + _conv(pixels, top, LATENT_CHANNELS)
             + linear_flops(1, top, time_width) + linear_flops(1, time_width, time_width))
    levels = [pixels // 4**level for level in range(len(widths))]
    flops += _down(size, levels) + _up(size, levels)
    flops += 2 * _residual(levels[-1], widths[-1], widths[-1], time_width)
    flops += _transformer(levels[-1], widths[-1], size)
    return Work(item="denoising_step", items=case.batch_size, flops=case.batch_size * flops)


def _down(size: Mapping[str, Any], levels: list[int]) -> float:
    """`depth` blocks a level; a convolution to half the side between levels."""
    flops, channels = 0.0, size["widths"][0]
    for level, (pixels, width) in enumerate(zip(levels, size["widths"], strict=True)):
        last = level == len(levels) - 1
        for _ in range(size["depth"]):
            flops += _residual(pixels, channels, width, 4 * size["widths"][0])
            flops += 0.0 if last else _transformer(pixels, width, size)
            channels = width
        flops += 0.0 if last else _conv(pixels // 4, width, width)
    return flops


def _up(size: Mapping[str, Any], levels: list[int]) -> float:
    """`depth` + 1 blocks a level, each also fed the way down's output of its height; then doubling."""
    widths = size["widths"]
    skips = [widths[0]]  # channels that the way down left, in its order
    for level, width in enumerate(widths):
        skips += [width] * size["depth"] + ([width] if level < len(widths) - 1 else [])
    flops, channels = 0.0, widths[-1]
    for level in reversed(range(len(widths))):
        width = widths[level]
        for _ in range(size["depth"] + 1):
            flops += _residual(levels[level], channels + skips.pop(), width, 4 * widths[0])
            flops += 0.0 if level == len(widths) - 1 else _transformer(levels[level], width, size)
            channels = width
        flops += _conv(4 * levels[level], width, width) if level else 0.0
    return flops


def _conv(pixels: int, channels: int, width: int) -> float:
    """A 3 x 3 convolution with `pixels` outputs."""
    return linear_flops(pixels, 9 * channels, width)


def _residual(pixels: int, channels: int, width: int, time_width: int) -> float:
    """Two 3 x 3 convolutions, the time's projection, and a 1 x 1 past them where channels change."""
    past = linear_flops(pixels, channels, width) if channels != width else 0.0
    return (_conv(pixels, channels, width) + _conv(pixels, width, width)
            + linear_flops(1, time_width, width) + past)


def _transformer(pixels: int, width: int, size: Mapping[str, Any]) -> float:
    """1 x 1 in and out, self attention, cross attention to the text, a gated MLP of 4x the width."""
    text, text_width = size["text"], size["text_width"]
    cross = (2 * linear_flops(pixels, width, width) + 2 * linear_flops(text, text_width, width)
             + 2 * linear_flops(pixels, width, text))
    mlp = linear_flops(pixels, width, 8 * width) + linear_flops(pixels, 4 * width, width)
    return 2 * linear_flops(pixels, width, width) + attention_flops(pixels, pixels, width) + cross + mlp


WORKLOAD = Workload(
    summary="Stable Diffusion 1.5 UNet: one denoising step of a 512 x 512 image.",
    source="Rombach et al. 2021, arXiv:2112.10752; unet/config.json of stable-diffusion-v1-5; "
           "diffusers UNet2DConditionModel",
    sizes=SIZES,
    default_size="sd15",
    scenarios={"inference": ("offline", "single-stream")},
    build=build,
    work=work,
)
