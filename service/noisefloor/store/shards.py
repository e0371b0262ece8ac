"""Queries on shards: claim, heartbeat, fence."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, func, or_, select, true, update
from sqlalchemy.orm import Session, aliased

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import Environment as EnvironmentFacts
from noisefloor.contract.worker import Capabilities
from noisefloor.store.session import database_now
from noisefloor.store.tables import Cell, Environment, Job, Shard

QUEUED, RUNNING, DONE = "queued", "running", "done"
LEASE_S = 10.0
MAX_TRIES = 3


def claim_next(session: Session, worker: str, takes: Capabilities) -> Shard | None:
    """Take the next shard that has something for the worker, under a new fencing token.

    The most urgent goes first; of those alike, one of the project with the fewest in hand, then the oldest. A
    shard is free when it is queued, or when its lease has run out.
    """
    free = or_(Shard.status == QUEUED, and_(Shard.status == RUNNING, Shard.lease_until < database_now()))
    candidate = (
        select(Shard.id)
        .join(Job, Job.id == Shard.job_id)
        .where(free, Shard.tries < MAX_TRIES, *_suits(session, takes))
        .order_by(Shard.priority.desc(), _in_hand_of_project(), Shard.id)
        .limit(1)
        .with_for_update(of=Shard, skip_locked=True)
        .scalar_subquery()
    )
    return session.scalar(
        update(Shard)
        .where(Shard.id == candidate)
        .values(
            status=RUNNING,
            attempt=Shard.attempt + 1,
            tries=Shard.tries + 1,
            lease_until=database_now() + LEASE_S,
            worker=worker,
            progress=None,
        )
        .returning(Shard)
    )


def _suits(session: Session, takes: Capabilities) -> list[ColumnElement[bool]]:
    """The conditions under which a worker can run a cell of a shard.

    A figure of another commit or environment than the one wanted would be a wrong one: there are no
    exceptions, where a worker that takes all only ends a cell as unsupported.
    """
    wanted = [
        or_(Shard.wants_environment.is_(None), Shard.wants_environment.in_(_offered(session, takes))),
        true() if takes.checks_out else or_(Shard.wants_commit.is_(None), Shard.wants_commit == takes.commit),
    ]
    if takes.takes_all:
        return wanted
    asked = session.scalars(select(Shard.torch).where(Shard.status != DONE).distinct()).all()
    met = [version for version in asked if version and takes.meets(version)]
    pending = select(Cell.id).where(
        Cell.shard_id == Shard.id,
        Cell.status == CellStatus.QUEUED,
        Cell.engine.in_(takes.engines),
        Cell.device.in_(takes.devices),
    )
    return [
        *wanted,
        Shard.isa.in_(takes.isas),
        Shard.threads <= takes.threads,
        or_(Shard.torch.is_(None), Shard.torch.in_(met)),
        pending.exists(),
    ]


def _offered(session: Session, takes: Capabilities) -> list[str]:
    """Of the environments that shards want, those that the worker measures in."""
    wanted = select(Shard.wants_environment).where(Shard.wants_environment.is_not(None), Shard.status != DONE)
    query = select(Environment).where(Environment.key.in_(wanted))
    return [
        row.key
        for row in session.scalars(query)
        if takes.offers(EnvironmentFacts.model_validate(row.document))
    ]


def _in_hand_of_project() -> ColumnElement[int]:
    """How many shards of a candidate's project are being measured."""
    other, its_job = aliased(Shard), aliased(Job)
    return (
        select(func.count())
        .select_from(other)
        .join(its_job, its_job.id == other.job_id)
        .where(other.status == RUNNING, its_job.project == Job.project)
        .correlate(Job)
        .scalar_subquery()
    )


def heartbeat(session: Session, shard_id: str, attempt: int, progress: str | None) -> bool | None:
    """Extend the lease; says whether the job is to be cancelled, or None when the lease is lost."""
    held = session.scalar(
        update(Shard)
        .where(Shard.id == shard_id, Shard.attempt == attempt, Shard.status == RUNNING)
        .values(lease_until=database_now() + LEASE_S, progress=progress)
        .returning(Shard.job_id)
    )
    return None if held is None else session.scalar(select(Job.cancel_requested).where(Job.id == held))


def fenced(session: Session, shard_id: str, attempt: int) -> Shard | None:
    """The shard, locked, if `attempt` is still the token that holds it."""
    return session.scalar(
        select(Shard)
        .where(Shard.id == shard_id, Shard.attempt == attempt, Shard.status == RUNNING)
        .with_for_update()
    )


def end(session: Session, shard_ids: Sequence[str]) -> None:
    """Take these shards from whoever could claim them."""
    session.execute(update(Shard).where(Shard.id.in_(shard_ids)).values(status=DONE))


def exhausted(session: Session) -> Sequence[Shard]:
    """Shards whose last allowed attempt lost its lease."""
    return session.scalars(
        select(Shard)
        .where(Shard.status == RUNNING, Shard.tries >= MAX_TRIES, Shard.lease_until < database_now())
        .with_for_update(skip_locked=True)
    ).all()


def queues(session: Session, shard_ids: Sequence[str]) -> list[tuple[str, int, list[str]]]:
    """The shards by device and priority: what a message goes to."""
    query = (
        select(Cell.device, Shard.priority, Shard.id)
        .join(Cell, Cell.shard_id == Shard.id)
        .where(Shard.id.in_(shard_ids))
        .distinct()
        .order_by(Cell.device, Shard.priority, Shard.id)
    )
    grouped: dict[tuple[str, int], list[str]] = {}
    for device, priority, shard_id in session.execute(query):
        grouped.setdefault((device, priority), []).append(shard_id)
    return [(device, priority, ids) for (device, priority), ids in grouped.items()]


def queued(session: Session) -> Sequence[str]:
    """Every shard that waits for a worker."""
    return session.scalars(select(Shard.id).where(Shard.status == QUEUED).order_by(Shard.id)).all()


def in_hand(session: Session) -> Sequence[Shard]:
    """Every shard that a worker holds."""
    return session.scalars(select(Shard).where(Shard.status == RUNNING).order_by(Shard.id)).all()


def of_job(session: Session, job_ids: Sequence[str]) -> Sequence[Shard]:
    """All shards of some jobs."""
    return session.scalars(select(Shard).where(Shard.job_id.in_(job_ids)).order_by(Shard.id)).all()
