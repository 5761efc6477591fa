"""BERT-base that repeats a known share of its own work: a slowdown planted for `trnbench ab` to find.

`--option share=0.03` computes the first layer's feed-forward part again on as many tokens as make 3 %
of the encoder's FLOPs; what comes of it is thrown away. share=0 is the encoder as it is.
"""

from __future__ import annotations

import dataclasses

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads import bert

LAYERS, FEED_FORWARD_OF_LAYER = 12, 2 / 3  # of a layer's matrix products, attention scores left out


def build(case: Case) -> Program:
    import torch
    from torch import nn

    program = bert.build(case)
    encoder = program.weights
    assert encoder is not None
    again = round(case.seq_len * float(case.options["share"]) * LAYERS / FEED_FORWARD_OF_LAYER)

    class Planted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, ids_BS: torch.Tensor) -> torch.Tensor:
            hidden_BSH = self.encoder(ids_BS).last_hidden_state
            first = self.encoder.encoder.layer[0]
            if again:
                some_BTH = hidden_BSH[:, :again]
                first.output(first.intermediate(some_BTH), some_BTH)
            return hidden_BSH

    return dataclasses.replace(program, model=Planted())


def work(case: Case) -> Work:
    """The encoder's own: what is planted is waste."""
    return bert.work(case)


WORKLOAD = Workload(summary="BERT with a share of its work done twice.", source="workloads/bert.py",
                    sizes=bert.SIZES, default_size="base", scenarios={"inference": ("offline",)}, build=build,
                    work=work, seq_len=128, batch_size=1, options={"share": 0.03}, limits=bert.limits)
