"""Lines on the real store: order, gaps, changes, thinning."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from tests.measuring import measure
from tests.samples import ENVIRONMENT, result, spec

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult, Environment, Measurement
from noisefloor.contract.trend import Order, Trend
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store.session import reading, writing
from noisefloor.store.tables import Series
from noisefloor.store.trends import Window
from noisefloor.workflow.trends import View, trend

START = datetime(2026, 11, 1, tzinfo=UTC)
NEWER = ENVIRONMENT.replace(torch="2.14.0")
Answer = Callable[[str], CellResult]


def crashed(cell: str) -> CellResult:
    return CellResult(cell=cell, status=CellStatus.CRASHED, reason="signal 11")


def nonfinite(cell: str) -> CellResult:
    measured = Measurement(edge="float32->true", figure=Figure.of(FigureKind.NONFINITE))
    return result(cell, measurements=(measured,))


class Line:
    """A branch whose commits are measured by the test."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings

    def add(
        self,
        sha: str,
        answer: float | Answer | None,
        *,
        hour: float | None = None,
        environment: Environment = ENVIRONMENT,
        ancestors: tuple[str, ...] = (),
        **changes: Any,
    ) -> None:
        def figure(cell: str) -> CellResult:
            assert not callable(answer)
            return result(cell, answer, environment=environment)

        at = START + timedelta(hours=int(sha, 16) if hour is None else hour)
        git = {
            "branch": "main",
            "sha": sha.zfill(40),
            "committed_at": at.isoformat(),
            "ancestors": [one.zfill(40) for one in ancestors],
        }
        with writing(self.engine, "test") as session:
            given = answer if callable(answer) else figure
            measure(session, self.settings, LocalDispatch(), spec(git=git, **changes), given)

    def drawn(self, **view: Any) -> Trend:
        window = Window(branch="main")
        with reading(self.engine) as session:
            row = session.scalars(select(Series).where(Series.edge == "float32->true")).one()
            return trend(session, row, window, View(**view))


@pytest.fixture
def line(engine: Engine, settings: Settings) -> Line:
    return Line(engine, settings)


def shas(drawn: Trend) -> list[str]:
    return [(point.sha or "").lstrip("0") for point in drawn.points]


def test_over_commits_ancestry_decides_and_over_time_the_clock(line: Line) -> None:
    line.add("a", 40.0, hour=5)
    line.add("b", 41.0, hour=1, ancestors=("a",))
    assert shas(line.drawn()) == ["a", "b"]
    assert shas(line.drawn(x=Order.TIME)) == ["b", "a"]


def test_a_commit_measured_again_stands_once_for_each_environment(line: Line) -> None:
    line.add("a", 40.0)
    line.add("a", 39.0)
    line.add("a", 38.0, environment=NEWER)
    figures = [point.figure.value for point in line.drawn().points]
    assert figures == [39.0, 38.0]
    assert [point.figure.value for point in line.drawn(x=Order.TIME).points] == [40.0, 39.0, 38.0]


def test_a_cell_that_ended_without_a_figure_is_a_gap_with_its_reason(line: Line) -> None:
    line.add("a", 40.0)
    line.add("b", crashed)
    line.add("c", 40.0)
    line.add("d", crashed)
    drawn = line.drawn()
    assert [(gap.before, gap.status, gap.reason) for gap in drawn.gaps] == [
        (1, CellStatus.CRASHED, "signal 11"),
        (2, CellStatus.CRASHED, "signal 11"),
    ]


def test_other_cells_make_no_gap(line: Line) -> None:
    line.add("a", 40.0)
    line.add("b", crashed, lanes={"engine": ["onednn"]})
    scheme = {"flow": "eager", "mode": "static", "edge": "fake->true", "floor_db": 30}
    line.add("c", crashed, schemes=[scheme])
    assert line.drawn().gaps == ()


def test_a_commit_that_has_a_figure_has_no_gap_over_commits(line: Line) -> None:
    line.add("a", crashed)
    line.add("a", 40.0)
    assert line.drawn().gaps == ()
    assert len(line.drawn(x=Order.TIME).gaps) == 1


def test_a_step_is_a_change_point_and_gives_its_size(line: Line) -> None:
    for number in range(1, 13):
        line.add(f"{number:x}", 40.0 if number < 8 else 37.0)
    (change,) = line.drawn().change_points
    assert (change.index, change.change) == (7, -3.0)


def test_a_step_of_what_is_no_decibel_is_measured_by_its_size(line: Line) -> None:
    def seconds(number: int) -> Answer:
        took = Figure.finite(2e-5 if number < 8 else 3e-5)
        return lambda cell: result(
            cell, measurements=(Measurement(edge="float32->true", metric="time_median_s", figure=took),)
        )

    for number in range(1, 13):
        line.add(f"{number:x}", seconds(number))
    (change,) = line.drawn().change_points
    assert (change.index, change.change) == (7, pytest.approx(1e-5))


def test_points_without_a_number_are_no_part_of_a_level(line: Line) -> None:
    for number in range(1, 13):
        line.add(f"{number:x}", nonfinite if number == 3 else 40.0 if number < 8 else 37.0)
    (change,) = line.drawn().change_points
    assert change.index == 7


def test_a_line_that_is_thinned_out_keeps_extremes_and_every_marker(line: Line) -> None:
    def figure(number: int) -> float | Answer:
        special: dict[int, float | Answer] = {7: 10.0, 13: 60.0, 21: nonfinite, 30: crashed}
        return special.get(number, 40.0)

    for number in range(1, 41):
        line.add(f"{number:x}", figure(number), environment=NEWER if number > 25 else ENVIRONMENT)
    whole, thin = line.drawn(), line.drawn(points=12)
    assert (whole.total, thin.total) == (39, 39)
    assert len(thin.points) < 20 < len(whole.points)
    assert {10.0, 60.0} <= {point.figure.value for point in thin.points}
    assert FigureKind.NONFINITE in {point.figure.kind for point in thin.points}
    for drawn in (whole, thin):
        (change,), (gap,) = drawn.environment_changes, drawn.gaps
        assert (shas(drawn)[change.index - 1], shas(drawn)[change.index]) == ("19", "1a")
        assert [str(field) for field in change.fields] == ["torch 2.13.0 → 2.14.0"]
        assert shas(drawn)[gap.before - 1] < "1e" < shas(drawn)[gap.before]
    verdicts = [(point.sha, point.verdict) for point in thin.points]
    assert (f"{7:040x}", "regressed") in verdicts
    assert (f"{8:040x}", "pass") in verdicts


def test_the_latest_points_alone_begin_the_line(line: Line) -> None:
    line.add("a", crashed)
    for sha in ("b", "c", "d"):
        line.add(sha, 40.0)
    drawn = line.drawn(latest=2)
    assert (shas(drawn), drawn.gaps, drawn.cut) == (["c", "d"], (), True)
