"""Queries on what may go: results older than their project keeps them, but for those that must stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, or_, select, union_all
from sqlalchemy.orm import Session

from noisefloor.contract.verdict import ACCEPTED
from noisefloor.store.jobs import COUNTS
from noisefloor.store.tables import (
    Absence,
    Analysis,
    Cell,
    Conformance,
    Finding,
    IdempotencyKey,
    Job,
    Mark,
    Measurement,
    Shard,
)

# What is deleted with a job, in this order: of its cells, then the rest. A table that refers to jobs, cells
# or measurements stands here, or under HOLDING_A_JOB, whose jobs stay; tests/store/test_retention.py checks.
OF_A_CELL = (Analysis, Conformance)
OF_A_JOB = (Absence, Finding, Measurement, Cell, Shard, IdempotencyKey)
HOLDING_A_JOB = (Mark,)


def kept(project: str, default_branch: str) -> list[Select[Any]]:
    """Measurements that stay, however old they are: a query for each reason."""
    of_project = (
        select(Measurement.id).join(Job, Job.id == Measurement.job_id).where(Job.project == project, COUNTS)
    )
    accepted = of_project.outerjoin(Finding, Finding.measurement_id == Measurement.id).where(
        Job.branch == default_branch, or_(Finding.verdict.is_(None), Finding.verdict.in_(ACCEPTED))
    )
    baselines = (
        select(Finding.baseline_id)
        .join(Job, Job.id == Finding.job_id)
        .where(Job.project == project, Finding.baseline_id.is_not(None))
    )
    of_commit = and_(Mark.whole_commit, Mark.project == Job.project, Mark.sha == Job.sha)
    marked = of_project.where(exists().where(or_(Mark.job_id == Job.id, of_commit)))
    released = of_project.where(Job.git["tag"].as_string().is_not(None))  # creep is measured from there
    newest = [_newest_of_each_series(of_project), _newest_of_each_series(accepted)]
    return [*newest, baselines, marked, released]


@dataclass(frozen=True, kw_only=True)
class Side:
    """Settled jobs of a project, of its pull requests or of the others, that ended before a moment."""

    project: str
    default_branch: str
    pull_requests: bool
    before: datetime

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        own: Any = or_(Job.branch.is_(None), Job.branch == self.default_branch)
        side = Job.branch != self.default_branch if self.pull_requests else own
        return [Job.project == self.project, Job.finished_at < self.before, side]

    @property
    def stays(self) -> ColumnElement[bool]:
        """Of a measurement: that it stays."""
        return Measurement.id.in_(union_all(*kept(self.project, self.default_branch)))


def due_jobs(session: Session, side: Side, *, limit: int) -> Sequence[str]:
    """Jobs that have no measurement that stays, the oldest first."""
    stays = exists().where(Measurement.job_id == Job.id, side.stays)
    free = (~exists().where(table.job_id == Job.id) for table in HOLDING_A_JOB)
    query = select(Job.id).where(*side.conditions, *free).order_by(Job.finished_at, Job.id)
    return _due(session, query, stays, limit)


def due_layers(session: Session, side: Side, *, limit: int) -> Sequence[str]:
    """Cells that have layers and no measurement that stays, those of the oldest jobs first."""
    stays = exists().where(Measurement.cell_id == Cell.id, side.stays)
    query = (
        select(Analysis.cell_id)
        .join(Cell, Cell.id == Analysis.cell_id)
        .join(Job, Job.id == Cell.job_id)
        .where(*side.conditions)
        .order_by(Job.finished_at, Cell.id)
    )
    return _due(session, query, stays, limit)


def _due(session: Session, query: Select[Any], stays: ColumnElement[bool], limit: int) -> Sequence[str]:
    """What stays is looked for only where anything is old enough."""
    if session.execute(query.limit(1)).first() is None:
        return []
    return session.scalars(query.where(~stays).limit(limit)).all()


def delete_layers(session: Session, cell_ids: Sequence[str]) -> None:
    """Forget the layers of some cells; their figures stay."""
    session.execute(delete(Analysis).where(Analysis.cell_id.in_(cell_ids)))


def delete_jobs(session: Session, job_ids: Sequence[str]) -> None:
    """Forget some jobs and everything that is theirs, also the jobs that only explain them."""
    explaining = session.scalars(select(Job.id).where(Job.explains.in_(job_ids))).all()
    if explaining:
        delete_jobs(session, explaining)
    cells = select(Cell.id).where(Cell.job_id.in_(job_ids))
    for of_cell in OF_A_CELL:
        session.execute(delete(of_cell).where(of_cell.cell_id.in_(cells)))
    for table in OF_A_JOB:
        session.execute(delete(table).where(table.job_id.in_(job_ids)))
    session.execute(delete(Job).where(Job.id.in_(job_ids)))


def _newest_of_each_series(query: Select[Any]) -> Select[Any]:
    newest_first = func.row_number().over(
        partition_by=Measurement.series_key,
        order_by=(Job.measured_at.desc(), Job.id.desc(), Measurement.id.desc()),
    )
    ranked = query.add_columns(newest_first.label("rank")).subquery()
    return select(ranked.c.id).where(ranked.c.rank == 1)
