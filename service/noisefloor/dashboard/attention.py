"""What needs attention in a job: every finding that is not a pass, beside the result it is compared with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from noisefloor.contract.attribution import Attribution
from noisefloor.contract.layers import LayerReport, LayerView
from noisefloor.contract.measurement import OUTPUT, SQNR
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.trend import FieldChange
from noisefloor.contract.verdict import Finding, Verdict
from noisefloor.gate.culprit import Culprit, culprit
from noisefloor.history.environments import differences
from noisefloor.store import analyses, cells, measurements, series, tables
from noisefloor.store.series import Point
from noisefloor.workflow.attribute import attributions_of
from noisefloor.workflow.losses import loss_of
from noisefloor.workflow.views import cell_views

BATCH = 2_000
NEIGHBOURS = 20  # points of other jobs may carry the same time; the one looked for is among the last few


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The result before this one: the baseline, or the previous point of the series on the branch."""

    point: Point
    is_baseline: bool
    changes: tuple[FieldChange, ...]


@dataclass(frozen=True, kw_only=True)
class Concern:
    """One finding, with everything that is needed to understand it."""

    cell: CellView
    measurement: MeasurementView | None
    finding: Finding
    earlier: Earlier | None
    layers: LayerReport | None
    culprit: Culprit | None
    attribution: Attribution | None
    environment: Mapping[str, Any] | None

    @property
    def searchable(self) -> bool:
        """Whether a bisection over layers may find what lost it."""
        measured, subject = self.measurement, self.cell.subject
        if measured is None or (measured.place, measured.metric) != (OUTPUT, SQNR):
            return False
        if subject.operator is not None or (self.layers is not None and self.layers.unavailable is not None):
            return False
        lost_db, below_db = loss_of(measured.figure, self.finding)
        return lost_db > 0 and below_db is not None


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The gravest concerns of a job, and how many there are."""

    concerns: tuple[Concern, ...]
    total: int


def attention(session: Session, job: tables.Job, *, limit: int) -> Attention:
    """The `limit` gravest findings of a job that are not a pass."""
    if job.verdict in {Verdict.PASS, Verdict.PENDING}:
        return Attention(concerns=(), total=0)
    found = sorted(_irregular(session, job.id), key=lambda item: (-item[0].severity, item[1]))
    worst = found[:limit]
    wanted = sorted({ordinal for _, ordinal, _ in worst})
    rows = [row for ordinal in wanted for row in cells.page(session, job.id, limit=1, after=ordinal - 1)]
    views = {view.id: view for view in cell_views(session, job, rows)}
    split = {one.measurement: one.attribution for one in attributions_of(session, job)}
    concerns = (
        _concern(session, job, views[row.cell_id], row, split.get(row.measurement_id or ""))
        for _, _, row in worst
    )
    return Attention(concerns=tuple(concerns), total=len(found))


def _irregular(session: Session, job_id: str) -> Iterator[tuple[Verdict, int, tables.Finding]]:
    after = -1
    while rows := cells.page(session, job_id, limit=BATCH, after=after):
        ordinals = {row.id: row.ordinal for row in rows}
        for finding in cells.findings(session, list(ordinals)):
            if finding.verdict != Verdict.PASS:
                yield Verdict(finding.verdict), ordinals[finding.cell_id], finding
        after = rows[-1].ordinal


def _concern(
    session: Session,
    job: tables.Job,
    cell: CellView,
    row: tables.Finding,
    attribution: Attribution | None,
) -> Concern:
    measurement = next((m for m in cell.measurements if m.id == row.measurement_id), None)
    finding = Finding.model_validate(row.document)
    environment = _document(session, cell.environment)
    earlier = _earlier(session, job, measurement, finding, environment)
    layers = _report(session, cell.id, measurement)
    before = _report(session, earlier.point.cell.id, measurement) if earlier is not None else None
    return Concern(
        cell=cell,
        measurement=measurement,
        finding=finding,
        earlier=earlier,
        layers=layers,
        culprit=culprit(layers, before) if layers is not None else None,
        attribution=attribution,
        environment=environment,
    )


def _earlier(
    session: Session,
    job: tables.Job,
    measurement: MeasurementView | None,
    finding: Finding,
    environment: Mapping[str, Any] | None,
) -> Earlier | None:
    if measurement is None:
        return None
    baseline = finding.baseline
    if baseline is not None:
        point = series.point_of(session, baseline.measurement_id)
    else:
        points = series.points(
            session, measurement.series, branch=job.branch, until=job.measured_at, limit=NEIGHBOURS
        )
        before = (p for p in reversed(points) if (p.job.measured_at, p.job.id) < (job.measured_at, job.id))
        point = next(before, None)
    if point is None:
        return None
    was = _document(session, point.cell.environment_key)
    return Earlier(
        point=point, is_baseline=baseline is not None, changes=differences(was or {}, environment or {})
    )


def _report(session: Session, cell_id: str, measurement: MeasurementView | None) -> LayerReport | None:
    """The layers of the measurement's edge."""
    row = analyses.find(session, cell_id) if measurement is not None else None
    if row is None or measurement is None:
        return None
    reports = LayerView.model_validate({"cell": cell_id, **row.document}).reports
    return next((report for report in reports if report.edge == measurement.edge), None)


def _document(session: Session, key: str | None) -> Mapping[str, Any] | None:
    row = measurements.environment(session, key) if key is not None else None
    return row.document if row is not None else None
