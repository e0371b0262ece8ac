import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor_workers.numerics.accumulate import sqnr_db

NAN, INF = math.nan, math.inf
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]

sizes = st.integers(1, 40)
seeds = st.integers(0, 2**31)


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


@settings(deadline=None)
@given(seeds, sizes, st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_sqnr_agrees_with_torch_norms_in_float64(seed: int, size: int, dtype: torch.dtype) -> None:
    ref, actual = noisy(seed, size, 3, noise=0.3, dtype=dtype)
    assert sqnr_db(ref=ref, actual=actual).value == pytest.approx(oracle_db(ref, actual), rel=1e-12, abs=1e-9)


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, *FLOAT8])
def test_narrow_floats_are_widened_before_squaring(dtype: torch.dtype) -> None:
    # 300² is beyond float16, and 256 and 320 are exact in every one of these
    ref, actual = torch.tensor([256.0, 256.0]).to(dtype), torch.tensor([256.0, 320.0]).to(dtype)
    assert sqnr_db(ref=ref, actual=actual).value == pytest.approx(20 * math.log10(math.sqrt(2) * 4))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_quantized_tensor_counts_as_its_dequantized_values() -> None:
    ref = torch.tensor([3.0, 4.0])
    actual = torch.quantize_per_tensor(torch.tensor([3.0, 3.5]), 0.5, 0, torch.quint8)
    assert sqnr_db(ref=ref, actual=actual).value == pytest.approx(20.0)


def test_a_scalar_and_a_tensor_that_needs_grad_are_measured() -> None:
    ref = torch.tensor(10.0, requires_grad=True)
    assert sqnr_db(ref=ref, actual=torch.tensor(9.0)).value == pytest.approx(20.0)


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
