"""Queries on shards: claim, heartbeat, fence."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, func, or_, select, true, update
from sqlalchemy.orm import Session

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import Environment as EnvironmentFacts
from noisefloor.contract.worker import Capabilities
from noisefloor.store.session import database_now
from noisefloor.store.tables import Cell, Environment, Job, Project, Shard

QUEUED, RUNNING, DONE = "queued", "running", "done"
LEASE_S = 10.0
MAX_TRIES = 3


def claim_next(session: Session, worker: str, takes: Capabilities, lease_s: float = LEASE_S) -> Shard | None:
    """Take the next queued shard that has something for the worker, under a new fencing token.

    The most urgent goes first; of those alike, one of the project with the fewest in hand, then of the one
    that was served longest ago, then the oldest.
    """
    suits = _suits(session, takes)
    for project, priority in _turns(session, suits):
        candidate = (
            select(Shard.id)
            .where(Shard.project == project, Shard.status == QUEUED, Shard.priority >= priority, *suits)
            .order_by(Shard.priority, Shard.id)  # as the index is: by the id alone, old shards come first
            .limit(1)
            .with_for_update(of=Shard, skip_locked=True)
            .scalar_subquery()
        )
        taken: Shard | None = session.scalar(
            update(Shard)
            .where(Shard.id == candidate)
            .values(
                status=RUNNING,
                attempt=Shard.attempt + 1,
                tries=Shard.tries + 1,
                lease_until=database_now() + lease_s,
                claimed_at=database_now(),
                worker=worker,
                progress=None,
            )
            .returning(Shard)
        )
        if taken is not None:  # else other workers took the last of them meanwhile
            return taken
    return None


def _turns(session: Session, suits: Sequence[ColumnElement[bool]]) -> Sequence[tuple[str, int]]:
    """The projects that have something for the worker, with the priority of it, in the order of their turns.

    It looks at each project once, not at each shard: the index gives the first of a project's queue.
    """
    first = select(Shard.priority).where(Shard.project == Project.name, Shard.status == QUEUED, *suits)
    priority = first.order_by(Shard.priority.desc()).limit(1).scalar_subquery().label("priority")
    served_at = select(func.max(Shard.claimed_at)).where(Shard.project == Project.name).scalar_subquery()
    in_hand = (
        select(func.count())
        .select_from(Shard)
        .where(Shard.project == Project.name, Shard.status == RUNNING)
        .scalar_subquery()
    )
    turns = select(Project.name, priority, in_hand.label("in_hand"), served_at.label("served_at")).subquery()
    query = select(turns.c.name, turns.c.priority).order_by(
        turns.c.priority.desc(), turns.c.in_hand, turns.c.served_at.asc().nulls_first()
    )
    # a condition would make PostgreSQL look for the priority twice
    return [(name, priority) for name, priority in session.execute(query) if priority is not None]


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
    asked = session.scalars(
        select(Shard.torch).where(Shard.status == QUEUED, Shard.torch.is_not(None)).distinct()
    )
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
        or_(Shard.memory_gib.is_(None), Shard.memory_gib <= takes.memory_gib),
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


def heartbeat(
    session: Session, shard_id: str, attempt: int, progress: str | None, lease_s: float
) -> bool | None:
    """Extend the lease; says whether the job is to be cancelled, or None when the lease is lost."""
    held = session.scalar(
        update(Shard)
        .where(Shard.id == shard_id, Shard.attempt == attempt, Shard.status == RUNNING)
        .values(lease_until=database_now() + lease_s, progress=progress)
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


def hurry(session: Session, job_id: str, priority: int) -> None:
    """Make what is left of a job at least as urgent as this."""
    session.execute(
        update(Shard)
        .where(Shard.job_id == job_id, Shard.status != DONE, Shard.priority < priority)
        .values(priority=priority)
    )


def take_queued(session: Session, job_id: str) -> Sequence[str]:
    """Take a job's queued shards from whoever could claim them; their ids.

    The caller holds the job. One that is being claimed at this moment is left: whoever claims or gives back
    holds the shard and waits for the job, so waiting for the shard would be a deadlock.
    """
    queued = (
        select(Shard.id)
        .where(Shard.job_id == job_id, Shard.status == QUEUED)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return session.scalars(
        update(Shard).where(Shard.id.in_(queued)).values(status=DONE).returning(Shard.id)
    ).all()


def lost(session: Session) -> Sequence[Shard]:
    """Shards whose lease has run out, locked."""
    return session.scalars(
        select(Shard)
        .where(Shard.status == RUNNING, Shard.lease_until < database_now())
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


def running(session: Session, job_ids: Sequence[str]) -> Sequence[Shard]:
    """The shards of some jobs that workers hold."""
    query = select(Shard).where(Shard.job_id.in_(job_ids), Shard.status == RUNNING)
    return session.scalars(query.order_by(Shard.id)).all()


def of_job(session: Session, job_ids: Sequence[str]) -> Sequence[Shard]:
    """All shards of some jobs."""
    return session.scalars(select(Shard).where(Shard.job_id.in_(job_ids)).order_by(Shard.id)).all()


def queue_again(session: Session, shard_ids: Collection[str]) -> None:
    """Let these shards be claimed once more, as often as new ones."""
    session.execute(update(Shard).where(Shard.id.in_(shard_ids)).values(status=QUEUED, tries=0))
