"""Queries on a line: what was measured of a series, and the cells that should have and did not."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from noisefloor.contract.job import CellStatus
from noisefloor.store.jobs import COUNTS
from noisefloor.store.tables import Cell, Finding, Job, Measurement


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which jobs a line is drawn from."""

    branch: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def on(self, query: Select[Any]) -> Select[Any]:
        """The query on jobs, bounded."""
        if self.branch is not None:
            query = query.where(Job.branch == self.branch)
        if self.since is not None:
            query = query.where(Job.measured_at >= self.since)
        if self.until is not None:
            query = query.where(Job.measured_at <= self.until)
        return query


class Measured(NamedTuple):
    """A measurement as a line needs it."""

    job_id: str
    sha: str | None
    branch: str | None
    at: datetime
    ancestors: Sequence[str] | None
    imported: bool
    cell_id: str
    measurement_id: str
    value: float | None
    kind: str
    environment: str | None
    floor_db: float | None
    verdict: str | None


class Unmeasured(NamedTuple):
    """A cell that ended without a measurement."""

    job_id: str
    sha: str | None
    branch: str | None
    at: datetime
    ancestors: Sequence[str] | None
    imported: bool
    cell_id: str
    status: str
    reason: str | None
    edges: Sequence[str]


COMMIT = (Job.id, Job.sha, Job.branch, Job.measured_at, Job.git["ancestors"], Job.imported)


def measured(session: Session, key: str, window: Window, *, limit: int) -> list[Measured]:
    """The latest `limit` measurements of a series, oldest first."""
    query = (
        select(
            *COMMIT,
            Measurement.cell_id,
            Measurement.id,
            Measurement.value,
            Measurement.kind,
            Cell.environment_key,
            Finding.floor_db,
            Finding.verdict,
        )
        .join(Job, Job.id == Measurement.job_id)
        .join(Cell, Cell.id == Measurement.cell_id)
        .outerjoin(Finding, Finding.measurement_id == Measurement.id)
        .where(Measurement.series_key == key, COUNTS)
        .order_by(Job.measured_at.desc(), Job.id.desc(), Measurement.id.desc())
        .limit(limit)
    )
    return [Measured(*row) for row in reversed(session.execute(window.on(query)).all())]


def unmeasured(session: Session, lineage: str, window: Window, *, limit: int) -> list[Unmeasured]:
    """The latest `limit` cells that would have continued a line and ended in another way, oldest first."""
    query = (
        select(*COMMIT, Cell.id, Cell.status, Cell.reason, Cell.scheme["edges"])
        .join(Job, Job.id == Cell.job_id)
        .where(Cell.lineage == lineage, Cell.status.not_in((CellStatus.QUEUED, CellStatus.DONE)), COUNTS)
        .order_by(Job.measured_at.desc(), Job.id.desc(), Cell.id.desc())
        .limit(limit)
    )
    return [Unmeasured(*row) for row in reversed(session.execute(window.on(query)).all())]
