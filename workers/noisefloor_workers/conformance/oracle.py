"""Exact integer arithmetic, and the judgement of codes against it. No quantized tensors here.

The products and sums are int64. Scales have short mantissas (see `draw`), so that the product of an
accumulator and its scales is exact in float64 and a tie is known to be one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

Sizes = tuple[int, ...]

# Roundings of float32 that the documented requantization may take, in units of 2**-24 of its largest term
FLOAT32_ROUNDINGS = 8
FLOAT32_UNIT = 2.0**-24


@dataclass(frozen=True, kw_only=True)
class Exact:
    """The exact result in units of the output's step, before rounding, zero point included.

    `real` float64; `magnitude` float64 of the same shape: the largest term in its float32 arithmetic, which
    says how far from a tie rounding may still go either way. Codes are clamped to `low`..`high`.
    """

    real: Tensor
    magnitude: Tensor
    low: float = 0
    high: float = 255

    @property
    def clamped(self) -> Tensor:
        return self.real.clamp(self.low, self.high)

    @property
    def codes(self) -> Tensor:
        """Round half to even, clamped; int64.

        >>> Exact(real=torch.tensor([0.5, 1.5, 300.0]).double(), magnitude=torch.zeros(3)).codes.tolist()
        [0, 2, 255]
        """
        return self.clamped.round().long()

    @property
    def slack(self) -> Tensor:
        """How far float32 may move the result, in steps of the output."""
        return FLOAT32_ROUNDINGS * FLOAT32_UNIT * self.magnitude


def requantized(
    real: Tensor, *, scale: float, zero_point: int, bias: Tensor | None = None, relu: bool = False
) -> Exact:
    """Real results, to which a bias is added, in steps of the output; relu clamps at the zero point.

    >>> requantized(torch.tensor([-3.0]).double(), scale=0.5, zero_point=10).codes.tolist()
    [4]
    """
    added = torch.zeros((), dtype=torch.float64) if bias is None else bias.double()
    return Exact(
        real=(real + added) / scale + zero_point,
        magnitude=(real.abs() + added.abs()) / scale + zero_point + 1,
        low=zero_point if relu else 0,
    )


def linear(x: Tensor, w: Tensor) -> Tensor:
    """Σ x·w over the last axis; x [..., in], w [out, in], both int64.

    >>> linear(torch.tensor([[1, 2]]), torch.tensor([[3, 4]])).tolist()
    [[11]]
    """
    return x @ w.T


def convolution(
    x: Tensor, w: Tensor, *, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """The convolution of x [batch, in, *image] with w [out, in / groups, *kernel], int64.

    One product of matrices for each place in the kernel.
    """
    kernel = w.shape[2:]
    x = functional.pad(x, [side for p in reversed(padding) for side in (p, p)])
    image = _image(x, kernel, stride=stride, dilation=dilation)
    out = torch.zeros(x.shape[0], w.shape[0], *image, dtype=torch.int64)
    for place, weights in zip(_places(kernel), w.flatten(2).unbind(-1), strict=True):
        seen = x[_seen(place, image, stride=stride, dilation=dilation)]
        out += _by_group(seen, weights.chunk(groups), groups)
    return out


def transposed_convolution(
    x: Tensor,
    w: Tensor,
    *,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """The transposed convolution of x [batch, in, *image] with w [in, out / groups, *kernel], int64.

    Each value is spread over the output as the kernel lies; padding is cut off at the end.
    """
    kernel, image = w.shape[2:], x.shape[2:]
    full = tuple(
        (n - 1) * s + d * (k - 1) + 1 + o
        for n, s, d, k, o in zip(image, stride, dilation, kernel, output_padding, strict=True)
    )
    out = torch.zeros(x.shape[0], w.shape[1] * groups, *full, dtype=torch.int64)
    for place, weights in zip(_places(kernel), w.flatten(2).unbind(-1), strict=True):
        spread = _by_group(x, [part.T for part in weights.chunk(groups)], groups)
        out[_seen(place, image, stride=stride, dilation=dilation)] += spread
    return out[(slice(None), slice(None), *(slice(p, n - p) for p, n in zip(padding, full, strict=True)))]


def windows(x: Tensor, *, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, fill: int) -> Tensor:
    """What each place of a kernel sees of x [batch, channels, *image]: [places, batch, channels, *out]."""
    x = functional.pad(x, [side for p in reversed(padding) for side in (p, p)], value=fill)
    image = _image(x, kernel, stride=stride, dilation=dilation)
    places = _places(kernel)
    return torch.stack([x[_seen(place, image, stride=stride, dilation=dilation)] for place in places])


def adaptive_means(x: Tensor, out: Sizes) -> Tensor:
    """Means of x [batch, channels, *image] over windows from floor(i·n/out) to ceil((i+1)·n/out); float64."""
    means = x.double()
    for dim, (length, count) in enumerate(zip(x.shape[2:], out, strict=True), start=2):
        parts = [
            means.narrow(dim, i * length // count, -(-(i + 1) * length // count) - i * length // count)
            for i in range(count)
        ]
        means = torch.stack([part.mean(dim) for part in parts], dim)
    return means


def _places(kernel: Sizes) -> Iterator[Sizes]:
    return product(*map(range, kernel))


def _image(x: Tensor, kernel: Sizes, *, stride: Sizes, dilation: Sizes) -> Sizes:
    """The lengths of what a kernel makes of a padded x."""
    each = zip(x.shape[2:], dilation, kernel, stride, strict=True)
    return tuple((n - d * (k - 1) - 1) // s + 1 for n, d, k, s in each)


def _seen(place: Sizes, image: Sizes, *, stride: Sizes, dilation: Sizes) -> tuple[slice, ...]:
    """Where a place of the kernel lies, for all of an image's elements."""
    each = zip(place, dilation, stride, image, strict=True)
    return (slice(None), slice(None), *(slice(p * d, p * d + s * (n - 1) + 1, s) for p, d, s, n in each))


def _by_group(x: Tensor, weights: Sequence[Tensor], groups: int) -> Tensor:
    """Each group's channels of x [batch, in, *image] through its weights [out / groups, in / groups]."""
    parts = (
        torch.einsum("bi...,oi->bo...", part, weight)
        for part, weight in zip(x.chunk(groups, 1), weights, strict=True)
    )
    return torch.cat(list(parts), 1)
