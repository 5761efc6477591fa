"""ResNet-50 (v1.5): classifying images into 1,000 classes, and training it.

* inference: pixels_BCHW [B, 3, 224, 224] -> logits [B, 1000], batch norm with its stored statistics.
* training: the same with labels_B int64, SGD with momentum -> a scalar loss from float32 logits;
  batch norm with the batch's statistics.

Images are standard normal noise. FLOPs are those of the convolutions and of the last linear layer:
2 * output positions * kernel^2 * channels in * channels out. Training is 3x forward less once the
first convolution, which passes no gradient on to the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads._common import DISTINCT_BATCHES, cross_entropy, half_training, linear_flops, optimizer, wrap

SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"image": 32, "stem": 16, "widths": (32, 64), "depths": (1, 2), "classes": 10},
    "full": {"image": 224, "stem": 64, "widths": (256, 512, 1024, 2048), "depths": (3, 4, 6, 3),
             "classes": 1000},
}
NARROWING = 4  # a bottleneck's inner convolutions have a fourth of its channels


def build(case: Case) -> Program:
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(case.seed)
    size, batch = SIZES[case.size], case.batch_size
    config = ResNetConfig(embedding_size=size["stem"], hidden_sizes=list(size["widths"]),
                          depths=list(size["depths"]), layer_type="bottleneck",
                          num_labels=size["classes"])
    resnet = ResNetForImageClassification(config)
    shape = (batch, 3, size["image"], size["image"])
    if case.task == "training":
        model = wrap(resnet.train(), lambda net, pixels, labels: cross_entropy(net(pixels).logits, labels))
        batches = [(torch.randn(shape), torch.randint(size["classes"], (batch,)))
                   for _ in range(DISTINCT_BATCHES)]
        return Program(model=model, batches=batches, weights=resnet,
                       optimizer=optimizer("SGD", lr=0.003, momentum=0.9, weight_decay=5e-5))
    return Program(model=wrap(resnet.eval(), lambda net, pixels: net(pixels).logits),
                   inputs=[torch.randn(shape)], weights=resnet)


def work(case: Case) -> Work:
    forward, first = _forward_flops(SIZES[case.size])
    flops = 3 * forward - first if case.task == "training" else forward
    return Work(item="image", items=case.batch_size, flops=case.batch_size * flops)


def _forward_flops(size: Mapping[str, Any]) -> tuple[float, float]:
    """Return the FLOPs of one image, and of its first convolution alone."""
    side = _halved(size["image"])
    first = linear_flops(side**2, 7 * 7 * 3, size["stem"])
    side = _halved(side)  # the max pool
    flops, channels = first, size["stem"]
    for stage, (width, depth) in enumerate(zip(size["widths"], size["depths"], strict=True)):
        for layer in range(depth):
            halves = layer == 0 and stage > 0
            flops += _bottleneck_flops(side, channels, width, halves)
            side, channels = _halved(side) if halves else side, width
    return flops + linear_flops(1, channels, size["classes"]), first


def _bottleneck_flops(side: int, channels: int, width: int, halves: bool) -> float:
    """1x1, 3x3 (the one that halves the sides), 1x1, and a 1x1 past them where shapes change."""
    inner, after = width // NARROWING, _halved(side) if halves else side
    past = linear_flops(after**2, channels, width) if halves or channels != width else 0
    return (linear_flops(side**2, channels, inner) + linear_flops(after**2, 9 * inner, inner)
            + linear_flops(after**2, inner, width) + past)


def _halved(side: int) -> int:
    return (side + 1) // 2


WORKLOAD = Workload(
    summary="ResNet-50 v1.5 image classification, and its training (SGD with momentum).",
    source="He et al. 2015, arXiv:1512.03385, table 1, with v1.5's stride in the 3x3 convolution; "
           "transformers ResNetForImageClassification",
    sizes=SIZES,
    default_size="full",
    scenarios={"inference": ("offline", "single-stream"), "training": ("training",)},
    build=build,
    work=work,
    batch_size=8,
    limits=half_training,
)
