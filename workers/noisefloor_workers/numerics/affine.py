"""Affine quantization in float64, as published: the oracle of operators. No quantized tensors here.

Scales and zero points have a shape that broadcasts to the input's. With float32 x and s and a whole z, codes
within ±2^27 are exact: the quotient is then no nearer to a tie than float64 tells.
"""

import torch
from torch import Tensor


def codes(x: Tensor, *, scale: Tensor, zero_point: Tensor) -> Tensor:
    """The codes round(x/s) + z before they are clamped; round half to even. Shape: that of x; float64.

    Source: torch's documentation of `fake_quantize_per_tensor_affine`; Jacob et al., arXiv:1712.05877.

    >>> codes(torch.tensor([0.5, 1.5]), scale=torch.ones(1), zero_point=torch.tensor([3])).tolist()
    [3.0, 5.0]
    """
    return (x.double() / scale.double()).round() + zero_point.double()


def dequantized(q: Tensor, *, scale: Tensor, zero_point: Tensor) -> Tensor:
    """(q − z)·s, in float64.

    >>> dequantized(torch.tensor([3]), scale=torch.tensor([0.5]), zero_point=torch.tensor([1])).tolist()
    [1.0]
    """
    return (q.double() - zero_point.double()) * scale.double()


def gradients(
    upstream: Tensor, x: Tensor, *, scale: Tensor, zero_point: Tensor, low: int, high: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x̂ = (clamp(q, low, high) − z)·s by x, s and z, for an upstream gradient g; float64.

    With q the code before it is clamped, rounding passed straight through (Bengio et al., arXiv:1308.3432):
    by x: g inside low ≤ q ≤ high, and 0 outside. By s: g·(x̂ − x)/s inside, g·(low − z) below, g·(high − z)
    above (LSQ, Esser et al., arXiv:1902.08153). By z: 0 inside, −g·s outside (LSQ+, Bhalgat et al.,
    arXiv:2004.09576). The last two are summed over all that shares a scale, and have its shape.
    Torch's: aten/src/ATen/native/quantized/FakeQuantPerTensorAffine.cpp, FakeQuantPerChannelAffine.cpp.

    >>> one = torch.ones(1)
    >>> by = gradients(one, torch.tensor([9.0]), scale=one, zero_point=one * 2, low=0, high=7)
    >>> [gradient.item() for gradient in by]
    [0.0, 5.0, -1.0]
    """
    upstream, x, scale, zero_point = (t.double() for t in (upstream, x, scale, zero_point))
    q = codes(x, scale=scale, zero_point=zero_point)
    clamped = q.clamp(low, high)
    inside = q == clamped
    error = (dequantized(clamped, scale=scale, zero_point=zero_point) - x) / scale
    by_scale = upstream * torch.where(inside, error, clamped - zero_point)
    by_zero_point = upstream * torch.where(inside, 0.0, -scale)
    return upstream * inside, by_scale.sum_to_size(scale.shape), by_zero_point.sum_to_size(scale.shape)


def ties(x: Tensor, *, scale: Tensor) -> Tensor:
    """Where x/s lies exactly half-way between two whole numbers; bool, of the shape of x.

    >>> ties(torch.tensor([0.5, 0.75, -1.5]), scale=torch.ones(1)).tolist()
    [True, False, True]
    """
    x, scale = x.double(), scale.double()
    half = (x / scale).floor() + 0.5
    return half * scale == x
