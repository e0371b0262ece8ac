"""A series over time: its points, where it was not measured, and where something changed."""

from enum import StrEnum

from pydantic import AwareDatetime, Field

from noisefloor.contract.base import Digest, LongText, Text, Value
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus
from noisefloor.contract.resources import SeriesView
from noisefloor.contract.verdict import Verdict


class Order(StrEnum):
    """What a line runs over: commits, each after its ancestors and once per environment; or time."""

    COMMIT = "commit"
    TIME = "time"


class TrendPoint(Value):
    """One measurement on a series' line."""

    measurement_id: Text
    job_id: Text
    cell_id: Text
    sha: Text | None
    branch: Text | None
    at: AwareDatetime
    figure: Figure
    floor_db: float | None
    verdict: Verdict | None
    environment: Digest | None
    imported: bool = False


class Gap(Value):
    """A job whose cell of this series ended without a measurement."""

    job_id: Text
    cell_id: Text
    sha: Text | None
    branch: Text | None
    at: AwareDatetime
    status: CellStatus
    reason: LongText | None
    before: int = Field(
        description="index of the point it stands in front of; the number of points at the end"
    )


class FieldChange(Value):
    """One field of an environment: what it was, what it is."""

    field: Text
    before: LongText
    after: LongText

    def __str__(self) -> str:
        return f"{self.field} {self.before} → {self.after}"


class EnvironmentChange(Value):
    """A place on a line where the environment became another one."""

    index: int = Field(description="of the first point in the new environment")
    before: Digest | None
    after: Digest | None
    fields: tuple[FieldChange, ...] = ()


class ChangePoint(Value):
    """A place where the level of a line changed, by a statistical test: an annotation, never a verdict."""

    index: int = Field(description="of the first point of the new level")
    mean_before: float = Field(
        description="over the points since the change point before, in the metric's unit"
    )
    mean_after: float
    p_value: float

    @property
    def before(self) -> Figure:
        return Figure.finite(self.mean_before)

    @property
    def after(self) -> Figure:
        return Figure.finite(self.mean_after)

    @property
    def change(self) -> float:
        """The step, in the metric's unit."""
        return self.mean_after - self.mean_before


class Trend(Value):
    """A series and its points, oldest first. Every index is one of `points`."""

    series: SeriesView
    x: Order = Order.COMMIT
    points: tuple[TrendPoint, ...]
    gaps: tuple[Gap, ...] = ()
    environment_changes: tuple[EnvironmentChange, ...] = ()
    change_points: tuple[ChangePoint, ...] = ()
    total: int = Field(default=0, description="points before they were thinned out")
    cut: bool = Field(default=False, description="there are older points that were not read")
