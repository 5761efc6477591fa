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

DROP_RATIO = (0.5, 2.0)
"""Where the reference's loss falls by more than four tolerances, the run's must fall by half to twice
as much: an optimiser that does nothing would else pass while the loss has hardly moved."""


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
        reason = _wrong_drop(found, reference, tolerance)
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


def _wrong_drop(found: Sequence[Tensor], reference: Sequence[Tensor], tolerance: float) -> str | None:
    expected = float(reference[0] - reference[len(found) - 1])
    if abs(expected) <= 4 * tolerance * abs(float(reference[0])):
        return None
    drop = float(found[0] - found[-1])
    low, high = sorted(bound * expected for bound in DROP_RATIO)
    if low <= drop <= high:
        return None
    return f"the loss fell by {drop:.4g} over {len(found)} steps, the float32 reference's by {expected:.4g}"
