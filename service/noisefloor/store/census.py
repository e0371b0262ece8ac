"""What there is at this moment, counted for operators: queue, workers, outbox, history."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session

from noisefloor.contract.delivery import DeliveryStatus
from noisefloor.contract.job import CellStatus
from noisefloor.store import workers
from noisefloor.store.session import database_now
from noisefloor.store.shards import QUEUED, RUNNING
from noisefloor.store.tables import Cell, Delivery, Job, Shard


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Cells that wait for one lane at one priority, and when the oldest of their jobs was posted."""

    engine: str
    device: str
    isa: str
    priority: int
    cells: int
    oldest: datetime


@dataclass(frozen=True, kw_only=True)
class Outbox:
    """Deliveries of one kind: how many are due, how late the first is, and how many were given up."""

    kind: str
    due: int
    lag_s: float
    dead: int


def waiting(session: Session) -> list[Waiting]:
    """The queue, by lane and priority. Reads what is queued, and nothing of what has ended."""
    lane = (Cell.engine, Cell.device, Shard.isa, Shard.priority)
    query = (
        select(*lane, func.count(), func.min(Job.created_at))
        .select_from(Shard)
        .join(Cell, and_(Cell.shard_id == Shard.id, Cell.status == CellStatus.QUEUED))
        .join(Job, Job.id == Shard.job_id)
        .where(Shard.status == QUEUED)
        .group_by(*lane)
    )
    return [
        Waiting(engine=engine, device=device, isa=isa, priority=priority, cells=number, oldest=oldest)
        for engine, device, isa, priority, number, oldest in session.execute(query)
    ]


def running(session: Session) -> Sequence[tuple[str, str, str, bool, int]]:
    """Cells not ended of shards that are held, by lane, and by whether the lease has run out."""
    expired = case((Shard.lease_until < database_now(), 1), else_=0).label("expired")
    query = (
        select(Cell.engine, Cell.device, Shard.isa, expired, func.count())
        .select_from(Shard)
        .join(Cell, and_(Cell.shard_id == Shard.id, Cell.status == CellStatus.QUEUED))
        .where(Shard.status == RUNNING)
        .group_by(Cell.engine, Cell.device, Shard.isa, expired)
    )
    return [
        (engine, device, isa, bool(lost), number)
        for engine, device, isa, lost, number in session.execute(query)
    ]


def live_workers(session: Session) -> dict[str, tuple[int, int]]:
    """How many workers were heard of lately in which state, and their slots."""
    found: dict[str, tuple[int, int]] = {}
    for row, _ in workers.live(session):
        number, slots = found.get(row.state, (0, 0))
        found[row.state] = number + 1, slots + row.slots
    return found


def outbox(session: Session) -> list[Outbox]:
    """What is to be sent, by kind. Reads what is pending or dead, and nothing of what was delivered."""
    dead = Delivery.status == DeliveryStatus.DEAD
    due = and_(Delivery.status == DeliveryStatus.PENDING, Delivery.due_at <= database_now())
    query = (
        select(
            Delivery.kind,
            func.sum(case((due, 1), else_=0)),
            func.max(case((due, database_now() - Delivery.due_at), else_=0.0)),
            func.sum(case((dead, 1), else_=0)),
        )
        .where(Delivery.status.in_([DeliveryStatus.PENDING, DeliveryStatus.DEAD]))
        .group_by(Delivery.kind)
    )
    return [
        Outbox(kind=kind, due=number, lag_s=lag_s, dead=given_up)
        for kind, number, lag_s, given_up in session.execute(query)
    ]


def ended_cells(session: Session) -> Sequence[tuple[str, str, str, str, int]]:
    """Cells that ended and are kept, by status and lane. Reads every cell."""
    lane = (Cell.status, Cell.engine, Cell.device, Shard.isa)
    query = (
        select(*lane, func.count())
        .join(Shard, Shard.id == Cell.shard_id)
        .where(Cell.status != CellStatus.QUEUED)
        .group_by(*lane)
    )
    return [
        (status, engine, device, isa, number)
        for status, engine, device, isa, number in session.execute(query)
    ]


def jobs(session: Session) -> Sequence[tuple[str, str, int]]:
    """Jobs that are kept, by status and verdict. Reads every job."""
    query = select(Job.status, Job.verdict, func.count()).group_by(Job.status, Job.verdict)
    return [(status, verdict, number) for status, verdict, number in session.execute(query)]


def claims(session: Session) -> int:
    """How often the shards that are kept were claimed. Reads every shard."""
    return session.scalar(select(func.coalesce(func.sum(Shard.attempt), 0))) or 0
