"""Queries on measurements, baselines and environments."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, or_, select, tuple_
from sqlalchemy.orm import Session

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import JobStatus
from noisefloor.contract.measurement import OUTPUT, SQNR
from noisefloor.contract.verdict import Verdict
from noisefloor.store.tables import Environment, Finding, Job, Measurement

ACCEPTED = (Verdict.PASS, Verdict.WARN, Verdict.ACKNOWLEDGED, Verdict.NO_BASELINE)


@dataclass(frozen=True, kw_only=True)
class Previous:
    """An accepted measurement and the job it came from."""

    measurement: Measurement
    job: Job


def of_cells(session: Session, cell_ids: Sequence[str]) -> Sequence[Measurement]:
    """The measurements of some cells, in the order they were made."""
    return session.scalars(
        select(Measurement).where(Measurement.cell_id.in_(cell_ids)).order_by(Measurement.id)
    ).all()


def of_job(session: Session, job_id: str) -> Sequence[Measurement]:
    """All measurements of a job."""
    return session.scalars(
        select(Measurement).where(Measurement.job_id == job_id).order_by(Measurement.id)
    ).all()


def previous_on_branch(session: Session, job: Job) -> dict[str, Previous]:
    """For each series of the job, its latest accepted measurement earlier on the same branch.

    A result that the gate refused is no baseline: a regression must not become the norm by being run twice.
    """
    mine = select(Measurement.series_key).where(Measurement.job_id == job.id)
    same_branch = Job.branch.is_(None) if job.branch is None else Job.branch == job.branch
    other_commit = or_(Job.sha.is_(None), Job.sha != job.sha) if job.sha is not None else Job.id != job.id
    newest_first = func.row_number().over(
        partition_by=Measurement.series_key,
        order_by=(Job.measured_at.desc(), Job.id.desc(), Measurement.id.desc()),
    )
    ranked = (
        select(Measurement.id.label("id"), newest_first.label("rank"))
        .join(Job, Job.id == Measurement.job_id)
        .outerjoin(Finding, Finding.measurement_id == Measurement.id)
        .where(
            Measurement.series_key.in_(mine),
            Job.project == job.project,
            Job.status == JobStatus.DONE,
            same_branch,
            other_commit,
            tuple_(Job.measured_at, Job.id) < (job.measured_at, job.id),
            or_(Finding.verdict.is_(None), Finding.verdict.in_(ACCEPTED)),
        )
        .subquery()
    )
    query = (
        select(Measurement, Job)
        .join(Job, Job.id == Measurement.job_id)
        .join(ranked, and_(ranked.c.id == Measurement.id, ranked.c.rank == 1))
    )
    return {m.series_key: Previous(measurement=m, job=j) for m, j in session.execute(query)}


def headline_of_job(session: Session, job_id: str) -> tuple[set[str], float | None]:
    """The kinds of the SQNR figures of a job's outputs, and the lowest of those that are numbers, in dB."""
    query = (
        select(Measurement.kind, func.min(Measurement.value))
        .where(Measurement.job_id == job_id, Measurement.metric == SQNR, Measurement.place == OUTPUT)
        .group_by(Measurement.kind)
    )
    lowest: dict[str, float | None] = {row[0]: row[1] for row in session.execute(query)}
    return set(lowest), lowest.get(FigureKind.FINITE)


def environments(session: Session, keys: Collection[str]) -> dict[str, dict[str, Any]]:
    """Documents of environments by their keys."""
    rows = session.scalars(select(Environment).where(Environment.key.in_(keys)))
    return {row.key: row.document for row in rows}


def environment(session: Session, key: str) -> Environment | None:
    """One environment by its key."""
    return session.get(Environment, key)
