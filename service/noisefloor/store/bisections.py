"""Queries on bisections, and on the jobs that are their steps."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from noisefloor.contract.measurement import OUTPUT, SQNR
from noisefloor.store.tables import Bisection, Cell, Finding, Job, Measurement


def find(session: Session, project: str, bisection_id: str) -> Bisection | None:
    """One bisection of a project."""
    return session.scalar(select(Bisection).where(Bisection.project == project, Bisection.id == bisection_id))


def lock(session: Session, bisection_id: str) -> Bisection | None:
    """The bisection as it is now, held until the transaction ends.

    Whoever holds a job may ask for it, and not the other way round: the step that settles holds its job.
    """
    return session.scalar(
        select(Bisection)
        .where(Bisection.id == bisection_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def by_key(session: Session, project: str, key: str) -> Bisection | None:
    """What an Idempotency-Key was used for first."""
    query = select(Bisection).where(Bisection.project == project, Bisection.idempotency_key == key)
    return session.scalar(query)


def page(session: Session, project: str, *, limit: int, before: str | None) -> Sequence[Bisection]:
    """Bisections, newest first, `limit` of them below the id `before`."""
    query = select(Bisection).where(Bisection.project == project).order_by(Bisection.id.desc()).limit(limit)
    return session.scalars(query if before is None else query.where(Bisection.id < before)).all()


def of_job(session: Session, job: Job) -> Sequence[Bisection]:
    """Those that look for the worst loss of a job, newest first."""
    of = Bisection.spec["of"].as_string()
    query = select(Bisection).where(Bisection.project == job.project, of == job.id)
    return session.scalars(query.order_by(Bisection.id.desc())).all()


def open_steps(session: Session, bisection_id: str) -> Sequence[Job]:
    """The jobs of a bisection that are not settled, oldest first."""
    query = select(Job).where(Job.bisection_id == bisection_id, Job.finished_at.is_(None))
    return session.scalars(query.order_by(Job.id)).all()


def headlines(session: Session, job_id: str) -> list[tuple[Finding, Measurement, Cell]]:
    """What the gate found of a job's outputs in decibels, in the order of its cells."""
    query = (
        select(Finding, Measurement, Cell)
        .join(Measurement, Measurement.id == Finding.measurement_id)
        .join(Cell, Cell.id == Finding.cell_id)
        .where(Finding.job_id == job_id, Measurement.metric == SQNR, Measurement.place == OUTPUT)
        .order_by(Cell.ordinal, Measurement.id)
    )
    return [(finding, measurement, cell) for finding, measurement, cell in session.execute(query)]
