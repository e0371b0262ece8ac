"""What the service answers: the read side of the contract."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import AwareDatetime, Field

from noisefloor.contract.base import Digest, Identifier, LongText, Text, Value
from noisefloor.contract.budget import Budget
from noisefloor.contract.conformance import Conformance
from noisefloor.contract.conformance import Verdict as KernelVerdict
from noisefloor.contract.figure import Figure
from noisefloor.contract.files import Files
from noisefloor.contract.gate import JobPolicy
from noisefloor.contract.job import CellStatus, Git, JobSpec, JobStatus
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import Measurement
from noisefloor.contract.scheme import Grid, Scheme
from noisefloor.contract.subject import Subject
from noisefloor.contract.verdict import Absence, Compared, Finding, Verdict

Item = TypeVar("Item")


class Page(Value, Generic[Item]):
    """A slice of a list; `next_cursor` asks for the next one."""

    items: tuple[Item, ...]
    next_cursor: Text | None = None


class Progress(Value):
    """How far a job is."""

    cells: int
    ended: int
    running: tuple[Text, ...] = Field(default=(), description="what is being done now, a line per runner")
    waiting_for: Text | None = Field(default=None, description="why nothing moves, if nothing does")


class ResultRow(Value):
    """One headline figure, or how a cell ended that gave none."""

    cell: Text
    subject: Text
    scheme: Text
    edge: Text
    lane: Text
    status: CellStatus
    figure: Figure | None = Field(default=None, description="SQNR in dB over the whole output")
    floor_db: float | None = None
    verdict: Verdict | None = None
    conformance: KernelVerdict | None = Field(default=None, description="of an operator, which has no figure")


class JobView(Value):
    """A job as the service shows it."""

    id: Text
    project: Text
    name: Text
    status: JobStatus
    verdict: Verdict
    verdict_message: LongText
    progress: Progress
    git: Git
    created_at: AwareDatetime
    finished_at: AwareDatetime | None = None
    imported: bool = Field(default=False, description="measured elsewhere; its spec names one of its cells")
    explains: Text | None = Field(
        default=None, description="the job whose losses it looks into; it decides nothing itself"
    )
    bisection: Text | None = Field(default=None, description="it is a step of this one, and decides nothing")
    spec: JobSpec | None = Field(default=None, description="as it was posted; left out of lists")
    policy: JobPolicy | None = Field(default=None, description="the one it is judged by; left out of lists")
    missing: tuple[Absence, ...] = Field(
        default=(), description="series that the baseline had and this job has not; left out of lists"
    )
    compared: Compared | None = Field(default=None, description="how much was held against a baseline")
    results: tuple[ResultRow, ...] | None = Field(
        default=None,
        description="of one settled job: its first 500 cells; /cells has them all",
    )


class MeasurementView(Measurement):
    """A measurement with its series and what the gate found."""

    id: Text = ""
    series: Digest
    zero_output: bool = False
    finding: Finding | None = None


class CellView(Value):
    """A cell with its measurements and the command that reproduces it without the service."""

    id: Text
    job_id: Text = ""
    ordinal: int
    subject: Subject
    scheme: Scheme
    lane: Lane
    status: CellStatus
    reason: LongText | None = None
    traceback: LongText | None = None
    executed_engine: Text | None = None
    environment: Digest | None = None
    files: Files | None = Field(
        default=None, description="of a subject of the worker's own files, where the job names a commit"
    )
    inputs_digest: Digest | None = None
    duration_s: float | None = None
    finding: Finding | None = Field(default=None, description="of a cell that gave no measurement")
    measurements: tuple[MeasurementView, ...] = ()
    conformance: Conformance | None = Field(default=None, description="of an operator")
    budgets: tuple[Budget, ...] = Field(
        default=(), description="of edges that other measured edges lead through"
    )
    repro: str


class ConformanceView(Conformance):
    """One operator on one engine under one ISA cap, and the cell that found it."""

    id: Identifier
    project: Text
    job_id: Text
    cell_id: Text
    mode: Grid = Field(description="the grid of cases")
    torch: Text
    environment: Digest | None
    recorded_at: AwareDatetime


class EnvironmentView(Value):
    """An environment beside its key."""

    key: Digest
    first_seen_at: AwareDatetime
    document: dict[str, Any]


class SeriesView(Value):
    """Measurements that may be compared over time, by what identifies them."""

    key: Digest
    project: Text
    subject: Text
    scheme: Text
    edge: Text
    engine: Text
    device: Text
    isa: Text
    batch: int
    metric: Text
    place: Text
    identity: dict[str, Any]


class FieldError(Value):
    """One field that was refused: where, what it was, and what would be accepted."""

    field: str
    message: str
    value: Any = None
    accepted: list[Any] | None = None


class Problem(Value):
    """RFC 9457 problem details; `type` is stable and listed in docs/problems.md."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    errors: tuple[FieldError, ...] = ()
