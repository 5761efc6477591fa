"""Parity: speed counts only when the answer is right, held against the float32 CPU reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.case import Case

if TYPE_CHECKING:
    from torch import Tensor

OUTPUT_TOLERANCE = {"fp32": 1e-3, "tf32": 2e-2, "fp16": 3e-2, "bf16": 1e-1, "amp-fp16": 3e-2, "amp-bf16": 1e-1,
                    "fp8": 3e-1}
"""Largest ||output - reference|| / ||reference||, by number format.

A format's rounding unit (fp32 6e-8, tf32 and fp16 5e-4, bf16 4e-3, fp8 e4m3 6e-2) grows with depth:
independent roundings in L layers add up like sqrt(L), a few of them a layer, and residual networks
carry them along, so some tens of units at 12 to 50 layers. The bounds are 25 units of bf16, 40 to 60 of
tf32 and fp16; float32 is allowed more units, as kernels of another library may order sums quite
differently (seen on Trainium2: 1e-3). A wrong kernel, layout or weight gives an error near 1.
"""

LOSS_TOLERANCE = {"fp32": 2e-3, "tf32": 1e-2, "fp16": 2e-2, "bf16": 5e-2, "amp-fp16": 2e-2, "amp-bf16": 5e-2,
                  "fp8": 1e-1}
"""Largest |loss - reference| at any of the first steps, as a share of the reference's first loss: a loss
is a mean over many outputs, so that roundings average out and the bounds are tighter than those of
outputs. Of the first loss, as a curve that falls towards 0 leaves nothing to be relative to (bf16 on
four batches gone round: ResNet-50 4 %, BERT-base under 1 %)."""

FOLLOWED, LOSS_ROUNDING = 0.5, 0.04
"""The whole curve must also follow the reference's: no loss may be further off than half of the most that
the reference's loss moved, or 4 % of the tolerance where that is more. An optimiser that does nothing is
off by all that was learned, which in ten steps can be less than any tolerance (BERT-base 14 % of the first
loss, LoRA 0.3 %). Seen in bf16, as a share of that movement: BERT-base and ResNet-50 3.5 %, a tiny ViT 20 %."""


def check(case: Case, found: Sequence[Tensor], reference: Sequence[Tensor]) -> dict[str, Any]:
    """Return {"status": "passed"|"failed", "error", "tolerance", "metric", "compared", "reason"}."""
    training = case.task == "training"
    tolerance = (LOSS_TOLERANCE if training else OUTPUT_TOLERANCE)[case.dtype]
    errors = [_relative_error(f, r, of=reference[0] if training else r)
              for f, r in zip(found, reference, strict=False)]
    worst = max(errors, default=float("inf"))
    reason = None
    if len(found) > len(reference):
        reason = f"{len(found)} outputs where the reference has {len(reference)}"
    elif not errors:
        reason = "there is no output to compare"
    elif worst > tolerance:
        at = errors.index(worst)
        how = _unlike(found[at], reference[at]) or (f"is {worst:.3g} away from the float32 reference, relative; "
                                                    f"{case.dtype} is allowed {tolerance:g}")
        reason = f"{'loss' if training else 'output'} {at} {how}"
    elif training:
        reason = _astray(found, reference, worst, tolerance)
    return {"status": "failed" if reason else "passed", "error": worst if worst < float("inf") else None,
            "tolerance": tolerance, "compared": len(errors), "reason": reason,
            "metric": "difference of losses, relative to the first" if training else "relative L2 error of outputs"}


def _unlike(found: Tensor, reference: Tensor) -> str | None:
    """What no distance can say, or None."""
    if found.shape != reference.shape:
        return f"has shape {tuple(found.shape)} where the float32 reference has {tuple(reference.shape)}"
    if not reference.isfinite().all():
        return "is not finite in the float32 reference itself: mend the model, its weights or its inputs"
    return None if found.isfinite().all() else "is not finite"


def _relative_error(found: Tensor, reference: Tensor, *, of: Tensor) -> float:
    if found.shape != reference.shape:
        return float("inf")
    scale = float(of.double().norm())
    error = float((found.double() - reference.double()).norm())
    if error != error:
        return float("inf")
    return error / scale if scale else error


def _astray(found: Sequence[Tensor], reference: Sequence[Tensor], worst: float, tolerance: float) -> str | None:
    """Say that a whole loss curve goes another way than the reference's, or None."""
    first = abs(float(reference[0]))
    if len(found) < len(reference) or not first:
        return None
    moved = max(abs(float(loss - reference[0])) for loss in reference) / first
    if worst <= max(FOLLOWED * moved, LOSS_ROUNDING * tolerance):
        return None
    return (f"the losses do not follow the float32 reference's: off by up to {worst:.3g} of the first loss, "
            f"where the reference's moved by {moved:.3g}: does the optimiser work?")
