"""The table under a trend's chart. Pure."""

from dataclasses import dataclass

from noisefloor.contract.trend import Gap, Trend, TrendPoint


@dataclass(frozen=True, kw_only=True)
class Step:
    """A point or a gap; how far a point is from the last number before it, and the changes it came with."""

    point: TrendPoint | None = None
    gap: Gap | None = None
    change_db: float | None = None
    environment_change: int | None = None
    change_point: int | None = None


def history(trend: Trend) -> tuple[Step, ...]:
    """The points and gaps of a trend, newest first."""
    moves = {change.index: number for number, change in enumerate(trend.environment_changes, start=1)}
    shifts = {change.index: number for number, change in enumerate(trend.change_points, start=1)}
    steps: list[Step] = []
    gaps = list(trend.gaps)
    last_db: float | None = None
    for index, point in enumerate(trend.points):
        while gaps and gaps[0].before <= index:
            steps.append(Step(gap=gaps.pop(0)))
        value = point.figure.value
        steps.append(
            Step(
                point=point,
                change_db=value - last_db if value is not None and last_db is not None else None,
                environment_change=moves.get(index),
                change_point=shifts.get(index),
            )
        )
        last_db = value if value is not None else last_db
    steps += [Step(gap=gap) for gap in gaps]
    return tuple(reversed(steps))
