"""My model: an MLP that classifies vectors of 64 numbers, and its training."""

from bench.contracts import Program, Work, Workload

SIZES = {"tiny": {"width": 64}, "wide": {"width": 4096}}  # `tiny`: a step well under a second anywhere


def build(case):
    import torch
    from torch import nn

    torch.manual_seed(case.seed)  # every process builds the same weights and inputs
    width = SIZES[case.size]["width"]
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    inputs = torch.randn(case.batch_size, 64)
    if case.task == "inference":
        return Program(model=model, inputs=[inputs], weights=model)

    class Loss(nn.Module):  # in training, the module returns the loss
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, inputs, labels):
            return nn.functional.cross_entropy(self.model(inputs).float(), labels)

    labels = torch.randint(10, (case.batch_size,))
    return Program(model=Loss(), batches=[[inputs, labels]], weights=model,
                   optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3))


def work(case):
    width = SIZES[case.size]["width"]
    first, last = 2.0 * case.batch_size * 64 * width, 2.0 * case.batch_size * width * 10  # a multiply-add is two
    forward = first + last
    flops = 3 * forward - first if case.task == "training" else forward  # no gradient goes back to the inputs
    return Work(item="sample", items=case.batch_size, flops=flops)


WORKLOAD = Workload(
    summary="My MLP: 64 numbers in, 10 classes out.",
    source="mine; FLOPs counted by hand, biases and ReLU left out",
    sizes=SIZES,
    default_size="tiny",
    scenarios={"inference": ("offline", "single-stream"), "training": ("training",)},
    build=build,
    work=work,
    batch_size=32,
)
