"""The formulas of affine quantization: by hand, and against torch's autograd in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisefloor_workers.numerics import affine


def fake_quantized(x: list[float], *, scale: float, zero_point: int, low: int, high: int) -> list[float]:
    qparams = {"scale": torch.tensor([scale]), "zero_point": torch.tensor([zero_point])}
    codes = affine.codes(torch.tensor(x), **qparams).clamp(low, high)
    real: list[float] = affine.dequantized(codes, **qparams).tolist()
    return real


@pytest.mark.parametrize(
    ("x", "scale", "zero_point", "expected"),
    [
        ([0.5, 1.5, 2.5, -0.5], 1.0, 0, [0.0, 2.0, 2.0, 0.0]),  # half to even, on both sides of zero
        ([0.5, 1.5], 1.0, 3, [0.0, 2.0]),  # the zero point is added after rounding
        ([0.75, 0.8, -0.25], 0.5, 4, [1.0, 1.0, 0.0]),
        ([7.4, 7.5, 8.5, 100.0], 1.0, 0, [7.0, 7.0, 7.0, 7.0]),
        ([-3.4, -3.6, -100.0], 1.0, 3, [-3.0, -3.0, -3.0]),
    ],
)
def test_rounding_zero_point_and_clamp_by_hand(
    x: list[float], scale: float, zero_point: int, expected: list[float]
) -> None:
    assert fake_quantized(x, scale=scale, zero_point=zero_point, low=0, high=7) == expected


def test_gradients_by_hand() -> None:
    x = torch.tensor([-9.0, -0.25, 0.5, 1.0, 9.0])
    by_input, by_scale, by_zero_point = affine.gradients(
        torch.tensor([1.0, 2.0, 1.0, 1.0, 3.0]),
        x,
        scale=torch.tensor([0.5]),
        zero_point=torch.tensor([2]),
        low=0,
        high=7,
    )
    assert by_input.tolist() == [0.0, 2.0, 1.0, 1.0, 0.0]
    # below: 1·(0 - 2); -0.25 is a tie that goes to zero: 2·(0 + 0.25)/0.5; exact: 0, 0; above: 3·(7 - 2)
    assert by_scale.tolist() == [-2.0 + 1.0 + 15.0]
    assert by_zero_point.tolist() == [-0.5 * (1.0 + 3.0)]


class Straight(torch.autograd.Function):
    """Rounding, whose gradient is passed straight through."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        del ctx
        return x.round()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        del ctx
        return gradients[0]


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scale=st.floats(0.01, 10),
    zero_point=st.integers(-8, 7),
    shape=st.sampled_from([(3, 5), (1, 3, 2, 2)]),
)
def test_gradients_are_those_of_autograd(
    seed: int, scale: float, zero_point: int, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=generator) * 8 * scale).double().requires_grad_()
    upstream = torch.randn(shape, generator=generator).double()
    across = [1] * len(shape)
    across[1] = shape[1]
    s = (torch.rand(across, generator=generator).double() * scale + scale).requires_grad_()
    z = torch.full(across, float(zero_point)).double().requires_grad_()

    real = ((Straight.apply(x / s) + z).clamp(-8, 7) - z) * s  # type: ignore[no-untyped-call]
    expected = torch.autograd.grad(real, [x, s, z], upstream)

    found = affine.gradients(upstream, x, scale=s, zero_point=z, low=-8, high=7)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_float32_beside_a_tie_is_no_tie() -> None:
    tie = torch.tensor([2.5, -3.5]) * 0.375
    beside = tie.nextafter(torch.tensor(torch.inf))
    assert affine.ties(tie, scale=torch.tensor([0.375])).all()
    assert not affine.ties(beside, scale=torch.tensor([0.375])).any()
