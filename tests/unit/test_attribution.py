"""Splitting a loss: closed forms, what is missing, and figures that are no decibels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisefloor.contract.attribution import Attribution, Cause, Corner, Square
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.gate.attribution import attribute

EXACT = Figure(value=None, kind=FigureKind.EXACT)
NONFINITE = Figure(value=None, kind=FigureKind.NONFINITE)
Known = Figure | float | None
decibels = st.floats(-200, 200)


def corner(figure: Known) -> Corner:
    found = Figure.finite(figure) if isinstance(figure, (int, float)) else figure
    how = "missing" if figure is None else "measured"
    return Corner(sha=None, environment=None, how=how, figure=found)  # type: ignore[arg-type]


def split(old_in_old: Known, old_in_new: Known, new_in_old: Known, new_in_new: Known) -> Attribution:
    corners = [corner(figure) for figure in (old_in_old, old_in_new, new_in_old, new_in_new)]
    return attribute(Square(**dict(zip(Square.model_fields, corners, strict=True))))


@given(decibels, decibels, decibels, decibels)
def test_the_parts_add_up_to_the_loss(y00: float, y01: float, y10: float, y11: float) -> None:
    found = split(y00, y01, y10, y11)
    assert found.code_db is not None
    assert found.environment_db is not None
    assert found.interaction_db is not None
    parts = found.code_db + found.environment_db + found.interaction_db
    assert parts == pytest.approx(found.total_db, abs=1e-9)
    assert found.total_db == pytest.approx(y00 - y11)


@given(decibels, decibels)
def test_what_alone_loses_it_leaves_no_rounding_to_the_rest(good: float, bad: float) -> None:
    by_environment, by_code = split(good, bad, good, bad), split(good, good, bad, bad)
    assert (by_environment.code_db, by_environment.interaction_db) == (0.0, 0.0)
    assert (by_code.environment_db, by_code.interaction_db) == (0.0, 0.0)


def test_no_loss_is_told_as_less_than_none() -> None:
    assert "code 0.000 dB" in split(40, 37, 40.0001, 37).message


@pytest.mark.parametrize(
    ("figures", "cause"),
    [
        ((40, 40, 37, 37), Cause.CODE),
        ((40, 37, 40, 37), Cause.ENVIRONMENT),
        ((40, 38, 39, 37), Cause.BOTH),
        ((40, 40, 40, 37), Cause.BOTH),  # neither alone: it takes both
        ((40, 40, 39.992, 39.992), Cause.CODE),  # too little to notice, and still of one side
        ((40, 39.992, 40, 39.992), Cause.ENVIRONMENT),
        ((40, 40, None, 37), Cause.CODE),
        ((40, 37, None, 37), Cause.ENVIRONMENT),
        ((40, None, 37, 37), Cause.CODE),
        ((40, None, 40, 37), Cause.ENVIRONMENT),
        ((40, None, None, 37), Cause.UNKNOWN),
        ((EXACT, EXACT, None, 37), Cause.CODE),
        ((EXACT, 37, None, 37), Cause.ENVIRONMENT),
        ((EXACT, None, EXACT, 37), Cause.ENVIRONMENT),
        ((40, NONFINITE, None, NONFINITE), Cause.ENVIRONMENT),
        ((40, 40, None, NONFINITE), Cause.CODE),
        ((40, None, None, NONFINITE), Cause.UNKNOWN),
    ],
)
def test_a_loss_is_put_down_to_what_alone_causes_it(
    figures: tuple[Known, Known, Known, Known], cause: Cause
) -> None:
    assert split(*figures).cause is cause


def test_a_corner_that_nobody_measured_is_named() -> None:
    assert "the baseline's commit in this environment" in split(40, None, None, 37).message
    assert "includes any interaction" in split(40, 38, None, 37).message
    assert split(40, 38, None, 37).interaction_db is None
