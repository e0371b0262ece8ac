"""Queries on shards: claim, heartbeat, fence."""

from collections.abc import Sequence

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from noisefloor.store.session import database_now
from noisefloor.store.tables import Job, Shard

QUEUED, RUNNING, DONE = "queued", "running", "done"
LEASE_S = 10.0
MAX_TRIES = 3


def claim_next(session: Session, worker: str) -> Shard | None:
    """Take the most urgent shard that is queued or whose lease has run out, under a new fencing token."""
    free = or_(Shard.status == QUEUED, and_(Shard.status == RUNNING, Shard.lease_until < database_now()))
    candidate = (
        select(Shard.id)
        .where(free, Shard.tries < MAX_TRIES)
        .order_by(Shard.priority.desc(), Shard.id)
        .limit(1)
        .with_for_update(skip_locked=True)
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


def of_job(session: Session, job_ids: Sequence[str]) -> Sequence[Shard]:
    """All shards of some jobs."""
    return session.scalars(select(Shard).where(Shard.job_id.in_(job_ids)).order_by(Shard.id)).all()
