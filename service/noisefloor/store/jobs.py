"""Queries on projects, jobs and idempotency keys."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, not_, select, update
from sqlalchemy.orm import Session

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.job import Git, JobStatus, Limits
from noisefloor.store.tables import Cell, IdempotencyKey, Job, Project
from noisefloor.store.upsert import insert_missing

COUNTS = and_(Job.explains.is_(None), Job.bisection_id.is_(None))  # as `Job.counts` says of a row


def ensure_project(session: Session, name: str, now: datetime) -> None:
    """Make the project if it is not there."""
    insert_missing(session, Project, [{"name": name, "created_at": now}])


def lock_project(session: Session, name: str) -> None:
    """Hold the project until the transaction ends, without holding up those that refer to it."""
    session.execute(select(Project.name).where(Project.name == name).with_for_update(key_share=True))


def projects(session: Session) -> Sequence[str]:
    """The names of all projects."""
    return session.scalars(select(Project.name).order_by(Project.name)).all()


def find(session: Session, project: str, job_id: str) -> Job | None:
    """One job of a project."""
    return session.scalar(select(Job).where(Job.project == project, Job.id == job_id))


def held(session: Session, project: str, job_id: str) -> Job | None:
    """One job of a project, which nobody can delete until the transaction ends."""
    query = select(Job).where(Job.project == project, Job.id == job_id)
    return session.scalar(query.with_for_update(key_share=True))


def by_ids(session: Session, job_ids: Collection[str]) -> Sequence[Job]:
    """Jobs by their ids."""
    return session.scalars(select(Job).where(Job.id.in_(job_ids))).all()


def settled_at(session: Session, project: str, sha: str) -> Sequence[Job]:
    """The jobs of a commit whose cells have ended, oldest first."""
    query = select(Job).where(Job.project == project, Job.sha == sha, Job.finished_at.is_not(None), COUNTS)
    return session.scalars(query.order_by(Job.id)).all()


def at_commit(session: Session, project: str, sha: str) -> Sequence[Job]:
    """All jobs of a commit that count, oldest first."""
    query = select(Job).where(Job.project == project, Job.sha == sha, COUNTS)
    return session.scalars(query.order_by(Job.id)).all()


def settled_page(
    session: Session,
    project: str,
    *,
    since: datetime | None,
    until: datetime | None = None,
    branch: str | None = None,
    limit: int | None = None,
) -> Sequence[Job]:
    """Jobs that are settled, of commits in a span of time, newest first."""
    query = select(Job).where(Job.project == project, Job.finished_at.is_not(None), COUNTS)
    if since is not None:
        query = query.where(Job.measured_at >= since)
    if until is not None:
        query = query.where(Job.measured_at <= until)
    if branch is not None:
        query = query.where(Job.branch == branch)
    return session.scalars(query.order_by(Job.measured_at.desc(), Job.id.desc()).limit(limit)).all()


def newest_settled(session: Session, project: str, *, branch: str, name: str | None) -> Job | None:
    """The newest settled job of a branch by its commit's time, of any name or of this one."""
    query = (
        select(Job)
        .where(Job.project == project, Job.branch == branch, Job.finished_at.is_not(None), COUNTS)
        .order_by(Job.measured_at.desc(), Job.id.desc())
        .limit(1)
    )
    return session.scalar(query if name is None else query.where(Job.name == name))


def hold(session: Session, job_id: str) -> str:
    """Hold the job until the transaction ends: what settles it happens once. Gives its project."""
    return session.scalars(select(Job.project).where(Job.id == job_id).with_for_update()).one()


def lock(session: Session, job_id: str) -> Job:
    """The job as it is now, held until the transaction ends."""
    hold(session, job_id)
    return session.execute(
        select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
    ).scalar_one()


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What holds for all cells of a job."""

    git: Git
    limits: Limits
    analysis: Analysis
    cancel_requested: bool


def conditions(session: Session, job_id: str) -> Conditions:
    """The commit and the limits of the job's cells, how closely they are looked at, and whether at all."""
    columns = (Job.git, Job.spec["limits"], Job.spec["analysis"], Job.cancel_requested)
    git, limits, analysis, cancel_requested = session.execute(select(*columns).where(Job.id == job_id)).one()
    return Conditions(
        git=Git.model_validate(git),
        limits=Limits.model_validate(limits),
        # jobs that were posted before there was a choice have none
        analysis=Analysis.model_validate(analysis or {}),
        cancel_requested=cancel_requested,
    )


def page(
    session: Session,
    project: str,
    *,
    limit: int,
    before: str | None,
    status: JobStatus | None = None,
    branch: str | None = None,
    counts: bool | None = None,
) -> Sequence[Job]:
    """Jobs, newest first, `limit` of them below the id `before`; only those that count, or that do not."""
    query = select(Job).where(Job.project == project).order_by(Job.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Job.id < before)
    if status is not None:
        query = query.where(Job.status == status)
    if branch is not None:
        query = query.where(Job.branch == branch)
    if counts is not None:
        query = query.where(COUNTS if counts else not_(COUNTS))
    return session.scalars(query).all()


def mark_running(session: Session, job_id: str) -> None:
    """The first claim of a shard starts its job."""
    session.execute(
        update(Job).where(Job.id == job_id, Job.status == JobStatus.QUEUED).values(status=JobStatus.RUNNING)
    )


def cell_counts(session: Session, job_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many cells of each job are in which status."""
    counts: dict[str, dict[str, int]] = {job_id: {} for job_id in job_ids}
    query = (
        select(Cell.job_id, Cell.status, func.count())
        .where(Cell.job_id.in_(job_ids))
        .group_by(Cell.job_id, Cell.status)
    )
    for job_id, status, number in session.execute(query):
        counts[job_id][status] = number
    return counts


def first_answer(session: Session, project: str, key: str) -> IdempotencyKey | None:
    """What the key was used for first."""
    return session.get(IdempotencyKey, (project, key))
