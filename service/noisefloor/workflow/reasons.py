"""Why a job's verdict is what it is: its gravest findings, with the layer to look at first and the cause."""

from sqlalchemy.orm import Session

from noisefloor.contract.delivery import Loss, Reasons
from noisefloor.contract.layers import Culprit, LayerReport, LayerView
from noisefloor.contract.measurement import OUTPUT
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import Absence, Finding, Verdict
from noisefloor.gate.culprit import culprit
from noisefloor.store import absences, analyses, cells, jobs, tables
from noisefloor.workflow.attribute import attributions_of
from noisefloor.workflow.views import cell_views

SHOWN = 5
CREEP = "creep_db"


def reasons(session: Session, project: str, job_id: str) -> Reasons:
    """The gravest findings of a job, the largest loss first; none of a job that is gone.

    A missing series is one of them. It has no figure, and no command that measures it again.
    """
    job = jobs.find(session, project, job_id)
    if job is None:
        return Reasons()
    missing = [Absence.model_validate(row.document) for row in absences.of_job(session, job_id)]
    found = [(row, Finding.model_validate(row.document), n) for row, n in cells.irregular(session, job_id)]
    found.sort(key=lambda item: (-Verdict(item[0].verdict).severity, -_lost_db(item[1]), item[2]))
    causes = {one.measurement: one.attribution.message for one in attributions_of(session, job)}
    losses = []
    for row, finding, ordinal in found[:SHOWN]:
        (view,) = cell_views(session, job, cells.page(session, job_id, limit=1, after=ordinal - 1))
        measured = next((m for m in view.measurements if m.id == row.measurement_id), None)
        cause = causes.get(measured.id) if measured is not None else None
        losses.append(_loss(session, view, measured, finding, cause))
    losses += map(_missing, missing)
    losses.sort(key=lambda loss: -loss.verdict.severity)
    return Reasons(losses=tuple(losses[:SHOWN]), more=max(0, len(found) + len(missing) - SHOWN))


def _missing(absence: Absence) -> Loss:
    finding = absence.finding
    return Loss(
        where=absence.label,
        verdict=finding.verdict,
        message=finding.message,
        baseline=finding.baseline,
        let_through=str(finding.acknowledged) if finding.acknowledged is not None else None,
    )


def _lost_db(finding: Finding) -> float:
    return finding.drop_db if finding.drop_db is not None else 0.0


def _loss(
    session: Session, cell: CellView, measured: MeasurementView | None, finding: Finding, cause: str | None
) -> Loss:
    where = f"{cell.subject.label} · {cell.scheme.label} · {cell.lane.label}"
    if measured is not None:
        where += f" · {measured.edge}" + ("" if measured.place == OUTPUT else f" · {measured.place}")
    found = _culprit(session, cell, measured, finding) if measured is not None else None
    return Loss(
        where=where,
        verdict=finding.verdict,
        message=finding.message,
        figure=measured.figure if measured is not None else None,
        floor_db=finding.floor_db,
        drop_db=finding.drop_db,
        creep_db=finding.creep_db if finding.rule == CREEP else None,
        baseline=finding.baseline,
        layer=str(found) if found is not None else None,
        cause=cause,
        let_through=str(finding.acknowledged) if finding.acknowledged is not None else None,
        repro=cell.repro,
    )


def _culprit(session: Session, cell: CellView, measured: MeasurementView, finding: Finding) -> Culprit | None:
    here = _report(analyses.find(session, cell.id), measured.edge)
    if here is None:
        return None
    baseline = finding.baseline
    before = analyses.of_measurement(session, baseline.measurement_id) if baseline is not None else None
    return culprit(here, _report(before, measured.edge))


def _report(row: tables.Analysis | None, edge: str) -> LayerReport | None:
    if row is None:
        return None
    reports = LayerView.model_validate({"cell": row.cell_id, **row.document}).reports
    return next((report for report in reports if report.edge == edge), None)
