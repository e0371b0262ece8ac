"""How the error is spread over samples, over channels, and over quantization steps."""

import math

import torch
from torch import Tensor

from noisefloor.contract.measurement import Extreme, Spread
from noisefloor.contract.sums import DB_PER_EXPONENT
from noisefloor_workers.numerics.comparable import as_float64, difference
from noisefloor_workers.numerics.rows import RowSums, row_sums

LSB_CLIP = 8
SAMPLE_DIM, CHANNEL_DIM = 0, 1
LOW_PERCENT = 5
NDIM_WITH_CHANNELS = 2


def spread(*, ref: Tensor, actual: Tensor, step: float | None = None, batch: int | None = None) -> Spread:
    """The worst sample, the worst channel, the 5th percentile over samples, and the histogram of steps.

    Shapes: equal. Dim 0 holds samples where there are two dimensions or more and, if `batch` is given,
    dim 0 is that long; dim 1 holds channels where there are two dimensions or more. What an output
    does not have stays None, and so does all of it for an empty one. Dtypes: as for `accumulate`.
    `step`: the quantization step of the output, in its unit.
    Slices are ordered from worst to best: nonfinite, zero_ref, finite by dB, exact; the first of equals
    is the worst. `p5_sample_db` is the nearest rank, the ⌈0.05·samples⌉-th in that order.
    Raises ValueError where the shapes differ, for integers and bools, and for a step that is not
    positive and finite.

    >>> found = spread(ref=torch.ones(2, 2), actual=torch.tensor([[1.0, 1.0], [1.0, 1.5]]), step=0.25)
    >>> found.worst_sample.index, found.worst_channel.index, found.lsb
    (1, 1, {0: 3, 2: 1})
    """
    if ref.shape != actual.shape:
        raise ValueError(difference(ref=ref, actual=actual))
    if step is not None and not 0 < step < math.inf:
        raise ValueError(f"a quantization step is positive and finite, not {step}")
    has_slices = ref.ndim >= NDIM_WITH_CHANNELS
    has_samples = has_slices and batch in (None, ref.shape[SAMPLE_DIM])
    ref, actual = as_float64(ref), as_float64(actual)
    if not ref.numel():
        return Spread()
    samples = _slices(ref, actual, SAMPLE_DIM) if has_samples else None
    channels = _slices(ref, actual, CHANNEL_DIM) if has_slices else None
    return Spread(
        worst_sample=_extreme(samples, rank=1) if samples else None,
        worst_channel=_extreme(channels, rank=1) if channels else None,
        p5_sample_db=_extreme(samples, rank=_nearest_rank(len(samples.n))).sqnr_db if samples else None,
        lsb=_lsb(ref, actual, step) if step is not None else None,
    )


def _slices(ref: Tensor, actual: Tensor, dim: int) -> RowSums:
    ref, actual = (t.movedim(dim, 0).reshape(t.shape[dim], -1) for t in (ref, actual))
    return row_sums(ref=ref, actual=actual)


def _nearest_rank(count: int) -> int:
    """⌈5 % of count⌉, counted from 1."""
    return -(-LOW_PERCENT * count // 100)


def _extreme(rows: RowSums, *, rank: int) -> Extreme:
    """The row of that rank, counted from 1 at the worst."""
    index = int(_worst_first(rows)[rank - 1])
    return Extreme(index=index, sqnr_db=rows.sums(index).sqnr_db())


def _worst_first(rows: RowSums) -> Tensor:
    """The indices of the rows, from worst to best."""
    is_nonfinite = (rows.nonfinite_ref + rows.nonfinite_actual) > 0
    is_exact = (rows.err_sq == 0) & ~is_nonfinite
    is_zero_ref = (rows.ref_sq == 0) & ~is_exact & ~is_nonfinite
    is_finite = ~(is_nonfinite | is_zero_ref | is_exact)
    exponent = (rows.ref_exp - rows.err_exp).to(torch.float64)
    ratio_db = 10 * (rows.ref_sq.log10() - rows.err_sq.log10()) + DB_PER_EXPONENT * exponent
    by_db = torch.where(is_finite, ratio_db, 0.0).argsort(stable=True)
    kind_rank = is_zero_ref * 1 + is_finite * 2 + is_exact * 3
    return by_db[kind_rank[by_db].argsort(stable=True)]


def _lsb(ref: Tensor, actual: Tensor, step: float) -> dict[int, int]:
    """How many elements differ by how many steps: rounded half to even, clipped to ±LSB_CLIP."""
    counted = ref.isfinite() & actual.isfinite()
    steps = ((actual - ref)[counted] / step).round().clamp(-LSB_CLIP, LSB_CLIP).to(torch.int64)
    counts = torch.bincount(steps + LSB_CLIP, minlength=2 * LSB_CLIP + 1)
    return {index - LSB_CLIP: count for index, count in enumerate(counts.tolist()) if count}
