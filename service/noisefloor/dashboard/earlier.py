"""The result before a measurement's: its baseline, or else the last point of the series on the branch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from noisefloor.contract.layers import LayerReport, LayerView
from noisefloor.contract.resources import MeasurementView
from noisefloor.contract.trend import FieldChange
from noisefloor.contract.verdict import Finding
from noisefloor.history.environments import differences
from noisefloor.store import analyses, measurements, series, tables
from noisefloor.store.series import Point

NEIGHBOURS = 20  # points of other jobs may carry the same time; the one looked for is among the last few


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The result before, what of the environment is other than there, and the layers of the same edge."""

    point: Point
    is_baseline: bool
    changes: tuple[FieldChange, ...]
    layers: LayerReport | None


def earlier(
    session: Session,
    job: tables.Job,
    measurement: MeasurementView,
    finding: Finding | None,
    environment: Mapping[str, Any] | None,
) -> Earlier | None:
    """What a measurement of a job is to be compared with; None for the first of its series."""
    baseline = finding.baseline if finding is not None else None
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
    was = document(session, point.cell.environment_key)
    return Earlier(
        point=point,
        is_baseline=baseline is not None,
        changes=differences(was or {}, environment or {}),
        layers=layers(session, point.cell.id, measurement.edge),
    )


def layers(session: Session, cell_id: str, edge: str) -> LayerReport | None:
    """The layers of an edge of a cell."""
    row = analyses.find(session, cell_id)
    if row is None:
        return None
    reports = LayerView.model_validate({"cell": cell_id, **row.document}).reports
    return next((report for report in reports if report.edge == edge), None)


def document(session: Session, key: str | None) -> Mapping[str, Any] | None:
    """An environment's fields."""
    row = measurements.environment(session, key) if key is not None else None
    return row.document if row is not None else None
