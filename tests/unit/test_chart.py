from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.resources import SeriesView
from noisefloor.contract.trend import ChangePoint, EnvironmentChange, Gap, Order, Trend, TrendPoint
from noisefloor.contract.verdict import Verdict
from noisefloor.dashboard.axis import axis
from noisefloor.dashboard.chart import CROSS, SHAPES, Chart, chart
from noisefloor.dashboard.history import history

START = datetime(2026, 11, 1, tzinfo=UTC)
OLD, NEW = "0" * 32, "1" * 32
SERIES = SeriesView(
    key=OLD,
    project="demo",
    subject="multiple-ops",
    scheme="eager static per_tensor",
    edge="float32->true",
    engine="x86",
    device="cpu",
    isa="native",
    batch=2,
    metric="sqnr_db",
    place="output",
    identity={},
)


def test_an_axis_of_seconds_is_as_fine_as_they_are() -> None:
    trend = Trend(
        series=SERIES.replace(metric="time_median_s"), points=(point(0, 0.00012), point(1, 0.00013))
    )
    low, high = (mark.y for mark in chart(trend).marks)
    assert low - high > 50
    assert chart(trend).ticks[-1].text.endswith(" s")


def point(
    number: int,
    value: float | FigureKind,
    *,
    floor_db: float | None = None,
    verdict: Verdict | None = Verdict.PASS,
    environment: str = OLD,
) -> TrendPoint:
    return TrendPoint(
        measurement_id=f"m{number}",
        job_id=f"j{number}",
        cell_id=f"c{number}",
        sha=None,
        branch="main",
        at=START + timedelta(days=number),
        figure=Figure.of(value) if isinstance(value, FigureKind) else Figure.finite(value),
        floor_db=floor_db,
        verdict=verdict,
        environment=environment,
    )


def gap(before: int, status: CellStatus = CellStatus.CRASHED) -> Gap:
    return Gap(
        job_id=f"g{before}",
        cell_id=f"g{before}",
        sha=None,
        branch="main",
        at=START + timedelta(days=before - 0.5),
        status=status,
        reason="signal 11",
        before=before,
    )


def line(*points: TrendPoint, **more: Any) -> Trend:
    changed = [
        EnvironmentChange(index=n, before=points[n - 1].environment, after=points[n].environment)
        for n in range(1, len(points))
        if points[n].environment != points[n - 1].environment
    ]
    return Trend(series=SERIES, points=points, environment_changes=tuple(changed), **more)


def drawn(*values: float | FigureKind, floor_db: float | None = None) -> Chart:
    return chart(line(*(point(number, value, floor_db=floor_db) for number, value in enumerate(values))))


def test_more_decibels_stand_higher() -> None:
    low, high = drawn(30.0, 41.5).marks
    assert high.y < low.y
    assert high.x > low.x


def test_a_line_has_a_vertex_for_each_number() -> None:
    (run,) = drawn(41.5, 41.4, 38.0).runs
    assert len(run.split()) == 3


def test_the_line_breaks_where_there_is_no_number() -> None:
    runs = drawn(41.5, 41.4, FigureKind.NONFINITE, 41.5, FigureKind.EXACT, 41.5).runs
    assert [len(run.split()) for run in runs] == [2, 1, 1]


def test_exact_stands_above_the_axis_and_what_has_no_figure_below_it() -> None:
    found = drawn(41.5, FigureKind.EXACT, FigureKind.NONFINITE, FigureKind.MISMATCH)
    number, exact, nonfinite, mismatch = found.marks
    assert (
        exact.y < found.plot_top <= number.y <= found.plot_bottom < nonfinite.y == mismatch.y < found.bottom
    )
    assert [band.text for band in found.bands] == ["exact", "no figure"]
    assert nonfinite.path == mismatch.path == CROSS
    assert exact.path == SHAPES[Verdict.PASS]


def test_a_line_of_exact_points_has_no_axis() -> None:
    found = drawn(FigureKind.EXACT, FigureKind.EXACT)
    assert (found.ticks, found.runs) == ((), ())
    assert all(0 < mark.y < found.bottom for mark in found.marks)


def test_one_point_stands_in_the_middle() -> None:
    found = drawn(41.5)
    (mark,) = found.marks
    assert mark.x == (found.left + found.right) / 2
    assert found.plot_top < mark.y < found.plot_bottom


