"""Against Apache Otava's own results, closed forms, and what must hold of any line."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisefloor.history.changepoints import change_points, compared, t_test_p

RECORDED = json.loads((Path(__file__).parent / "otava.json").read_text())["cases"]


@pytest.mark.parametrize("case", RECORDED, ids=[case["name"] for case in RECORDED])
def test_they_are_where_otava_finds_them(case: dict[str, list[float]]) -> None:
    found = change_points(case["values"], least_step=0.0)
    expected = case["change_points"]
    assert [split.index for split in found] == [one["index"] for one in expected]  # type: ignore[index]
    for split, one in zip(found, expected, strict=True):
        assert split.mean_before == pytest.approx(one["mean_before"])  # type: ignore[index]
        assert split.mean_after == pytest.approx(one["mean_after"])  # type: ignore[index]
        assert split.p_value == pytest.approx(one["p_value"], abs=1e-9)  # type: ignore[index]


@given(st.floats(0, 1e6))
def test_the_t_test_has_its_closed_forms(t: float) -> None:
    assert t_test_p(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), abs=1e-12)
    assert t_test_p(t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-12)


@pytest.mark.parametrize(
    ("freedom", "t"), [(3, 3.182), (4, 2.776), (10, 2.228), (29, 2.045), (30, 2.042), (120, 1.980)]
)
def test_the_t_test_gives_the_tables_5_percent(freedom: int, t: float) -> None:
    assert t_test_p(t, freedom) == pytest.approx(0.05, abs=5e-5)


def test_a_level_that_never_moved_shifts_with_its_first_other_figure() -> None:
    (split,) = change_points([41.496] * 20 + [38.282])
    assert (split.index, split.mean_before, split.mean_after) == (20, 41.496, 38.282)


def test_one_bad_result_among_noise_is_no_change_of_level() -> None:
    rng = random.Random(1)
    values = [rng.gauss(40, 0.1) for _ in range(60)]
    values[30] -= 5
    assert change_points(values) == []


def test_a_step_below_what_anybody_acts_on_is_left_out() -> None:
    assert change_points([41.5] * 20 + [41.46] * 20) == []
    assert len(change_points([41.5] * 20 + [41.44] * 20)) == 1
    swings = [41.5 + 0.03 * (-1) ** number - 0.04 * (number >= 24) for number in range(48)]
    assert len(change_points(swings, least_step=0.0)) == 1
    assert change_points(swings) == []


@given(st.lists(st.floats(-1000, 1000), max_size=130))
def test_any_line_has_change_points_in_order_that_hold_what_they_promise(values: list[float]) -> None:
    found = change_points(values)
    indices = [split.index for split in found]
    assert indices == sorted(set(indices))
    assert all(0 < index < len(values) for index in indices)
    assert all(split.step > 0.05 and split.p_value < 0.001 for split in found)
    ends = [0, *indices, len(values)]
    assert found == [compared(values, *ends[number : number + 3]) for number in range(len(indices))]


@given(st.floats(-100, 100), st.integers(1, 200))
def test_a_flat_line_has_none(level: float, count: int) -> None:
    assert change_points([level] * count, least_step=0.0) == []
