"""Whether quantization changes what a classifier says, where SQNR tells by how much its logits move."""

import math

from torch import Tensor


def top1_share(ref: Tensor, actual: Tensor) -> float | None:
    """Share of samples for which both name the same class, from 0 to 1.

    Shape (batch, classes), in any real dtype. None for what names no class: another number of axes, fewer
    than two classes, complex numbers. NaN where a value is not finite: argmax takes NaN for the largest.
    """
    if ref.ndim != 2 or ref.shape[1] < 2 or ref.is_complex():  # noqa: PLR2004 - batch and classes; a choice has two
        return None
    ref, actual = ref.double(), actual.double()
    if not (ref.isfinite().all() and actual.isfinite().all()):
        return math.nan
    return (ref.argmax(dim=1) == actual.argmax(dim=1)).double().mean().item()
