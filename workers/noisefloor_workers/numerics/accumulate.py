"""From two tensors to their sums, and to one figure."""

from torch import Tensor

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.sums import Sums
from noisefloor_workers.numerics.comparable import as_float64, difference, is_measurable
from noisefloor_workers.numerics.rows import row_sums


def accumulate(*, ref: Tensor, actual: Tensor) -> Sums:
    """The sums Σr², Σa², Σr·a, Σe², max|e| with e = r - a, over all elements, in float64.

    Shapes: equal, any number of dimensions, empty too (n = 0). Dtypes: floating point (16-bit and
    8-bit ones too), complex (real and imaginary part count as two elements) and quantized; each is
    converted to float64 before anything is subtracted. How overflow is avoided: see `row_sums`.
    Raises ValueError where the shapes differ, and for integers and bools.

    >>> import torch
    >>> sums = accumulate(ref=torch.tensor([3.0, 4.0]), actual=torch.tensor([3.0, 3.0]))
    >>> sums.ref_sq * 4.0**sums.ref_exp, sums.err_sq * 4.0**sums.err_exp, sums.max_abs_err
    (25.0, 1.0, 1.0)
    """
    if ref.shape != actual.shape:
        raise ValueError(difference(ref=ref, actual=actual))
    ref, actual = as_float64(ref), as_float64(actual)
    if not ref.numel():
        return Sums()
    return row_sums(ref=ref.reshape(1, -1), actual=actual.reshape(1, -1)).sums(0)


def sqnr_db(*, ref: Tensor, actual: Tensor) -> Figure:
    """Signal to quantization noise ratio of a tensor against its reference, in dB.

    Formula: 20·log10(‖ref‖ / ‖ref - actual‖), with Euclidean norms over all elements. It is not
    symmetric, hence keyword-only: the reference stands in the numerator.
    Shapes and dtypes: equal; nothing is broadcast or promoted. Accumulated in float64.
    Errors: none is raised for what the tensors hold; a figure that is no number says why by its kind:
    `exact` (no error), `zero_ref` (the reference alone is zero), `nonfinite` (NaN or infinity on
    either side), `not_applicable` (integers, bools, nothing to compare), `mismatch` (shape or dtype).
    Source: Jacob et al., arXiv:1712.05877; the ratio of signal to noise energy in decibels.

    >>> import torch
    >>> ref = torch.tensor([3.0, 4.0])
    >>> str(sqnr_db(ref=ref, actual=torch.tensor([3.0, 3.5])))
    '20.000'
    >>> str(sqnr_db(ref=ref, actual=ref))
    'exact'
    """
    if difference(ref=ref, actual=actual):
        return Figure.of(FigureKind.MISMATCH)
    if not is_measurable(ref):
        return Figure.of(FigureKind.NOT_APPLICABLE)
    return sqnr_db_of(accumulate(ref=ref, actual=actual))


def sqnr_db_of(sums: Sums) -> Figure:
    """The SQNR of sums in dB; `not_applicable` where no element was seen, since that is no agreement."""
    if not (sums.n or sums.nonfinite_ref or sums.nonfinite_actual):
        return Figure.of(FigureKind.NOT_APPLICABLE)
    return sums.sqnr_db()
