"""MLP-Mixer: classifying images by MLPs over patches and over channels in turn, and training it.

* inference: pixels_BCHW [B, 3, image, image] -> logits [B, classes]; training: with labels_B int64 -> a scalar loss.

FLOPs of an image, forward (2 a multiply-add), of S = (image / patch)^2 patches with C channels: patches
2*S*3*patch^2*C, a layer 4*C*S*over_patches + 4*S*C*over_channels, head 2*C*classes. Training is 3x that less once
the patches, as no gradient goes back to the pixels.
"""

from bench.contracts import Program, Work, Workload

SIZES = {  # "tiny" is what tests run: a step well under a second on any device
    "tiny": {"image": 32, "patch": 8, "layers": 2, "channels": 32, "over_patches": 16, "over_channels": 64,
             "classes": 10},
    "s16": {"image": 224, "patch": 16, "layers": 8, "channels": 512, "over_patches": 256, "over_channels": 2048,
            "classes": 1000},
}


def build(case):
    """The model and its inputs, on the CPU in float32: the backend places and casts them."""
    import torch  # in here, so that `trnbench list` needs none
    from torch import nn

    torch.manual_seed(case.seed)  # every process must build the same weights and inputs
    size, image = SIZES[case.size], (case.batch_size, 3, SIZES[case.size]["image"], SIZES[case.size]["image"])

    class Residual(nn.Module):
        def __init__(self, width, inner, *, over_patches):
            super().__init__()
            self.over_patches, self.norm = over_patches, nn.LayerNorm(size["channels"])
            self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

        def forward(self, x_BSC):
            y_BSC = self.norm(x_BSC)
            return x_BSC + (self.mlp(y_BSC.mT).mT if self.over_patches else self.mlp(y_BSC))

    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, size["channels"], size["patch"], stride=size["patch"])
            widths = (((size["image"] // size["patch"]) ** 2, size["over_patches"]),
                      (size["channels"], size["over_channels"]))
            self.layers = nn.Sequential(*(Residual(*widths[i % 2], over_patches=i % 2 == 0)
                                          for i in range(2 * size["layers"])), nn.LayerNorm(size["channels"]))
            self.head = nn.Linear(size["channels"], size["classes"])

        def forward(self, pixels_BCHW, labels_B=None):
            logits = self.head(self.layers(self.patches(pixels_BCHW).flatten(2).mT).mean(1))
            return logits if labels_B is None else nn.functional.cross_entropy(logits.float(), labels_B)

    model = Mixer()
    if case.task == "inference":
        return Program(model=model, inputs=[torch.randn(image)], weights=model)
    return Program(model=model, weights=model, optimizer=lambda weights: torch.optim.AdamW(weights, lr=1e-3),
                   batches=[(torch.randn(image), torch.randint(size["classes"], image[:1])) for _ in range(4)])


def work(case):
    """Plain arithmetic; hold it against torch.utils.flop_counter in a test of yours."""
    size = SIZES[case.size]
    patches, channels = (size["image"] // size["patch"]) ** 2, size["channels"]
    first = 2.0 * patches * 3 * size["patch"] ** 2 * channels
    layer = 4.0 * channels * patches * (size["over_patches"] + size["over_channels"])
    forward = first + size["layers"] * layer + 2.0 * channels * size["classes"]
    flops = 3 * forward - first if case.task == "training" else forward
    return Work(item="image", items=case.batch_size, flops=case.batch_size * flops)


WORKLOAD = Workload(
    summary="MLP-Mixer-S/16: classifying images without attention, and training it (AdamW).",
    source="Tolstikhin et al. 2021, arXiv:2105.01601, table 1; FLOPs counted by hand",
    sizes=SIZES,
    default_size="s16",
    scenarios={"inference": ("offline", "single-stream"), "training": ("training",)},
    build=build,
    work=work,
    batch_size=8,
)