def test_the_floor_is_on_the_axis_and_named() -> None:
    found = drawn(41.5, 41.4, floor_db=30)
    (floor,) = found.floors
    assert (floor.x1, floor.x2) == (found.left, found.right)
    assert max(mark.y for mark in found.marks) < floor.y <= found.plot_bottom
    assert found.floor_label is not None
    assert found.floor_label.text == "floor 30.000 dB"


def test_a_floor_that_changes_is_drawn_in_two_stretches() -> None:
    first, second = chart(line(point(0, 41.5, floor_db=30), point(1, 41.5, floor_db=35))).floors
    assert first.x2 == second.x1
    assert first.y > second.y


def test_each_verdict_has_a_shape_of_its_own() -> None:
    settled = [verdict for verdict in Verdict if verdict is not Verdict.PENDING]
    assert len({SHAPES[verdict] for verdict in settled}) == len(settled)


def test_a_change_of_environment_stands_between_its_points() -> None:
    trend = line(point(0, 41.5), point(1, 41.5, environment=NEW), point(2, 41.5, environment=NEW))
    found = chart(trend)
    (marker,) = found.environment_changes
    assert found.marks[0].x < marker.x < found.marks[1].x


def test_a_change_point_stands_between_its_points_above_the_environments() -> None:
    shift = ChangePoint(index=1, mean_before=41.5, mean_after=38.5, p_value=0.0)
    found = chart(line(point(0, 41.5), point(1, 38.5, environment=NEW), change_points=(shift,)))
    (marker,), (environment,) = found.change_points, found.environment_changes
    assert (marker.text, environment.text, marker.x) == ("C1", "E1", environment.x)
    assert 0 < marker.y < environment.y < found.plot_top


def test_a_gap_stands_in_order_below_the_axis_and_breaks_the_line() -> None:
    found = chart(line(point(0, 41.5), point(1, 41.5), point(2, 41.5), gaps=(gap(1), gap(3))))
    inside, last = found.gaps
    assert found.marks[0].x < inside.x < found.marks[1].x
    assert last.x > found.marks[2].x
    assert found.plot_bottom < inside.y == last.y < found.bottom
    assert [len(run.split()) for run in found.runs] == [1, 2]


def test_a_line_of_gaps_alone_is_drawn() -> None:
    found = chart(line(gaps=(gap(0), gap(0, CellStatus.UNSUPPORTED))))
    assert (found.marks, [mark.tone for mark in found.gaps]) == ((), ["error", "warn"])


def test_over_time_points_stand_where_their_times_are() -> None:
    points = point(0, 41.5), point(1, 41.5), point(10, 41.5)
    even, timed = chart(line(*points)), chart(line(*points, x=Order.TIME))
    assert even.marks[1].x == (even.left + even.right) / 2
    first, second, third = (mark.x for mark in timed.marks)
    assert (second - first) / (third - first) == pytest.approx(0.1, abs=1e-4)


def test_gaps_stand_in_the_history_where_they_stand_on_the_line() -> None:
    steps = history(line(point(0, 40.0), point(1, 38.5), gaps=(gap(1), gap(2))))
    assert [(step.point or step.gap).job_id for step in steps] == ["g2", "j1", "g1", "j0"]  # type: ignore[union-attr]
    assert [step.change_db for step in steps] == [None, -1.5, None, None]


def test_history_is_newest_first_with_the_change_since_the_last_number() -> None:
    steps = history(line(point(0, 40.0), point(1, FigureKind.NONFINITE), point(2, 38.5, environment=NEW)))
    assert [step.change_db for step in steps] == [-1.5, None, None]
    assert [step.environment_change for step in steps] == [1, None, None]


def test_an_axis_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        axis([])


@given(st.lists(st.floats(min_value=-1000, max_value=1000, allow_subnormal=False), min_size=1))
def test_an_axis_holds_its_values_between_few_round_ticks(values: list[float]) -> None:
    found = axis(values)
    assert found.low <= min(values) <= max(values) <= found.high
    assert 2 <= len(found.ticks) <= 8
    steps = {round(b - a, found.decimals) for a, b in zip(found.ticks, found.ticks[1:], strict=False)}
    assert len(steps) == 1
    assert f"{steps.pop():e}"[0] in "125"
