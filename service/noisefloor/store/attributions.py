"""Queries on losses, and on what else was measured of the same series."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from noisefloor.contract.job import JobStatus
from noisefloor.contract.verdict import Verdict
from noisefloor.store.tables import Cell, Finding, Job, Measurement, Shard

KEYS_A_QUERY = 5_000


class Loss(NamedTuple):
    """A finding that is no pass, of a measurement with a baseline."""

    finding: Finding
    measurement: Measurement
    cell: Cell


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A series at a commit in an environment."""

    series: str
    sha: str | None
    environment: str | None


class Place(NamedTuple):
    """What the series of a cell share, at a commit in an environment."""

    lineage: str | None
    sha: str | None
    environment: str | None


class Ask(NamedTuple):
    """A cell of a job that was entered to explain another."""

    job_id: str
    settled: bool
    status: str
    reason: str | None


def losses(session: Session, job_id: str) -> Iterator[Loss]:
    """The findings of a job that may have lost something against a baseline, in the order of its cells."""
    query = (
        select(Finding, Measurement, Cell)
        .join(Measurement, Measurement.id == Finding.measurement_id)
        .join(Cell, Cell.id == Finding.cell_id)
        .where(Finding.job_id == job_id, Finding.verdict != Verdict.PASS)
        .order_by(Cell.ordinal, Measurement.id)
    )
    for row in session.execute(query):
        loss = Loss(*row)
        if loss.finding.document.get("baseline") is not None:
            yield loss


def measured_at(session: Session, wanted: Collection[Spot]) -> dict[Spot, Measurement]:
    """The latest measurement at each spot; spots where nobody measured are missing."""
    found: dict[Spot, Measurement] = {}
    shas = {spot.sha for spot in wanted if spot.sha is not None}
    keys = sorted({spot.series for spot in wanted})
    for start in range(0, len(keys), KEYS_A_QUERY):
        query = (
            select(Measurement, Job.sha, Cell.environment_key)
            .join(Job, Job.id == Measurement.job_id)
            .join(Cell, Cell.id == Measurement.cell_id)
            .where(
                Measurement.series_key.in_(keys[start : start + KEYS_A_QUERY]),
                Job.status == JobStatus.DONE,
                Job.sha.in_(shas),
            )
            .order_by(Job.id, Measurement.id)
        )
        for row, sha, environment in session.execute(query):
            spot = Spot(series=row.series_key, sha=sha, environment=environment)
            if spot in wanted:
                found[spot] = row
    return found


def asked(session: Session, project: str, wanted: Collection[Place]) -> dict[Place, Ask]:
    """Where jobs that explain others were entered to measure at these places, the latest of each."""
    found: dict[Place, Ask] = {}
    shas = {place.sha for place in wanted if place.sha is not None}
    lineages = sorted({place.lineage for place in wanted if place.lineage is not None})
    for start in range(0, len(lineages), KEYS_A_QUERY):
        query = (
            select(
                Cell.lineage,
                Job.sha,
                Shard.wants_environment,
                Job.id,
                Job.finished_at.is_not(None),
                Cell.status,
                Cell.reason,
            )
            .join(Job, Job.id == Cell.job_id)
            .join(Shard, Shard.id == Cell.shard_id)
            .where(
                Cell.lineage.in_(lineages[start : start + KEYS_A_QUERY]),
                Job.project == project,
                Job.explains.is_not(None),
                Job.sha.in_(shas),
            )
            .order_by(Job.id)
        )
        for row in session.execute(query):
            found[Place(*row[:3])] = Ask(*row[3:])
    return found
