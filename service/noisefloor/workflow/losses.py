"""The loss that a bisection looks for: the worst of a measured job, or that of one series of a posted one."""

import math
from typing import NamedTuple

from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.bisection import BisectionSpec
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import JobSpec, JobStatus
from noisefloor.contract.measurement import OUTPUT, SQNR
from noisefloor.contract.scheme import Edge
from noisefloor.contract.verdict import Finding, Verdict
from noisefloor.errors import ConflictError, NotFoundError
from noisefloor.identity import series_identity, series_key
from noisefloor.store import bisections, jobs, series, tables
from noisefloor.workflow.check import invalid
from noisefloor.workflow.evaluate import figure_of, planned_cell

REFUSED = frozenset({Verdict.REGRESSED, Verdict.ACKNOWLEDGED})


class Target(NamedTuple):
    """What each step measures, what is bad in it, and what is known of a measured job.

    Of that the commit since which it is bad, and the figure that it had.
    """

    title: str
    spec: JobSpec
    below_db: float | None
    good_sha: str | None = None
    had: Figure | None = None


class Loss(NamedTuple):
    """What a cell lost: in dB, against what, and what is bad then."""

    lost_db: float
    below_db: float | None
    cell: tables.Cell
    edge: Edge
    good_sha: str | None
    figure: Figure


def target(session: Session, project: str, asked: BisectionSpec) -> Target:
    """What is asked to be bisected. Raises the error that names what is not there."""
    if asked.job is None:
        return _of_job(session, project, asked)
    spec = asked.job if asked.series is None else _only_series(session, project, asked.job, asked.series)
    return Target(title=spec.name, spec=spec, below_db=asked.below_db)


def only(spec: JobSpec, cell: plan.Cell, edge: Edge) -> JobSpec:
    """The job of one cell and one edge of it."""
    scheme = cell.scheme.replace(edges=(edge,), floor_db={})
    alone = plan.alone(cell.replace(scheme=scheme), limits=spec.limits, analysis=spec.analysis)
    return spec.replace(subjects=alone.subjects, schemes=(), lanes=alone.lanes)


def _of_job(session: Session, project: str, asked: BisectionSpec) -> Target:
    job = jobs.find(session, project, asked.of or "")
    if job is None:
        raise NotFoundError(f"project {project!r} has no job {asked.of}")
    if not JobStatus(job.status).settled:
        raise ConflictError(f"job {job.id} is {job.status}: what it lost is known once it is settled")
    losses = [_loss(row, found, cell) for found, row, cell in bisections.headlines(session, job.id)]
    if asked.series is not None:
        losses = [
            loss
            for loss, (_, row, _cell) in zip(losses, bisections.headlines(session, job.id), strict=True)
            if row.series_key == asked.series
        ]
    worst = max(losses, key=lambda loss: loss.lost_db, default=None)
    if worst is None or worst.lost_db <= 0:
        which = f"of series {asked.series} " if asked.series is not None else ""
        raise invalid("of", f"job {job.id} lost nothing {which}against a baseline or a floor", asked.of, None)
    below_db = asked.below_db if asked.below_db is not None else worst.below_db
    if asked.over == "layers" and below_db is None:
        raise invalid("below_db", "the loss has no number to take the middle of: give one", None, None)
    spec = only(JobSpec.model_validate(job.spec), planned_cell(worst.cell), worst.edge)
    return Target(
        title=job.name or job.id,
        spec=spec,
        below_db=below_db,
        good_sha=worst.good_sha,
        had=worst.figure,
    )


def loss_of(figure: Figure, finding: Finding) -> tuple[float, float | None]:
    """How many dB were lost against a baseline or a floor, nothing at 0 and below; and what is bad then."""
    below_db = finding.floor_db
    lost_db = _under(figure, finding.floor_db)
    if finding.drop_db is not None and finding.drop_db > max(lost_db, 0.0) and figure.value is not None:
        lost_db, below_db = finding.drop_db, figure.value + finding.drop_db / 2
    if lost_db <= 0 and finding.verdict in REFUSED:
        lost_db = math.inf  # what has no number lost more than any number can say
    return lost_db, below_db


def _loss(row: tables.Measurement, found: tables.Finding, cell: tables.Cell) -> Loss:
    finding, figure = Finding.model_validate(found.document), figure_of(row)
    lost_db, below_db = loss_of(figure, finding)
    return Loss(
        lost_db=lost_db,
        below_db=below_db,
        cell=cell,
        edge=row.edge,  # type: ignore[arg-type]  # a word of the contract in a column
        good_sha=finding.baseline.sha if finding.baseline is not None else None,
        figure=figure,
    )


def _under(figure: Figure, floor_db: float | None) -> float:
    return floor_db - figure.value if floor_db is not None and figure.value is not None else 0.0


def _only_series(session: Session, project: str, spec: JobSpec, key: str) -> JobSpec:
    row = series.find(session, project, key)
    if row is None:
        raise invalid("series", f"project {project!r} has no such series", key, None)
    if (row.place, row.metric) != (OUTPUT, SQNR):
        raise invalid("series", "is not that of a whole output in decibels", key, None)
    for cell in plan.cells(spec):
        for edge in cell.scheme.edges:
            identity = series_identity(
                project=project,
                subject=cell.subject,
                quantization=cell.scheme.quantization,
                edge=edge,
                lane=cell.lane,
                metric=SQNR,
                place=OUTPUT,
            )
            if series_key(identity) == key:
                return only(spec, cell, edge)
    raise invalid("series", "is none that the job measures", key, None)
