"""The schema, in one place however long. The migrations build it; `alembic check` holds the two together."""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from noisefloor.contract.figure import within

Document = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
Id = String(32)
Key = String(32)
Word = String(32)
Label = String(512)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC on both databases; SQLite alone would lose the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Number(TypeDecorator[float]):
    """A figure in float64; what an older version kept beyond the range of figures is read as its end."""

    impl = Float(53)
    cache_ok = True

    def process_result_value(self, value: float | None, dialect: Dialect) -> float | None:
        del dialect
        return within(value) if value is not None else None


class Base(DeclarativeBase):
    """Names every constraint, so that migrations can."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Project(Base):
    """The namespace of series, policies and tokens."""

    __tablename__ = "projects"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    settings: Mapped[dict[str, Any] | None] = mapped_column(Document)
    retention: Mapped[dict[str, Any] | None] = mapped_column(Document)


class IdempotencyKey(Base):
    """The first answer to a POST, given again to its repetitions."""

    __tablename__ = "idempotency_keys"

    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_digest: Mapped[str] = mapped_column(Key)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Job(Base):
    """What a user posted, and its verdict once it is settled."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "project", "id"),
        Index(None, "project", "branch", "measured_at"),
        Index(None, "project", "sha"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    name: Mapped[str] = mapped_column(Label)
    spec: Mapped[dict[str, Any]] = mapped_column(Document, deferred=True, doc="large: read only where needed")
    git: Mapped[dict[str, Any]] = mapped_column(Document)
    status: Mapped[str] = mapped_column(Word)
    verdict: Mapped[str] = mapped_column(Word)
    verdict_message: Mapped[str] = mapped_column(Text)
    policy: Mapped[dict[str, Any] | None] = mapped_column(Document, doc="as it was when posted")
    judgement: Mapped[dict[str, Any] | None] = mapped_column(Document, doc="what was compared, once settled")
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    branch: Mapped[str | None] = mapped_column(Label)
    sha: Mapped[str | None] = mapped_column(String(64))
    measured_at: Mapped[datetime] = mapped_column(UtcDateTime, doc="when committed, or when posted")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    imported: Mapped[bool] = mapped_column(
        default=False, server_default=false(), doc="measured elsewhere, and exported there"
    )
    explains: Mapped[str | None] = mapped_column(
        ForeignKey("jobs.id"), index=True, doc="the job whose losses it looks into: it decides nothing itself"
    )
    bisection_id: Mapped[str | None] = mapped_column(
        ForeignKey("bisections.id"), index=True, doc="it is a step: nothing is held against what it measures"
    )

    @property
    def counts(self) -> bool:
        """Whether it is a result of its commit: no step of a bisection, and explaining no other job."""
        return self.explains is None and self.bisection_id is None


class Bisection(Base):
    """A search for what loses a figure; each of its steps is a job."""

    __tablename__ = "bisections"
    __table_args__ = (Index(None, "project", "id"), UniqueConstraint("project", "idempotency_key"))

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    spec: Mapped[dict[str, Any]] = mapped_column(Document, doc="as it was posted")
    status: Mapped[str] = mapped_column(Word)
    message: Mapped[str] = mapped_column(Text)
    state: Mapped[dict[str, Any]] = mapped_column(Document, doc="the steps, and what was measured so far")
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_digest: Mapped[str] = mapped_column(Key)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Shard(Base):
    """Cells that share a process: what is dispatched, leased and fenced."""

    __tablename__ = "shards"
    __table_args__ = (
        Index(None, "project", "status", "priority", "id"),
        Index(None, "project", "claimed_at"),
        Index(None, "status", "torch"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    project: Mapped[str] = mapped_column(String(63), doc="of its job: workers are shared by it")
    isa: Mapped[str] = mapped_column(Word)
    threads: Mapped[int]
    torch: Mapped[str | None] = mapped_column(Label, doc="the version that the job asks for")
    memory_gib: Mapped[float | None] = mapped_column(
        Float(53), doc="the limit of its cells; of shards from before there was one, none"
    )
    wants_environment: Mapped[str | None] = mapped_column(
        ForeignKey("environments.key"), index=True, doc="the one that its worker must measure in"
    )
    wants_commit: Mapped[str | None] = mapped_column(String(64), doc="that its worker must have")
    priority: Mapped[int]
    status: Mapped[str] = mapped_column(Word)
    attempt: Mapped[int] = mapped_column(default=0, doc="fencing token: only ever grows")
    tries: Mapped[int] = mapped_column(
        default=0, doc="attempts since a cell was last recorded, or retried by a user"
    )
    lease_until: Mapped[float | None] = mapped_column(Float(53), doc="epoch seconds, by the database's clock")
    claimed_at: Mapped[float | None] = mapped_column(Float(53), doc="likewise; the latest claim")
    worker: Mapped[str | None] = mapped_column(Label)
    progress: Mapped[str | None] = mapped_column(Label)


class Worker(Base):
    """A process that measures, as it announced itself."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(Label, primary_key=True)
    capabilities: Mapped[dict[str, Any]] = mapped_column(Document)
    slots: Mapped[int]
    state: Mapped[str] = mapped_column(Word)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[float] = mapped_column(Float(53), doc="epoch seconds, by the database's clock")


class Environment(Base):
    """Versions, CPU and ISA that figures were measured under."""

    __tablename__ = "environments"

    key: Mapped[str] = mapped_column(Key, primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(Document)
    first_seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Cell(Base):
    """Subject × scheme × lane, and how it ended."""

    __tablename__ = "cells"
    __table_args__ = (UniqueConstraint("job_id", "ordinal"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    shard_id: Mapped[str] = mapped_column(ForeignKey("shards.id"), index=True)
    ordinal: Mapped[int]
    subject: Mapped[dict[str, Any]] = mapped_column(Document)
    scheme: Mapped[dict[str, Any]] = mapped_column(Document)
    lane: Mapped[dict[str, Any]] = mapped_column(Document)
    lineage: Mapped[str | None] = mapped_column(
        Key, index=True, doc="key of what its series share; of cells from before there was one, none"
    )
    engine: Mapped[str] = mapped_column(Word, doc="of the lane: what workers are chosen by")
    device: Mapped[str] = mapped_column(Word)
    status: Mapped[str] = mapped_column(Word)
    reason: Mapped[str | None] = mapped_column(Text)
    traceback: Mapped[str | None] = mapped_column(Text)
    executed_engine: Mapped[str | None] = mapped_column(Word)
    inputs_digest: Mapped[str | None] = mapped_column(Key)
    environment_key: Mapped[str | None] = mapped_column(ForeignKey("environments.key"))
    files: Mapped[dict[str, Any] | None] = mapped_column(
        Document, doc="of which commit a subject's own files were; else none"
    )
    attempt: Mapped[int | None] = mapped_column(
        doc="fencing token of the attempt that ended it, or began with it"
    )
    duration_s: Mapped[float | None] = mapped_column(Float(53))


class Series(Base):
    """Measurements that may be compared over time."""

    __tablename__ = "series"
    __table_args__ = (Index(None, "project", "key"),)

    key: Mapped[str] = mapped_column(Key, primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    identity: Mapped[dict[str, Any]] = mapped_column(Document)
    subject: Mapped[str] = mapped_column(Label)
    scheme: Mapped[str] = mapped_column(Label)
    edge: Mapped[str] = mapped_column(Word)
    engine: Mapped[str] = mapped_column(Word)
    device: Mapped[str] = mapped_column(Word)
    isa: Mapped[str] = mapped_column(Word)
    batch: Mapped[int] = mapped_column(BigInteger)
    metric: Mapped[str] = mapped_column(Word)
    place: Mapped[str] = mapped_column(Label)


class Measurement(Base):
    """One metric of one edge of one cell at one place."""

    __tablename__ = "measurements"
    __table_args__ = (
        # Stands behind the fence: whatever a late worker does, no result stands twice.
        UniqueConstraint("cell_id", "edge", "place", "metric"),
        Index(None, "series_key", "job_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    series_key: Mapped[str] = mapped_column(ForeignKey("series.key"))
    edge: Mapped[str] = mapped_column(Word)
    place: Mapped[str] = mapped_column(Label)
    metric: Mapped[str] = mapped_column(Word)
    value: Mapped[float | None] = mapped_column(Number)
    kind: Mapped[str] = mapped_column(Word)
    detail: Mapped[dict[str, Any]] = mapped_column(
        Document, doc="all that Measurement has beside what stands in columns"
    )


class Analysis(Base):
    """The layers of a cell: read when a cell is opened, not with its job."""

    __tablename__ = "analyses"

    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id"), primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(Document, doc="reports of each edge, and sensitivity")


class Conformance(Base):
    """What an operator's cell found of a kernel: by what it is looked for, and whole."""

    __tablename__ = "conformance"
    __table_args__ = (Index(None, "op", "engine", "isa", "mode", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, doc="later results have larger ones")
    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id"), unique=True)
    op: Mapped[str] = mapped_column(Label)
    engine: Mapped[str] = mapped_column(Word)
    isa: Mapped[str] = mapped_column(Word)
    mode: Mapped[str] = mapped_column(Word)
    torch: Mapped[str] = mapped_column(Label)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)
    document: Mapped[dict[str, Any]] = mapped_column(Document)


def _baseline_of(context: Any) -> str | None:
    """The measurement that a finding's document names as its baseline."""
    baseline = context.get_current_parameters()["document"].get("baseline")
    return baseline["measurement_id"] if baseline else None


class Finding(Base):
    """What the gate found of a measurement, or of a cell that gave none."""

    __tablename__ = "findings"
    __table_args__ = (UniqueConstraint("cell_id", "measurement_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id"))
    measurement_id: Mapped[str | None] = mapped_column(ForeignKey("measurements.id"), index=True)
    verdict: Mapped[str] = mapped_column(Word)
    floor_db: Mapped[float | None] = mapped_column(Number)
    document: Mapped[dict[str, Any]] = mapped_column(Document)
    baseline_id: Mapped[str | None] = mapped_column(
        Id, index=True, default=_baseline_of, doc="of the document: what serves as a baseline is kept"
    )


class Suite(Base):
    """A named job, and the events of a repository that it runs on."""

    __tablename__ = "suites"
    __table_args__ = (Index(None, "provider", "repository"),)

    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    provider: Mapped[str] = mapped_column(Word)
    repository: Mapped[str] = mapped_column(Label, doc="in lower case: providers tell no cases apart")
    document: Mapped[dict[str, Any]] = mapped_column(Document)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Check(Base):
    """A suite at a commit: what stands beside it at the provider."""

    __tablename__ = "checks"
    __table_args__ = (
        UniqueConstraint("project", "suite", "repository", "sha"),
        Index(None, "project", "suite", "line"),
        Index(None, "open", "deadline"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    suite: Mapped[str] = mapped_column(String(63))
    provider: Mapped[str] = mapped_column(Word)
    repository: Mapped[str] = mapped_column(Label)
    sha: Mapped[str] = mapped_column(String(64))
    context: Mapped[str] = mapped_column(Label)
    branch: Mapped[str | None] = mapped_column(Label)
    line: Mapped[str | None] = mapped_column(Label, doc="the branch whose newer heads replace it")
    before: Mapped[str | None] = mapped_column(String(64), doc="the head that this one replaced")
    head_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="when it became the head")
    committed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    open: Mapped[bool] = mapped_column(doc="the status is pending")
    deadline: Mapped[float] = mapped_column(Float(53), doc="epoch seconds, by the database's clock")
    run_id: Mapped[str | None] = mapped_column(
        String(64), doc="the provider's id of the check run that is open"
    )
    installation: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class HookReceipt(Base):
    """A delivery from a provider that had an effect: it has none a second time."""

    __tablename__ = "hook_receipts"
    __table_args__ = (UniqueConstraint("provider", "digest"),)

    provider: Mapped[str] = mapped_column(Word, primary_key=True)
    delivery: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(Key, doc="of the body: another id does not make it another event")
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Webhook(Base):
    """An endpoint that hears of a project's verdicts."""

    __tablename__ = "webhooks"

    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str] = mapped_column(Text)
    verdicts: Mapped[list[str]] = mapped_column(Document)
    enabled: Mapped[bool]
    disabled_reason: Mapped[str | None] = mapped_column(Text)


class Delivery(Base):
    """The outbox: what is to be sent, written in the transaction of the verdict."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index(None, "status", "due_at"),
        UniqueConstraint("topic", "sequence"),
        Index(None, "project", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    kind: Mapped[str] = mapped_column(Word)
    target: Mapped[str] = mapped_column(Label)
    topic: Mapped[str] = mapped_column(Label, doc="what is told in order: a check, or a job to a webhook")
    sequence: Mapped[int]
    check_id: Mapped[str | None] = mapped_column(ForeignKey("checks.id"))
    announcement: Mapped[dict[str, Any]] = mapped_column(Document)
    status: Mapped[str] = mapped_column(Word)
    tries: Mapped[int] = mapped_column(doc="since it was written, or replayed")
    attempt: Mapped[int] = mapped_column(doc="fencing token: only ever grows")
    due_at: Mapped[float] = mapped_column(Float(53), doc="epoch seconds, by the database's clock")
    lease_until: Mapped[float | None] = mapped_column(Float(53))
    response_status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Policy(Base):
    """A version of a stored policy."""

    __tablename__ = "policies"

    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(Document)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Mark(Base):
    """A result that somebody accepted, or pinned as a baseline."""

    __tablename__ = "marks"
    __table_args__ = (Index(None, "project", "kind", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    kind: Mapped[str] = mapped_column(Word)
    whole_commit: Mapped[bool] = mapped_column(doc="all jobs at the sha, not only the one")
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    sha: Mapped[str | None] = mapped_column(String(64))
    branch: Mapped[str | None] = mapped_column(Label)
    measured_at: Mapped[datetime] = mapped_column(UtcDateTime)
    matches: Mapped[dict[str, Any]] = mapped_column(Document)
    reason: Mapped[str] = mapped_column(Text)
    marked_by: Mapped[str | None] = mapped_column(Label)
    until: Mapped[date | None] = mapped_column(doc="the last day on which it counts, in UTC")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AcceptedLevel(Base):
    """What an acceptance lets through of one series: down to a figure, or that it is missing."""

    __tablename__ = "accepted_levels"

    mark_id: Mapped[str] = mapped_column(ForeignKey("marks.id"), primary_key=True)
    series_key: Mapped[str] = mapped_column(ForeignKey("series.key"), primary_key=True)
    value: Mapped[float | None] = mapped_column(Number)
    kind: Mapped[str | None] = mapped_column(Word, doc="without one the series is missing")
    output_digest: Mapped[str | None] = mapped_column(Key)
    limits: Mapped[dict[str, Any] | None] = mapped_column(
        Document, doc="what the broken rules asked that are held against no earlier result"
    )


class Absence(Base):
    """A series that a job's baseline had and the job has not."""

    __tablename__ = "absences"
    __table_args__ = (UniqueConstraint("job_id", "series_key"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    series_key: Mapped[str] = mapped_column(ForeignKey("series.key"), index=True)
    verdict: Mapped[str] = mapped_column(Word)
    document: Mapped[dict[str, Any]] = mapped_column(Document)


class Gate(Base):
    """A question about a commit: may it pass, given the jobs measured at it."""

    __tablename__ = "gates"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    sha: Mapped[str] = mapped_column(String(64))
    expect: Mapped[list[str]] = mapped_column(Document)
    policy: Mapped[dict[str, Any] | None] = mapped_column(Document)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deadline: Mapped[datetime] = mapped_column(UtcDateTime)
