"""Two commits side by side: what moved, by how much, where in the model, and in which environments."""

from enum import StrEnum

from pydantic import Field

from noisefloor.contract.base import Digest, LongText, Text, Value
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus
from noisefloor.contract.trend import FieldChange


class Move(StrEnum):
    """How a figure moved. `changed` is said where more is neither better nor worse, as of seconds."""

    WORSE = "worse"
    CHANGED = "changed"
    BETTER = "better"
    SAME = "same"


class SeriesName(Value):
    """A series by what a reader tells it from others by."""

    key: Digest
    subject: Text
    scheme: Text
    edge: Text
    engine: Text
    device: Text
    isa: Text
    batch: int
    metric: Text
    place: Text


class AtCommit(Value):
    """A series' figure at one of the two commits: of the newest job there that has one."""

    figure: Figure
    job_id: Text
    cell_id: Text
    environment: Digest | None


class LayerLoss(Value):
    """A layer whose own error grew: its own SQNR at both commits."""

    name: Text
    before: Figure
    after: Figure
    drop_db: float


class Delta(Value):
    """A series that both commits have."""

    series: SeriesName
    base: AtCommit
    head: AtCommit
    move: Move
    delta: float | None = Field(
        description="head less base in the metric's unit, dB of SQNR; null unless both are numbers"
    )
    layers: tuple[LayerLoss, ...] = Field(
        default=(), description="the largest losses of layers' own, where the figure got worse"
    )


class Alone(Value):
    """A series that only one of the commits has, and what became of its cell at the other one."""

    series: SeriesName
    status: CellStatus | None = None
    reason: LongText | None = None


class Side(Value):
    """One of the two commits."""

    sha: Text
    branch: Text | None
    jobs: tuple[Text, ...] = Field(description="newest first, at most 20")


class Coverage(Value):
    """Figures are compared over the series that both commits have; others are named, at most 100 a side."""

    common: int
    only_base: int
    only_head: int
    missing: tuple[Alone, ...] = Field(default=(), description="that only base has")
    added: tuple[Alone, ...] = Field(default=(), description="that only head has")


class EnvironmentDifference(Value):
    """Two environments that the same series were measured in, and how many they are."""

    before: Digest | None
    after: Digest | None
    series: int
    fields: tuple[FieldChange, ...] = ()


class Comparison(Value):
    """`base...head`: the largest losses first."""

    base: Side
    head: Side
    moves: dict[Move, int]
    coverage: Coverage
    environments: tuple[EnvironmentDifference, ...] = ()
    items: tuple[Delta, ...]
    next_cursor: Text | None = None
