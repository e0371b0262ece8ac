import math
import sys
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.sums import Sums
from noisefloor_workers.numerics.accumulate import accumulate, sqnr_db

NAN, INF = math.nan, math.inf
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**31)
small_integers = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=1, max_size=30)


def noisy(
    seed: int, *shape: int, noise: float = 0.01, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ref = torch.randn(*shape, generator=generator, dtype=torch.float64)
    actual = ref + noise * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return ref.to(dtype), actual.to(dtype)


def oracle_db(ref: Tensor, actual: Tensor) -> float:
    ref, actual = ref.double(), actual.double()
    return float(20 * torch.log10(torch.linalg.vector_norm(ref) / torch.linalg.vector_norm(ref - actual)))


def exactly(value: float, exponent: int) -> Fraction:
    return Fraction(value) * Fraction(2) ** exponent


@settings(deadline=None)
@given(small_integers)
def test_sums_of_small_integers_are_exact(elements: list[tuple[int, int]]) -> None:
    ref = torch.tensor([float(r) for r, _ in elements])
    actual = torch.tensor([float(a) for _, a in elements])
    sums = accumulate(ref=ref, actual=actual)
    assert sums.n == len(elements)
    assert exactly(sums.ref_sq, 2 * sums.ref_exp) == sum(Fraction(r * r) for r, _ in elements)
    assert exactly(sums.actual_sq, 2 * sums.actual_exp) == sum(Fraction(a * a) for _, a in elements)
    assert exactly(sums.ref_actual, sums.ref_exp + sums.actual_exp) == sum(
        Fraction(r * a) for r, a in elements
    )
    assert exactly(sums.err_sq, 2 * sums.err_exp) == sum(Fraction((r - a) ** 2) for r, a in elements)
    assert sums.max_abs_err == max(abs(r - a) for r, a in elements)


@settings(deadline=None)
@given(seeds, sizes, st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_sqnr_agrees_with_torch_norms_in_float64(seed: int, size: int, dtype: torch.dtype) -> None:
    ref, actual = noisy(seed, size, 3, noise=0.3, dtype=dtype)
    assert sqnr_db(ref=ref, actual=actual).value == pytest.approx(oracle_db(ref, actual), rel=1e-12, abs=1e-9)


@settings(deadline=None)
@given(seeds, sizes, sizes, st.integers(-80, 80), st.integers(-80, 80))
def test_pooled_sums_equal_sums_of_the_concatenation(seed: int, n: int, m: int, k: int, j: int) -> None:
    (ref_1, actual_1), (ref_2, actual_2) = noisy(seed, n), noisy(seed + 1, m)
    ref_1, actual_1, ref_2, actual_2 = ref_1 * 2.0**k, actual_1 * 2.0**k, ref_2 * 2.0**j, actual_2 * 2.0**j
    pooled = accumulate(ref=ref_1, actual=actual_1) + accumulate(ref=ref_2, actual=actual_2)
    whole = accumulate(ref=torch.cat([ref_1, ref_2]), actual=torch.cat([actual_1, actual_2]))
    assert pooled.n == whole.n
    assert pooled.max_abs_err == whole.max_abs_err
    for sq, exp in (("ref_sq", "ref_exp"), ("actual_sq", "actual_exp"), ("err_sq", "err_exp")):
        shift = 2 * (getattr(pooled, exp) - getattr(whole, exp))
        assert math.ldexp(getattr(pooled, sq), shift) == pytest.approx(getattr(whole, sq), rel=1e-9)
    shift = pooled.ref_exp + pooled.actual_exp - whole.ref_exp - whole.actual_exp
    assert math.ldexp(pooled.ref_actual, shift) == pytest.approx(whole.ref_actual, rel=1e-9, abs=1e-12)


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


@settings(deadline=None)
@given(seeds, sizes, st.floats(1e-30, 1e30), st.sampled_from([1.0, -1.0]))
def test_sqnr_is_invariant_under_any_common_factor(seed: int, size: int, c: float, sign: float) -> None:
    ref, actual = noisy(seed, size)
    expected = sqnr_db(ref=ref, actual=actual)
    assert sqnr_db(ref=ref * c * sign, actual=actual * c * sign).value == pytest.approx(
        expected.value, abs=1e-6
    )


@settings(deadline=None)
@given(seeds, sizes, st.floats(1.5, 1e6))
def test_swapping_the_sides_shifts_the_figure_by_the_ratio_of_their_norms(
    seed: int, size: int, gain: float
) -> None:
    ref, actual = noisy(seed, size)
    ref = ref * gain
    forth, back = sqnr_db(ref=ref, actual=actual).value, sqnr_db(ref=actual, actual=ref).value
    norms_db = float(20 * torch.log10(torch.linalg.vector_norm(ref) / torch.linalg.vector_norm(actual)))
    assert forth is not None
    assert back is not None
    assert forth - back == pytest.approx(norms_db, abs=1e-9)
    assert forth != back


def test_dividing_by_the_norm_of_the_actual_tensor_gives_another_figure() -> None:
    ref, actual = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0])
    right = sqnr_db(ref=ref, actual=actual).value
    wrong = 20 * math.log10(1 / math.sqrt(18))
    assert right == pytest.approx(20 * math.log10(5 / math.sqrt(18)))
    assert right == pytest.approx(1.4267, abs=1e-3)
    assert wrong == pytest.approx(-12.5527, abs=1e-3)
    assert sqnr_db(ref=actual, actual=ref).value == pytest.approx(wrong)


