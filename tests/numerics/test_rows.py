import math
import sys
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisefloor_workers.numerics.accumulate import accumulate, sqnr_db

NAN, INF = math.nan, math.inf

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**31)


def noisy(
    seed: int, *shape: int, noise: float = 0.01, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ref = torch.randn(*shape, generator=generator, dtype=torch.float64)
    actual = ref + noise * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return ref.to(dtype), actual.to(dtype)


def exactly(value: float, exponent: int) -> Fraction:
    return Fraction(value) * Fraction(2) ** exponent


@settings(deadline=None)
@given(seeds, sizes, st.integers(-900, 900))
def test_a_power_of_two_on_both_sides_changes_no_bit(seed: int, size: int, k: int) -> None:
    ref, actual = noisy(seed, size)
    # far enough from the subnormals that scaling is exact for every element
    assume(float(torch.stack([ref, actual, ref - actual]).abs().min()) > 2.0**-60)
    plain = accumulate(ref=ref, actual=actual)
    scaled = accumulate(ref=ref * 2.0**k, actual=actual * 2.0**k)
    assert (scaled.ref_sq, scaled.actual_sq, scaled.err_sq) == (plain.ref_sq, plain.actual_sq, plain.err_sq)
    assert scaled.ref_actual == plain.ref_actual
    assert (scaled.ref_exp, scaled.actual_exp, scaled.err_exp) == (
        plain.ref_exp + k,
        plain.actual_exp + k,
        plain.err_exp + k,
    )


@pytest.mark.parametrize(
    ("magnitude", "dtype"),
    [
        (1e25, torch.float32),
        (1e-25, torch.float32),
        (1e25, torch.float64),
        (1e-25, torch.float64),
        (1e200, torch.float64),
        (1e-200, torch.float64),
    ],
)
def test_squares_neither_overflow_nor_vanish(magnitude: float, dtype: torch.dtype) -> None:
    ref = torch.tensor([3.0, 4.0], dtype=dtype) * magnitude
    actual = torch.tensor([3.0, 3.5], dtype=dtype) * magnitude
    sums = accumulate(ref=ref, actual=actual)
    assert sums.sqnr_db().value == pytest.approx(20.0, abs=1e-5)
    assert sums.relative_l2().value == pytest.approx(0.1, rel=1e-6)
    assert sums.max_abs_err == pytest.approx(0.5 * magnitude, rel=1e-6)


def test_an_error_far_below_the_reference_is_not_taken_for_exact() -> None:
    ref = torch.tensor([1e200, 1e-200], dtype=torch.float64)
    actual = torch.tensor([1e200, 0.0], dtype=torch.float64)
    assert sqnr_db(ref=ref, actual=actual).value == pytest.approx(8000.0)


def test_an_error_of_one_subnormal_is_measured() -> None:
    ref = torch.tensor([1.0, 5e-324], dtype=torch.float64)
    actual = torch.tensor([1.0, 0.0], dtype=torch.float64)
    sums = accumulate(ref=ref, actual=actual)
    assert exactly(sums.err_sq, 2 * sums.err_exp) == Fraction(5e-324) ** 2
    assert sums.sqnr_db().value == pytest.approx(20 * 1074 * math.log10(2))


def test_a_difference_beyond_float64_does_not_overflow() -> None:
    top = sys.float_info.max
    sums = accumulate(
        ref=torch.tensor([top], dtype=torch.float64), actual=torch.tensor([-top], dtype=torch.float64)
    )
    assert sums.sqnr_db().value == pytest.approx(20 * math.log10(0.5))
    assert exactly(sums.err_sq, 2 * sums.err_exp) / Fraction(top) ** 2 == pytest.approx(4)
    assert sums.max_abs_err == top


def test_the_difference_is_taken_in_float64() -> None:
    # in float16, 2048 - 0.25 is 2048: subtracting before widening would lose the quarter
    ref = torch.tensor([2048.0], dtype=torch.float16)
    actual = torch.tensor([0.25], dtype=torch.float16)
    assert accumulate(ref=ref, actual=actual).max_abs_err == 2047.75


def test_nonfinite_elements_are_counted_per_side_and_left_out() -> None:
    ref = torch.tensor([3.0, NAN, INF, 4.0, 1.0])
    actual = torch.tensor([3.0, NAN, 1.0, 3.5, -INF])
    sums = accumulate(ref=ref, actual=actual)
    assert (sums.n, sums.nonfinite_ref, sums.nonfinite_actual) == (2, 2, 2)
    counted = accumulate(ref=ref[[0, 3]], actual=actual[[0, 3]])
    assert sums.replace(nonfinite_ref=0, nonfinite_actual=0) == counted


def test_a_faint_output_is_not_flagged_as_zero() -> None:
    faint = torch.full((4,), 1e-300, dtype=torch.float64)
    assert not accumulate(ref=faint, actual=faint).zero_output


@settings(deadline=None)
@given(seeds, sizes)
def test_cosine_agrees_with_torch_and_stays_blind_to_scale(seed: int, size: int) -> None:
    ref, actual = noisy(seed, size, noise=1.0)
    expected = float(torch.nn.functional.cosine_similarity(ref, actual, dim=0, eps=0.0))
    assert accumulate(ref=ref, actual=actual).cosine().value == pytest.approx(expected, abs=1e-9)
    assert accumulate(ref=ref, actual=actual * 1e100).cosine().value == pytest.approx(expected, abs=1e-9)
