"""The table under a trend's chart. Pure."""

from dataclasses import dataclass

from noisefloor.contract.resources import Trend, TrendPoint


@dataclass(frozen=True, kw_only=True)
class Step:
    """A point, how far it is from the last number before it, and the environment change it came with."""

    point: TrendPoint
    change_db: float | None
    environment_change: int | None


def history(trend: Trend) -> tuple[Step, ...]:
    """The points of a trend, newest first."""
    numbers = {index: number for number, index in enumerate(trend.environment_changes, start=1)}
    steps: list[Step] = []
    last_db: float | None = None
    for index, point in enumerate(trend.points):
        value = point.figure.value
        change_db = value - last_db if value is not None and last_db is not None else None
        steps.append(Step(point=point, change_db=change_db, environment_change=numbers.get(index)))
        last_db = value if value is not None else last_db
    return tuple(reversed(steps))
