"""Vision Transformer (ViT-B/16): classifying images into 1,000 classes, and training it.

* inference: pixels_BCHW [B, 3, 224, 224] -> logits [B, 1000], from the class token.
* training: the same with labels_B int64, AdamW -> a scalar loss from float32 logits. Dropout is 0.

Images are standard normal noise. FLOPs of an image, forward, with T = (image / patch)^2 + 1 tokens,
h = width, i = inner: the patches 2*(T - 1)*3*patch^2*h, a layer 8*T*h^2 + 4*T^2*h + 4*T*h*i, the
head 2*h*classes. Training is 3x that less once the patches, which pass no gradient to the pixels.
"""

from __future__ import annotations

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads._common import (
    DISTINCT_BATCHES,
    attention_flops,
    cross_entropy,
    half_training,
    linear_flops,
    optimizer,
    wrap,
)

SIZES = {
    "tiny": {"image": 32, "patch": 8, "layers": 2, "width": 64, "heads": 2, "inner": 128, "classes": 10},
    "base": {"image": 224, "patch": 16, "layers": 12, "width": 768, "heads": 12, "inner": 3072,
             "classes": 1000},
}


def build(case: Case) -> Program:
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(case.seed)
    size, batch = SIZES[case.size], case.batch_size
    config = ViTConfig(image_size=size["image"], patch_size=size["patch"], hidden_size=size["width"],
                       num_hidden_layers=size["layers"], num_attention_heads=size["heads"],
                       intermediate_size=size["inner"], num_labels=size["classes"],
                       hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                       attn_implementation="sdpa")
    vit = ViTForImageClassification(config)
    shape = (batch, 3, size["image"], size["image"])
    if case.task == "training":
        model = wrap(vit.train(), lambda net, pixels, labels: cross_entropy(net(pixels).logits, labels))
        batches = [(torch.randn(shape), torch.randint(size["classes"], (batch,)))
                   for _ in range(DISTINCT_BATCHES)]
        return Program(model=model, batches=batches, weights=vit,
                       optimizer=optimizer("AdamW", lr=1e-4, weight_decay=0.05))
    return Program(model=wrap(vit.eval(), lambda net, pixels: net(pixels).logits),
                   inputs=[torch.randn(shape)], weights=vit)


def work(case: Case) -> Work:
    size = SIZES[case.size]
    patches = (size["image"] // size["patch"]) ** 2
    tokens = patches + 1
    layer = (attention_flops(tokens, tokens, size["width"])
             + 2 * linear_flops(tokens, size["width"], size["inner"]))
    embedding = linear_flops(patches, 3 * size["patch"] ** 2, size["width"])
    flops = embedding + size["layers"] * layer + linear_flops(1, size["width"], size["classes"])
    if case.task == "training":
        flops = 3 * flops - embedding
    return Work(item="image", items=case.batch_size, flops=case.batch_size * flops)


WORKLOAD = Workload(
    summary="ViT-B/16 image classification, and its training (AdamW).",
    source="Dosovitskiy et al. 2020, arXiv:2010.11929, table 1; transformers ViTForImageClassification",
    sizes=SIZES,
    default_size="base",
    scenarios={"inference": ("offline", "single-stream"), "training": ("training",)},
    build=build,
    work=work,
    batch_size=8,
    limits=half_training,
)
