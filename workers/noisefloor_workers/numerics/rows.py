"""Sums over each row of a matrix at once: the one place where elements are squared."""

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from noisefloor.contract.sums import Sums

FLOAT64_EXPONENT_BIAS = 1023
FLOAT64_MANTISSA_BITS = 52


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSums:
    """The fields of `Sums`, each a tensor of shape (rows,): float64 for sums, int64 for the rest."""

    n: Tensor
    ref_sq: Tensor
    ref_exp: Tensor
    actual_sq: Tensor
    actual_exp: Tensor
    ref_actual: Tensor
    err_sq: Tensor
    err_exp: Tensor
    max_abs_err: Tensor
    nonfinite_ref: Tensor
    nonfinite_actual: Tensor

    def sums(self, row: int) -> Sums:
        """The sums of one row."""
        return Sums(**{name: getattr(self, name)[row].item() for name in Sums.model_fields})


def row_sums(*, ref: Tensor, actual: Tensor) -> RowSums:
    """Sums over the columns of each row of r and a, with e = r - a.

    Shapes: both (rows, columns) with at least one column; dtype: float64, in which all is accumulated.
    Each row of r, a and e is scaled by the power of two that brings its largest magnitude into
    [0.5, 1), which is exact, so that squares neither overflow nor all vanish: Σr² = ref_sq·4^ref_exp.
    An element where either side is NaN or infinite is left out of the sums and counted per side.
    `max_abs_err` is in the unit of the tensors and stops at the largest float64.
    """
    ref_finite, actual_finite = ref.isfinite(), actual.isfinite()
    counted = ref_finite & actual_finite
    ref, actual = ref.where(counted, 0.0), actual.where(counted, 0.0)
    ref_scaled, ref_exp = _prescale(ref)
    actual_scaled, actual_exp = _prescale(actual)

    err = ref - actual
    max_abs_err = err.abs().amax(dim=1).clamp(max=sys.float_info.max)
    # Two float64 near the maximum and of opposite sign differ by more than float64 holds. Only such a
    # row is halved first: elsewhere halving would drop the last bit of a subnormal.
    overflown = err.isinf().any(dim=1)
    err = torch.where(overflown[:, None], ref * 0.5 - actual * 0.5, err)
    err_scaled, err_exp = _prescale(err)

    return RowSums(
        n=counted.sum(dim=1),
        ref_sq=ref_scaled.square().sum(dim=1),
        ref_exp=ref_exp,
        actual_sq=actual_scaled.square().sum(dim=1),
        actual_exp=actual_exp,
        ref_actual=(ref_scaled * actual_scaled).sum(dim=1),
        err_sq=err_scaled.square().sum(dim=1),
        err_exp=err_exp + overflown.to(torch.int64),
        max_abs_err=max_abs_err,
        nonfinite_ref=(~ref_finite).sum(dim=1),
        nonfinite_actual=(~actual_finite).sum(dim=1),
    )


def _prescale(values: Tensor) -> tuple[Tensor, Tensor]:
    """Each row divided by the power of two above its largest magnitude, and that power's exponent."""
    exponent = torch.frexp(values.abs().amax(dim=1)).exponent.to(torch.int64)
    # 2^1074 is no float64, so the smallest subnormal needs two steps to come up to 0.5.
    half = exponent // 2
    return values * _power_of_two(-half)[:, None] * _power_of_two(half - exponent)[:, None], exponent


def _power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent in float64, from its bits: torch.ldexp and torch.pow go through float32 or round."""
    return ((exponent + FLOAT64_EXPONENT_BIAS) << FLOAT64_MANTISSA_BITS).view(torch.float64)
