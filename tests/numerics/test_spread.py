import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor_workers.numerics.accumulate import sqnr_db
from noisefloor_workers.numerics.spread import spread

SEVERITY = [FigureKind.NONFINITE, FigureKind.ZERO_REF, FigureKind.FINITE, FigureKind.EXACT]


def badness(figure: Figure) -> tuple[int, float]:
    return SEVERITY.index(figure.kind), figure.value or 0.0


def oracle_worst_first(ref: Tensor, actual: Tensor, dim: int) -> list[tuple[int, Figure]]:
    """Slice by slice with the public metric, sorted by Python."""
    figures = [sqnr_db(ref=ref.select(dim, i), actual=actual.select(dim, i)) for i in range(ref.shape[dim])]
    return sorted(enumerate(figures), key=lambda pair: badness(pair[1]))


def samples_of_kinds(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Samples of every outcome and of magnitudes from 1e-200 to 1e200."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(0, 8, (count,), generator=generator)
    ref = torch.randn(count, 3, 4, generator=generator, dtype=torch.float64)
    ref *= 10.0 ** torch.randint(-200, 200, (count, 1, 1), generator=generator).double()
    noise = 10.0 ** -(6 * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64))
    actual = ref * (1 + noise * torch.randn(count, 3, 4, generator=generator, dtype=torch.float64))
    ref[kinds == 0] = 0.0
    actual[kinds == 1] = ref[kinds == 1]
    actual[kinds == 2, 0, 1] = math.nan
    return ref, actual


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60))
def test_slices_rank_as_the_metric_ranks_them_one_by_one(seed: int, count: int) -> None:
    ref, actual = samples_of_kinds(seed, count)
    found = spread(ref=ref, actual=actual)
    for extreme, dim in ((found.worst_sample, 0), (found.worst_channel, 1)):
        index, figure = oracle_worst_first(ref, actual, dim)[0]
        assert extreme is not None
        assert extreme.index == index
        assert badness(extreme.sqnr_db) == pytest.approx(badness(figure), rel=1e-12)
    _, expected = oracle_worst_first(ref, actual, 0)[math.ceil(count / 20) - 1]
    assert found.p5_sample_db is not None
    assert badness(found.p5_sample_db) == pytest.approx(badness(expected), rel=1e-12)


def test_the_order_is_nonfinite_then_zero_ref_then_finite_then_exact() -> None:
    ref = torch.ones(4, 2)
    actual = ref.clone()
    indices = []
    for index, change in ((0, "finite"), (2, "zero_ref"), (3, "nonfinite")):
        if change == "zero_ref":
            ref[index] = 0.0
        actual[index] = math.inf if change == "nonfinite" else 0.5
        worst = spread(ref=ref, actual=actual).worst_sample
        assert worst is not None
        indices.append((worst.index, worst.sqnr_db.kind.value))
    assert indices == [(0, "finite"), (2, "zero_ref"), (3, "nonfinite")]


@pytest.mark.parametrize(("count", "rank"), [(1, 1), (20, 1), (21, 2), (40, 2), (41, 3), (100, 5)])
def test_the_fifth_percentile_is_the_nearest_rank(count: int, rank: int) -> None:
    # sample i errs by 1/(i+1) of its reference, so the k-th worst has 20·log10(k) dB
    ref = torch.ones(count, 2, dtype=torch.float64)
    actual = ref - 1 / torch.arange(1, count + 1, dtype=torch.float64)[:, None]
    found = spread(ref=ref, actual=actual).p5_sample_db
    assert found is not None
    assert found.value == pytest.approx(20 * math.log10(rank), abs=1e-9)


def test_exact_samples_count_as_the_best() -> None:
    ref = torch.ones(30, 2)
    actual = ref.clone()
    actual[7] = 0.5
    found = spread(ref=ref, actual=actual)
    assert found.worst_sample is not None
    assert found.worst_sample.index == 7
    assert found.p5_sample_db == Figure.of(FigureKind.EXACT)


def test_the_worst_channel_is_found_along_dim_one() -> None:
    ref = torch.ones(2, 3, 4, 4)
    actual = ref.clone()
    actual[:, 2] += 0.1
    actual[0, 0, 0, 0] += 0.2
    found = spread(ref=ref, actual=actual).worst_channel
    assert found is not None
    assert found.index == 2
    assert found.sqnr_db.value == pytest.approx(20.0, abs=1e-4)


