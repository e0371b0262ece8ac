"""Queries on measurements and environments."""

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from noisefloor.store.tables import Environment, Measurement


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


def series_of_job(session: Session, job_id: str) -> Collection[str]:
    """The keys of the series that a job measured."""
    query = select(Measurement.series_key).where(Measurement.job_id == job_id).distinct()
    return session.scalars(query).all()


def environment(session: Session, key: str) -> Environment | None:
    """One environment by its key."""
    return session.get(Environment, key)
