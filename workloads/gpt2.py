"""GPT-2: text generation and pre-training.

The feed-forward's GELU is the tanh approximation of the original, by torch's one kernel for it.
Dropout is 0, so that devices can be compared loss by loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.case import Case
from bench.contracts import Program, Work, Workload
from workloads import _causal

if TYPE_CHECKING:
    from torch import Tensor

SIZES = {
    "tiny": {"layers": 2, "hidden": 64, "heads": 4, "vocab": 512, "positions": 256},
    "small": {"layers": 12, "hidden": 768, "heads": 12, "vocab": 50257, "positions": 1024},
    "medium": {"layers": 24, "hidden": 1024, "heads": 16, "vocab": 50257, "positions": 1024},
    "large": {"layers": 36, "hidden": 1280, "heads": 20, "vocab": 50257, "positions": 1024},
    "xl": {"layers": 48, "hidden": 1600, "heads": 25, "vocab": 50257, "positions": 1024},
}


def build(case: Case) -> Program:
    """Return generation, or pre-training by AdamW (learning rate as in GPT-3's table 2.1)."""
    import torch
    from transformers import GPT2Config

    size = SIZES[case.size]
    torch.manual_seed(case.seed)
    model = _causal.build_model("GPT2LMHeadModel", GPT2Config(
        n_layer=size["layers"], n_embd=size["hidden"], n_head=size["heads"], vocab_size=size["vocab"],
        n_positions=size["positions"], activation_function="gelu_pytorch_tanh", embd_pdrop=0.0,
        attn_pdrop=0.0, resid_pdrop=0.0, bos_token_id=None, eos_token_id=None))
    if case.task == "training":
        return _causal.training(case, model, lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1)
    return _causal.generation(case, model, [block.attn for block in model.transformer.h], decode_hidden)


def decode_hidden(model: Any, token_B1: Tensor, position_1: Tensor, bias_111L: Tensor) -> Tensor:
    """Return the last hidden state, [B, C], as the model's own forward pass computes it.

    On the same modules and parameters with less Python, which at batch 1 on a CPU makes 6 % of the step.
    """
    from torch import addmm
    from torch.nn.functional import embedding, gelu

    base = model.transformer
    x_BC = embedding(token_B1[:, 0], base.wte.weight) + embedding(position_1, base.wpe.weight)
    shape_BH1D = (len(x_BC), base.h[0].attn.num_heads, 1, -1)
    for block in base.h:
        attn, mlp = block.attn, block.mlp
        q_BC, k_BC, v_BC = addmm(attn.c_attn.bias, block.ln_1(x_BC), attn.c_attn.weight).chunk(3, -1)
        out_B1HD, _ = _causal.attend(attn, q_BC.view(shape_BH1D), k_BC.view(shape_BH1D),
                                     v_BC.view(shape_BH1D), bias_111L, scaling=attn.scaling,
                                     write_position=position_1)
        x_BC = x_BC + addmm(attn.c_proj.bias, out_B1HD.flatten(1), attn.c_proj.weight)
        inner_BF = gelu(addmm(mlp.c_fc.bias, block.ln_2(x_BC), mlp.c_fc.weight), approximate="tanh")
        x_BC = x_BC + addmm(mlp.c_proj.bias, inner_BF, mlp.c_proj.weight)
    hidden_BC: Tensor = base.ln_f(x_BC)
    return hidden_BC


def work(case: Case) -> Work:
    """A feed-forward part is two products, [C, 4C] and [4C, C]: 8 C^2 weights."""
    size = SIZES[case.size]
    shape = _causal.Shape(layers=size["layers"], hidden=size["hidden"], kv_width=size["hidden"],
                          feed_forward=8 * size["hidden"] ** 2, vocab=size["vocab"])
    return (_causal.training_work if case.task == "training" else _causal.generation_work)(case, shape)


WORKLOAD = Workload(
    summary="GPT-2 text generation and causal-LM pre-training",
    source="Radford et al. 2019; sizes from the published configurations of openai-community/gpt2*; "
           "FLOPs are those of the matrix products, as torch.utils.flop_counter counts them",
    sizes=SIZES,
    default_size="small",
    scenarios={"inference": ("generation",), "training": ("training",)},
    build=build,
    work=work,
    seq_len=128,
    options={"new_tokens": 64, "accumulate": 1},
    limits=lambda case: _causal.limits(case, positions=SIZES[case.size]["positions"]),
)
