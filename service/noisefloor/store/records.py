"""Queries on measurements with all that is known of them, for export."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from noisefloor.store.jobs import COUNTS
from noisefloor.store.series import matching
from noisefloor.store.tables import Cell, Environment, Finding, Job, Measurement, Series
from noisefloor.store.trends import Window


class Whole(NamedTuple):
    """A measurement and the rows that it hangs on."""

    measurement: Measurement
    job: Job
    cell: Cell
    environment: dict[str, Any] | None
    finding: Finding | None


def page(
    session: Session,
    project: str,
    *,
    filters: Mapping[str, str | int],
    window: Window,
    after: tuple[str, str],
    limit: int,
) -> Sequence[Whole]:
    """Measurements of settled jobs, in the order of jobs and measurements, past those two ids."""
    query = (
        select(Measurement, Job, Cell, Environment.document, Finding)
        .join(Job, Job.id == Measurement.job_id)
        .join(Cell, Cell.id == Measurement.cell_id)
        .join(Series, Series.key == Measurement.series_key)
        .outerjoin(Environment, Environment.key == Cell.environment_key)
        .outerjoin(Finding, Finding.measurement_id == Measurement.id)
        .where(
            Job.project == project,
            Job.finished_at.is_not(None),
            COUNTS,
            tuple_(Measurement.job_id, Measurement.id) > after,
            *matching(session, filters),
        )
        .order_by(Measurement.job_id, Measurement.id)
        .limit(limit)
    )
    return [Whole(*row) for row in session.execute(window.on(query))]


def homes(session: Session, job_ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """The project of each job that is there, and whether the job was imported."""
    query = select(Job.id, Job.project, Job.imported).where(Job.id.in_(job_ids))
    return {job_id: (project, imported) for job_id, project, imported in session.execute(query)}


def places(session: Session, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The cell and the series of each measurement that is there."""
    query = select(Measurement.id, Measurement.cell_id, Measurement.series_key).where(Measurement.id.in_(ids))
    return {one: (cell_id, series) for one, cell_id, series in session.execute(query)}


def jobs_of_cells(session: Session, cell_ids: Sequence[str]) -> dict[str, str]:
    """The job of each cell that is there."""
    query = select(Cell.id, Cell.job_id).where(Cell.id.in_(cell_ids))
    return {row.id: row.job_id for row in session.execute(query)}
