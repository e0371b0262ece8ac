"""Queries on measurements and environments."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.measurement import OUTPUT, SQNR
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
