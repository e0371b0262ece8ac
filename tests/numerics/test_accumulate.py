import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.sums import Sums
from noisefloor_workers.numerics.accumulate import accumulate, sqnr_db

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


def test_complex_parts_count_as_two_elements() -> None:
    ref, actual = torch.tensor([3.0 + 4.0j]), torch.tensor([3.0 + 3.5j])
    sums = accumulate(ref=ref, actual=actual)
    assert sums.n == 2
    assert sums.sqnr_db().value == pytest.approx(20.0)
    assert accumulate(ref=ref.conj(), actual=actual.conj()).sqnr_db() == sums.sqnr_db()


def test_strides_do_not_matter() -> None:
    ref, actual = noisy(3, 5, 7)
    transposed = accumulate(ref=ref.t(), actual=actual.t().contiguous())
    assert transposed.sqnr_db().value == pytest.approx(accumulate(ref=ref, actual=actual).sqnr_db().value)


def test_an_empty_tensor_has_empty_sums_and_no_figure() -> None:
    empty = torch.empty(0, 3)
    assert accumulate(ref=empty, actual=empty) == Sums()
    assert sqnr_db(ref=empty, actual=empty).kind is FigureKind.NOT_APPLICABLE


def test_an_error_on_a_zero_reference_is_reported_by_its_largest() -> None:
    sums = accumulate(ref=torch.zeros(3), actual=torch.tensor([0.25, -0.5, 0.0]))
    assert (sums.max_abs_err, sums.mse().value) == (0.5, pytest.approx(0.3125 / 3))


def test_a_nonfinite_part_of_a_pool_makes_the_pool_nonfinite() -> None:
    fine = accumulate(ref=torch.ones(2), actual=torch.zeros(2))
    broken = accumulate(ref=torch.ones(1), actual=torch.tensor([math.nan]))
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


def test_accumulate_refuses_what_it_would_have_to_broadcast_or_promote() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 1\) in ref, \(3,\) in actual"):
        accumulate(ref=torch.ones(3, 1), actual=torch.ones(3))
    with pytest.raises(ValueError, match="int64"):
        accumulate(ref=torch.ones(3, dtype=torch.int64), actual=torch.ones(3, dtype=torch.int64))
