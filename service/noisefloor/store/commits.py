"""Queries on commits: which were measured, and what each series was there."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from noisefloor.contract.job import CellStatus
from noisefloor.store.jobs import COUNTS
from noisefloor.store.series import FILTERS, matching
from noisefloor.store.tables import Cell, Job, Measurement, Series


class Figured(NamedTuple):
    """A series with its figure at a commit."""

    key: str
    name: tuple[str | int, ...]
    value: float | None
    kind: str
    job_id: str
    cell_id: str
    environment: str | None
    lineage: str | None


def like(session: Session, project: str, prefix: str, *, limit: int) -> Sequence[str]:
    """The measured commits whose sha begins so; the whole sha alone if it is one of them."""
    query = select(Job.sha).where(Job.project == project, COUNTS).distinct().order_by(Job.sha).limit(limit)
    exact = session.scalars(query.where(Job.sha == prefix)).all()
    found = exact or session.scalars(query.where(Job.sha.startswith(prefix))).all()
    return [sha for sha in found if sha is not None]


def jobs_at(session: Session, project: str, sha: str, *, limit: int) -> Sequence[Job]:
    """The newest jobs of a commit."""
    query = select(Job).where(Job.project == project, Job.sha == sha, COUNTS).order_by(Job.id.desc())
    query = query.limit(limit)
    return session.scalars(query).all()


def before(session: Session, job: Job) -> str | None:
    """The commit that was measured before the job's on its branch."""
    if job.sha is None or job.branch is None:
        return None
    query = (
        select(Job.sha)
        .where(
            Job.project == job.project,
            COUNTS,
            Job.branch == job.branch,
            Job.sha.is_not(None),
            Job.sha != job.sha,
            Job.measured_at <= job.measured_at,
            Job.id < job.id,
        )
        .order_by(Job.measured_at.desc(), Job.id.desc())
        .limit(1)
    )
    return session.scalar(query)


def figures(
    session: Session, project: str, sha: str, *, filters: Mapping[str, str | int], limit: int
) -> dict[str, Figured]:
    """By series, the newest measurement at a commit."""
    newest_first = func.row_number().over(
        partition_by=Measurement.series_key, order_by=(Measurement.job_id.desc(), Measurement.id.desc())
    )
    ranked = (
        select(Measurement.id.label("id"), newest_first.label("rank"))
        .join(Job, Job.id == Measurement.job_id)
        .where(Job.project == project, Job.sha == sha, COUNTS)
        .subquery()
    )
    query = (
        select(
            Series.key,
            *(getattr(Series, name) for name in FILTERS),
            Measurement.value,
            Measurement.kind,
            Measurement.job_id,
            Measurement.cell_id,
            Cell.environment_key,
            Cell.lineage,
        )
        .join(ranked, ranked.c.id == Measurement.id)
        .join(Series, Series.key == Measurement.series_key)
        .join(Cell, Cell.id == Measurement.cell_id)
        .where(ranked.c.rank == 1, *matching(session, filters))
        .order_by(Series.key)
        .limit(limit)
    )
    rows = session.execute(query).all()
    size = len(FILTERS)
    return {row[0]: Figured(row[0], tuple(row[1 : size + 1]), *row[size + 1 :]) for row in rows}


def unmeasured(
    session: Session, project: str, sha: str, lineages: Sequence[str]
) -> dict[str, tuple[str, str | None]]:
    """How the newest cells of these lineages ended at a commit, where that was without a measurement."""
    query = (
        select(Cell.lineage, Cell.status, Cell.reason)
        .join(Job, Job.id == Cell.job_id)
        .where(
            Job.project == project,
            Job.sha == sha,
            COUNTS,
            Cell.lineage.in_(lineages),
            Cell.status.not_in((CellStatus.QUEUED, CellStatus.DONE)),
        )
        .order_by(Job.id)
    )
    return {lineage: (status, reason) for lineage, status, reason in session.execute(query) if lineage}