def test_a_tiny_slice_beside_a_huge_one_keeps_its_own_figure() -> None:
    ref = torch.tensor([[1.7e308, 1.7e308], [5e-324, 5e-324], [1e-25, 1e-25]], dtype=torch.float64)
    actual = torch.tensor([[-1.7e308, 1.7e308], [0.0, 5e-324], [1e-25, 1e-25]], dtype=torch.float64)
    found = spread(ref=ref, actual=actual)
    assert found.worst_sample is not None
    assert found.worst_sample.sqnr_db.value == pytest.approx(20 * math.log10(math.sqrt(2) / 2))
    tiny = spread(ref=ref[[1, 2]], actual=actual[[1, 2]]).worst_sample
    assert tiny is not None
    assert tiny.sqnr_db.value == pytest.approx(20 * math.log10(math.sqrt(2)))


@pytest.mark.parametrize("magnitude", [1e25, 1e-25])
def test_extreme_magnitudes_leave_the_ranking_alone(magnitude: float) -> None:
    ref = torch.full((3, 2), magnitude)
    actual = ref * torch.tensor([0.99, 0.9, 0.999])[:, None]
    found = spread(ref=ref, actual=actual).worst_sample
    assert found is not None
    assert found.index == 1
    assert found.sqnr_db.value == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize("exponent", range(600, 606))
def test_close_figures_at_large_exponents_are_told_apart(exponent: int) -> None:
    # The errors lie on either side of a power of two, 1e-5 dB apart above 3612 dB: float32 is too coarse.
    scale = 2.0**-exponent
    ref = torch.ones(2, 2, dtype=torch.float64)
    ref[:, 1] = scale
    actual = ref.clone()
    actual[0, 1] = 1e-6 * scale
    actual[1, 1] = 0.0
    for order in ([0, 1], [1, 0]):
        found = spread(ref=ref[order], actual=actual[order]).worst_sample
        assert found is not None
        assert found.index == order.index(1)


def test_one_dimension_has_neither_samples_nor_channels() -> None:
    found = spread(ref=torch.ones(3), actual=torch.zeros(3))
    assert (found.worst_sample, found.worst_channel, found.p5_sample_db) == (None, None, None)


def test_complex_parts_are_no_channels() -> None:
    found = spread(ref=torch.ones(3, dtype=torch.complex64), actual=torch.zeros(3, dtype=torch.complex64))
    assert found.worst_channel is None


def test_dim_zero_is_no_sample_axis_when_it_is_not_the_batch() -> None:
    ref, actual = torch.ones(3, 2), torch.zeros(3, 2)
    found = spread(ref=ref, actual=actual, batch=4)
    assert (found.worst_sample, found.p5_sample_db) == (None, None)
    assert found.worst_channel is not None
    assert spread(ref=ref, actual=actual, batch=3).worst_sample is not None


def test_an_empty_output_has_no_spread() -> None:
    found = spread(ref=torch.ones(0, 3), actual=torch.ones(0, 3), step=0.1)
    assert (found.worst_sample, found.worst_channel, found.p5_sample_db, found.lsb) == (
        None,
        None,
        None,
        None,
    )


def test_differences_are_counted_in_steps_with_their_sign() -> None:
    ref = torch.zeros(6)
    actual = torch.tensor([0.0, 0.5, -0.5, 1.0, 0.1, 100.0])
    assert spread(ref=ref, actual=actual, step=0.5).lsb == {-1: 1, 0: 2, 1: 1, 2: 1, 8: 1}


def test_the_histogram_clips_and_leaves_out_what_is_not_finite() -> None:
    ref = torch.tensor([0.0, 0.0, math.nan, 1.7e308, 0.0], dtype=torch.float64)
    actual = torch.tensor([-9.0, math.inf, 0.0, -1.7e308, 8.4], dtype=torch.float64)
    assert spread(ref=ref, actual=actual, step=1.0).lsb == {-8: 2, 8: 1}


@settings(deadline=None)
@given(st.lists(st.integers(-30, 30), min_size=1, max_size=50), st.sampled_from([0.25, 0.1, 1e-25, 1e25]))
def test_every_finite_element_is_in_the_histogram_once(steps: list[int], step: float) -> None:
    actual = torch.tensor(steps, dtype=torch.float64) * step
    expected: dict[int, int] = {}
    for value in steps:
        clipped = max(-8, min(8, value))
        expected[clipped] = expected.get(clipped, 0) + 1
    assert spread(ref=torch.zeros_like(actual), actual=actual, step=step).lsb == expected


def test_without_a_step_there_is_no_histogram() -> None:
    assert spread(ref=torch.ones(2, 2), actual=torch.ones(2, 2)).lsb is None


@pytest.mark.parametrize("step", [0.0, -0.1, math.nan, math.inf])
def test_a_step_is_positive_and_finite(step: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        spread(ref=torch.ones(2), actual=torch.ones(2), step=step)


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match="shape"):
        spread(ref=torch.ones(2, 3), actual=torch.ones(1, 3))
