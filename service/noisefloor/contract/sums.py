"""The sums that every figure is derived from, and that pooling adds."""

import math
from typing import Annotated

from pydantic import Field

from noisefloor.contract.base import Value
from noisefloor.contract.figure import Figure, FigureKind

Count = Annotated[int, Field(ge=0)]
Energy = Annotated[float, Field(ge=0)]
DB_PER_EXPONENT = 20 * math.log10(2)


class Sums(Value):
    """Sums over the elements of a reference r and an actual tensor a, with e = r - a, in float64.

    Each tensor is scaled by a power of two before squaring, so that 1e200 and 1e-200 neither overflow
    nor vanish: the true sum of r² is `ref_sq * 4**ref_exp`. Elements where either side is NaN or
    infinite are left out of the sums and counted per side. `Sums` of two batches, or of two outputs,
    add up to the sums of both together: decibels are never averaged.

    >>> half = Sums(n=1, ref_sq=1.0, actual_sq=0.81, ref_actual=0.9, err_sq=0.01, max_abs_err=0.1)
    >>> round((half + half).sqnr_db().value, 6), (half + half).n
    (20.0, 2)
    """

    n: Count = 0
    ref_sq: Energy = 0.0
    ref_exp: int = 0
    actual_sq: Energy = 0.0
    actual_exp: int = 0
    ref_actual: float = 0.0
    err_sq: Energy = 0.0
    err_exp: int = 0
    max_abs_err: Energy = 0.0
    nonfinite_ref: Count = 0
    nonfinite_actual: Count = 0

    def __add__(self, other: "Sums") -> "Sums":
        ref_sq, ref_exp = _add(self.ref_sq, self.ref_exp, other.ref_sq, other.ref_exp)
        actual_sq, actual_exp = _add(self.actual_sq, self.actual_exp, other.actual_sq, other.actual_exp)
        err_sq, err_exp = _add(self.err_sq, self.err_exp, other.err_sq, other.err_exp)
        cross = [
            math.ldexp(s.ref_actual, s.ref_exp + s.actual_exp - ref_exp - actual_exp) for s in (self, other)
        ]
        return Sums(
            n=self.n + other.n,
            ref_sq=ref_sq,
            ref_exp=ref_exp,
            actual_sq=actual_sq,
            actual_exp=actual_exp,
            ref_actual=sum(cross),
            err_sq=err_sq,
            err_exp=err_exp,
            max_abs_err=max(self.max_abs_err, other.max_abs_err),
            nonfinite_ref=self.nonfinite_ref + other.nonfinite_ref,
            nonfinite_actual=self.nonfinite_actual + other.nonfinite_actual,
        )

    def outcome(self) -> FigureKind:
        """Which kind a ratio of these sums is; of no element at all there is none."""
        if self.nonfinite_ref or self.nonfinite_actual:
            return FigureKind.NONFINITE
        if self.n == 0:
            return FigureKind.NOT_APPLICABLE
        if self.err_sq == 0:
            return FigureKind.EXACT
        if self.ref_sq == 0:
            return FigureKind.ZERO_REF
        return FigureKind.FINITE

    def sqnr_db(self) -> Figure:
        """Signal to quantization noise ratio, 20·log10(‖r‖ / ‖r − a‖), in dB.

        Source: Jacob et al., arXiv:1712.05877; the ratio of signal to noise energy in decibels.
        """
        kind = self.outcome()
        if kind is not FigureKind.FINITE:
            return Figure.of(kind)
        ratio_db = 10 * (math.log10(self.ref_sq) - math.log10(self.err_sq))
        return Figure.finite(ratio_db + DB_PER_EXPONENT * (self.ref_exp - self.err_exp))

    def relative_l2(self) -> Figure:
        """‖r − a‖ / ‖r‖, without unit: 30 dB is 0.0316."""
        kind = self.outcome()
        if kind is FigureKind.EXACT:
            return Figure.finite(0.0)
        if kind is not FigureKind.FINITE:
            return Figure.of(kind)
        return _finite_ldexp(math.sqrt(self.err_sq) / math.sqrt(self.ref_sq), self.err_exp - self.ref_exp)

    def mse(self) -> Figure:
        """Σe² / n, in squared units of the output."""
        if (kind := self.outcome()) in {FigureKind.NONFINITE, FigureKind.NOT_APPLICABLE}:
            return Figure.of(kind)
        return _finite_ldexp(self.err_sq / self.n, 2 * self.err_exp)

    def cosine(self) -> Figure:
        """Σr·a / (‖r‖·‖a‖), in [-1, 1]; blind to a wrong scale, so never a headline."""
        if self.outcome() is FigureKind.NONFINITE:
            return Figure.of(FigureKind.NONFINITE)
        if not self.ref_sq or not self.actual_sq:
            return Figure.of(FigureKind.ZERO_REF if not self.ref_sq else FigureKind.NOT_APPLICABLE)
        cosine = self.ref_actual / (math.sqrt(self.ref_sq) * math.sqrt(self.actual_sq))
        return Figure.finite(max(-1.0, min(1.0, cosine)))

    @property
    def zero_output(self) -> bool:
        """The actual tensor is zero throughout: a decibel beside it means nothing."""
        return self.n > 0 and self.actual_sq == 0 and not self.nonfinite_actual


def _add(a_sq: float, a_exp: int, b_sq: float, b_exp: int) -> tuple[float, int]:
    """Add two energies at the larger scale of the two that are not zero."""
    exponent = max((exp for sq, exp in ((a_sq, a_exp), (b_sq, b_exp)) if sq), default=0)
    return sum(
        math.ldexp(sq, 2 * (exp - exponent)) for sq, exp in ((a_sq, a_exp), (b_sq, b_exp)) if sq
    ), exponent


def _finite_ldexp(value: float, exponent: int) -> Figure:
    try:
        return Figure.finite(math.ldexp(value, exponent))
    except OverflowError:
        return Figure.of(FigureKind.NOT_APPLICABLE)  # larger than any float64
