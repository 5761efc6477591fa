"""BERT: encoding a sequence, and masked-LM pre-training.

* inference: `BertModel` without its pooler (which is 0.005 % of the FLOPs): ids_BS int64 ->
  last hidden state [B, S, width].
* training: `BertForMaskedLM` on ids_BS and labels_BS int64, 15 % of the positions masked (at least
  one a sequence), AdamW -> a scalar loss, computed from float32 logits in every dtype. The head
  scores all positions, as transformers does; MLPerf's gathers the masked ones first.

Sequences are full: there is no padding and so no attention mask. Dropout is 0, or no device could
be held against another's losses. FLOPs a sequence, forward, S = seq_len, h = width, i = inner:
a layer 8*S*h^2 + 4*S^2*h + 4*S*h*i; masked-LM head 2*S*h^2 + 2*S*h*vocab. Training is 3x that: all
matrix products have gradients for both sides, as the embeddings below them are trained too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from torch import Tensor

SIZES = {
    "tiny": {"layers": 2, "width": 64, "heads": 2, "inner": 128, "vocab": 512},
    "base": {"layers": 12, "width": 768, "heads": 12, "inner": 3072, "vocab": 30522},
    "large": {"layers": 24, "width": 1024, "heads": 16, "inner": 4096, "vocab": 30522},
}
MAX_SEQ_LEN = 512
MASK_TOKEN = 103
MASKED_SHARE = 0.15


def build(case: Case) -> Program:
    import torch
    from transformers import BertForMaskedLM, BertModel

    torch.manual_seed(case.seed)
    config, vocab = _config(case), SIZES[case.size]["vocab"]
    if case.task == "training":
        masked_lm = BertForMaskedLM(config).train()
        model = wrap(masked_lm, lambda bert, ids_BS, labels_BS: cross_entropy(bert(ids_BS).logits, labels_BS))
        return Program(model=model, batches=[_masked_batch(case, vocab) for _ in range(DISTINCT_BATCHES)],
                       optimizer=optimizer("AdamW", lr=1e-4, weight_decay=0.01), weights=masked_lm)
    encoder = BertModel(config, add_pooling_layer=False).eval()
    return Program(model=wrap(encoder, lambda bert, ids_BS: bert(ids_BS).last_hidden_state),
                   inputs=[torch.randint(vocab, (case.batch_size, case.seq_len))], weights=encoder)


def _config(case: Case) -> Any:
    from transformers import BertConfig

    size = SIZES[case.size]
    return BertConfig(num_hidden_layers=size["layers"], hidden_size=size["width"],
                      num_attention_heads=size["heads"], intermediate_size=size["inner"],
                      vocab_size=size["vocab"], max_position_embeddings=MAX_SEQ_LEN,
                      hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                      attn_implementation="sdpa")


def _masked_batch(case: Case, vocab: int) -> tuple[Tensor, Tensor]:
    """Return ids_BS with [MASK] at random positions, and labels_BS, -100 at all the others."""
    import torch

    assert case.seq_len
    ids_BS = torch.randint(vocab, (case.batch_size, case.seq_len))
    masked_BS = torch.rand(ids_BS.shape).argsort(-1) < max(1, round(MASKED_SHARE * case.seq_len))
    return ids_BS.where(~masked_BS, MASK_TOKEN), ids_BS.where(masked_BS, -100)


def work(case: Case) -> Work:
    assert case.seq_len
    size, seq_len = SIZES[case.size], case.seq_len
    layer = (attention_flops(seq_len, seq_len, size["width"])
             + 2 * linear_flops(seq_len, size["width"], size["inner"]))
    flops = size["layers"] * layer
    if case.task == "training":
        head = (linear_flops(seq_len, size["width"], size["width"])
                + linear_flops(seq_len, size["width"], size["vocab"]))
        flops = 3 * (flops + head)
    return Work(item="sample", items=case.batch_size, flops=case.batch_size * flops)


def limits(case: Case) -> str | None:
    if case.seq_len and case.seq_len > MAX_SEQ_LEN:
        return f"BERT has {MAX_SEQ_LEN} position embeddings, so seq_len {case.seq_len} is too long"
    return half_training(case)


WORKLOAD = Workload(
    summary="BERT encoder: a sequence's hidden states, and masked-LM pre-training (AdamW).",
    source="Devlin et al. 2018, arXiv:1810.04805, table 1 and appendix A; transformers BertModel",
    sizes=SIZES,
    default_size="base",
    scenarios={"inference": ("offline", "single-stream"), "training": ("training",)},
    build=build,
    work=work,
    seq_len=128,
    batch_size=8,
    limits=limits,
)