def test_arguments_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        sqnr_db(torch.ones(2), torch.ones(2))  # type: ignore[misc]


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, *FLOAT8])
def test_narrow_floats_are_widened_before_squaring(dtype: torch.dtype) -> None:
    # 300² is beyond float16, and 256 and 320 are exact in every one of these
    ref, actual = torch.tensor([256.0, 256.0]).to(dtype), torch.tensor([256.0, 320.0]).to(dtype)
    assert sqnr_db(ref=ref, actual=actual).value == pytest.approx(20 * math.log10(math.sqrt(2) * 4))


def test_complex_parts_count_as_two_elements() -> None:
    ref, actual = torch.tensor([3.0 + 4.0j]), torch.tensor([3.0 + 3.5j])
    sums = accumulate(ref=ref, actual=actual)
    assert sums.n == 2
    assert sums.sqnr_db().value == pytest.approx(20.0)
    assert accumulate(ref=ref.conj(), actual=actual.conj()).sqnr_db() == sums.sqnr_db()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_quantized_tensor_counts_as_its_dequantized_values() -> None:
    ref = torch.tensor([3.0, 4.0])
    actual = torch.quantize_per_tensor(torch.tensor([3.0, 3.5]), 0.5, 0, torch.quint8)
    assert sqnr_db(ref=ref, actual=actual).value == pytest.approx(20.0)


def test_a_scalar_and_a_tensor_that_needs_grad_are_measured() -> None:
    ref = torch.tensor(10.0, requires_grad=True)
    assert sqnr_db(ref=ref, actual=torch.tensor(9.0)).value == pytest.approx(20.0)


def test_strides_do_not_matter() -> None:
    ref, actual = noisy(3, 5, 7)
    transposed = accumulate(ref=ref.t(), actual=actual.t().contiguous())
    assert transposed.sqnr_db().value == pytest.approx(accumulate(ref=ref, actual=actual).sqnr_db().value)


