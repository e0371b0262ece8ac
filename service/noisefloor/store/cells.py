"""Queries on cells and their findings."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import Environment as EnvironmentFacts
from noisefloor.contract.verdict import Verdict
from noisefloor.store.shards import QUEUED, RUNNING
from noisefloor.store.tables import Cell, Environment, Finding, Shard

QUEUE_LOCK = 0x6E6F697365  # "noise": advisory locks are numbers of the whole database


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a queued cell asks of a worker."""

    engine: str
    device: str
    isa: str
    threads: int
    torch: str | None
    memory_gib: float | None = None
    environment: EnvironmentFacts | None = None
    commit: str | None = None


def find(session: Session, job_id: str, cell_id: str) -> Cell | None:
    """One cell of a job."""
    return session.scalar(select(Cell).where(Cell.job_id == job_id, Cell.id == cell_id))


def page(session: Session, job_id: str, *, limit: int | None = None, after: int = -1) -> Sequence[Cell]:
    """Cells of a job in order, `limit` of them past the ordinal `after`."""
    query = select(Cell).where(Cell.job_id == job_id, Cell.ordinal > after).order_by(Cell.ordinal)
    return session.scalars(query if limit is None else query.limit(limit)).all()


def pending(session: Session, shard_id: str) -> Sequence[Cell]:
    """Cells of a shard that have not ended."""
    return session.scalars(
        select(Cell).where(Cell.shard_id == shard_id, Cell.status == CellStatus.QUEUED).order_by(Cell.ordinal)
    ).all()


def any_pending(session: Session, shard_id: str) -> bool:
    """Whether a cell of the shard has not ended."""
    pending = select(Cell.id).where(Cell.shard_id == shard_id, Cell.status == CellStatus.QUEUED)
    return session.scalar(select(pending.exists())) or False


def count_pending(session: Session, job_id: str) -> int:
    """How many cells of a job have not ended."""
    query = (
        select(func.count()).select_from(Cell).where(Cell.job_id == job_id, Cell.status == CellStatus.QUEUED)
    )
    return session.scalar(query) or 0


def hold_queue(session: Session) -> None:
    """Be the only one that adds to the queue until the transaction ends, so that its bound holds.

    It is held before anything else is. On SQLite whoever writes is alone anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(QUEUE_LOCK)))


def count_queued(session: Session) -> int:
    """How many cells of all projects have not ended."""
    query = select(func.count()).select_from(Cell).join(Shard, Shard.id == Cell.shard_id)
    waits = (Shard.status.in_((QUEUED, RUNNING)), Cell.status == CellStatus.QUEUED)
    return session.scalar(query.where(*waits)) or 0


def queued(session: Session, job_ids: Sequence[str]) -> dict[str, list[Asked]]:
    """What the cells that nobody works on ask for, by job, each once."""
    asked: dict[str, list[Asked]] = {job_id: [] for job_id in job_ids}
    of_shard = (
        Shard.isa,
        Shard.threads,
        Shard.torch,
        Shard.memory_gib,
        Shard.wants_commit.label("commit"),
    )
    query = (
        select(Cell.job_id, Cell.engine, Cell.device, *of_shard, Environment.document.label("environment"))
        .join(Shard, Shard.id == Cell.shard_id)
        .outerjoin(Environment, Environment.key == Shard.wants_environment)
        .where(Cell.job_id.in_(job_ids), Cell.status == CellStatus.QUEUED, Shard.status == QUEUED)
        .distinct()
        .order_by(Shard.isa, Shard.threads, Cell.device, Cell.engine)
    )
    for row in session.execute(query).mappings():
        asks = dict(row)
        document = asks.pop("environment")
        environment = EnvironmentFacts.model_validate(document) if document is not None else None
        asked[asks.pop("job_id")].append(Asked(**asks, environment=environment))
    return asked


def end_pending(session: Session, *, status: CellStatus, reason: str, shard_ids: Sequence[str]) -> None:
    """End every cell of these shards that has not ended."""
    session.execute(
        update(Cell)
        .where(Cell.shard_id.in_(shard_ids), Cell.status == CellStatus.QUEUED)
        .values(status=status, reason=reason)
    )


def findings(session: Session, cell_ids: Sequence[str]) -> Sequence[Finding]:
    """What the gate found of these cells and their measurements."""
    return session.scalars(select(Finding).where(Finding.cell_id.in_(cell_ids))).all()


def irregular(session: Session, job_id: str) -> Sequence[tuple[Finding, int]]:
    """Every finding of a job that is not a pass, with the ordinal of its cell."""
    query = (
        select(Finding, Cell.ordinal)
        .join(Cell, Cell.id == Finding.cell_id)
        .where(Finding.job_id == job_id, Finding.verdict != Verdict.PASS)
    )
    return [(finding, ordinal) for finding, ordinal in session.execute(query)]


def forget_findings(session: Session, job_id: str) -> None:
    """A job that is judged again has no older findings."""
    session.execute(delete(Finding).where(Finding.job_id == job_id))