def test_an_empty_tensor_has_empty_sums_and_no_figure() -> None:
    empty = torch.empty(0, 3)
    assert accumulate(ref=empty, actual=empty) == Sums()
    assert sqnr_db(ref=empty, actual=empty).kind is FigureKind.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("ref", "actual", "kind"),
    [
        (torch.tensor([1.0]), torch.tensor([1.0]), FigureKind.EXACT),
        (torch.zeros(2), torch.zeros(2), FigureKind.EXACT),
        (torch.zeros(2), torch.tensor([0.0, 0.5]), FigureKind.ZERO_REF),
        (torch.tensor([NAN, 1.0]), torch.tensor([1.0, 1.0]), FigureKind.NONFINITE),
        (torch.tensor([1.0, 1.0]), torch.tensor([1.0, INF]), FigureKind.NONFINITE),
        (torch.tensor([INF]), torch.tensor([INF]), FigureKind.NONFINITE),
        (torch.tensor([1, 2]), torch.tensor([1, 2]), FigureKind.NOT_APPLICABLE),
        (torch.tensor([True]), torch.tensor([False]), FigureKind.NOT_APPLICABLE),
        (torch.ones(3, 1), torch.ones(3), FigureKind.MISMATCH),
        (torch.ones(3), torch.ones(1), FigureKind.MISMATCH),
        (torch.ones(3), torch.ones(3, dtype=torch.float16), FigureKind.MISMATCH),
        (torch.ones(3), torch.ones(3, dtype=torch.int64), FigureKind.MISMATCH),
    ],
)
def test_what_is_no_number_says_why(ref: Tensor, actual: Tensor, kind: FigureKind) -> None:
    assert sqnr_db(ref=ref, actual=actual) == Figure.of(kind)


def test_an_error_on_a_zero_reference_is_reported_by_its_largest() -> None:
    sums = accumulate(ref=torch.zeros(3), actual=torch.tensor([0.25, -0.5, 0.0]))
    assert (sums.max_abs_err, sums.mse().value) == (0.5, pytest.approx(0.3125 / 3))


def test_nonfinite_elements_are_counted_per_side_and_left_out() -> None:
    ref = torch.tensor([3.0, NAN, INF, 4.0, 1.0])
    actual = torch.tensor([3.0, NAN, 1.0, 3.5, -INF])
    sums = accumulate(ref=ref, actual=actual)
    assert (sums.n, sums.nonfinite_ref, sums.nonfinite_actual) == (2, 2, 2)
    counted = accumulate(ref=ref[[0, 3]], actual=actual[[0, 3]])
    assert sums.replace(nonfinite_ref=0, nonfinite_actual=0) == counted


def test_a_nonfinite_part_of_a_pool_makes_the_pool_nonfinite() -> None:
    fine = accumulate(ref=torch.ones(2), actual=torch.zeros(2))
    broken = accumulate(ref=torch.ones(1), actual=torch.tensor([NAN]))
    assert broken.n == 0
    assert (fine + broken).sqnr_db().kind is FigureKind.NONFINITE


def test_pooling_is_not_averaging_decibels() -> None:
    loud = (torch.full((100,), 1.0), torch.full((100,), 0.9))
    faint = (torch.full((100,), 1.0), torch.full((100,), 1.0 - 1e-4))
    each_db = [sqnr_db(ref=r, actual=a).value or 0.0 for r, a in (loud, faint)]
    pooled = accumulate(ref=loud[0], actual=loud[1]) + accumulate(ref=faint[0], actual=faint[1])
    whole = oracle_db(torch.cat([loud[0], faint[0]]), torch.cat([loud[1], faint[1]]))
    assert pooled.sqnr_db().value == pytest.approx(whole, abs=1e-9)
    assert whole == pytest.approx(23.01, abs=0.01)
    assert sum(each_db) / 2 == pytest.approx(50.0, abs=0.01)


def test_a_zero_output_is_flagged() -> None:
    sums = accumulate(
        ref=torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), actual=torch.zeros(4, 3)
    )
    assert sums.zero_output
    assert sums.sqnr_db().value == pytest.approx(0.0, abs=1e-12)


def test_two_zero_outputs_are_exact_and_flagged() -> None:
    sums = accumulate(ref=torch.zeros(4), actual=torch.zeros(4))
    assert sums.zero_output
    assert sums.sqnr_db().kind is FigureKind.EXACT


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


def test_accumulate_refuses_what_it_would_have_to_broadcast_or_promote() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 1\) in ref, \(3,\) in actual"):
        accumulate(ref=torch.ones(3, 1), actual=torch.ones(3))
    with pytest.raises(ValueError, match="int64"):
        accumulate(ref=torch.ones(3, dtype=torch.int64), actual=torch.ones(3, dtype=torch.int64))
