"""What is shown of rows: the read side, one consistent picture a transaction."""

from collections.abc import Iterator, Sequence

from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.budget import budgets
from noisefloor.contract.conformance import Conformance
from noisefloor.contract.job import CellStatus, JobSpec, JobStatus
from noisefloor.contract.layers import Culprit, LayerView
from noisefloor.contract.measurement import OUTPUT, SQNR, WRONG_CASES
from noisefloor.contract.resources import (
    CellView,
    ConformanceView,
    JobView,
    MeasurementView,
    Progress,
    ResultRow,
    SeriesView,
)
from noisefloor.contract.verdict import Absence, Finding
from noisefloor.contract.worker import Capabilities, WorkerState, WorkerView
from noisefloor.gate.culprit import culprit
from noisefloor.store import (
    absences,
    analyses,
    cells,
    conformance,
    jobs,
    measurements,
    shards,
    tables,
    workers,
)
from noisefloor.store.conformance import Found
from noisefloor.workflow.evaluate import figure_of, files_of, planned_cell, policy_of, zero_output
from noisefloor.workflow.waiting import waiting_for

RESULTS_SHOWN = 500


def job_view(session: Session, row: tables.Job) -> JobView:
    """One job with its progress and with the spec as it was posted."""
    (view,) = job_views(session, [row])
    missing = (Absence.model_validate(absent.document) for absent in absences.of_job(session, row.id))
    return view.replace(spec=JobSpec.model_validate(row.spec), policy=policy_of(row), missing=tuple(missing))


def result_rows(session: Session, row: tables.Job) -> tuple[ResultRow, ...] | None:
    """The headline figures of a settled job."""
    if not JobStatus(row.status).settled:
        return None
    shown = cell_views(session, row, cells.page(session, row.id, limit=RESULTS_SHOWN))
    return tuple(result for cell in shown for result in _result_rows(cell))


def job_views(session: Session, rows: Sequence[tables.Job]) -> tuple[JobView, ...]:
    """Jobs with their progress."""
    ids = [row.id for row in rows]
    counts = jobs.cell_counts(session, ids)
    running: dict[str, list[str]] = {job_id: [] for job_id in ids}
    for shard in shards.running(session, ids):
        running[shard.job_id].append(shard.progress or "starting")
    waiting = waiting_for(session, ids)
    return tuple(
        _job_view(
            row,
            Progress(
                cells=sum(counts[row.id].values()),
                ended=sum(n for status, n in counts[row.id].items() if CellStatus(status).ended),
                running=tuple(running[row.id]),
                waiting_for=waiting.get(row.id),
            ),
        )
        for row in rows
    )


def cell_views(session: Session, job: tables.Job, rows: Sequence[tables.Cell]) -> tuple[CellView, ...]:
    """Cells with their measurements, what the gate found, and how to run them again."""
    ids = [row.id for row in rows]
    conditions = jobs.conditions(session, job.id)
    found = {finding.measurement_id or finding.cell_id: finding for finding in cells.findings(session, ids)}
    measured: dict[str, list[tables.Measurement]] = {cell_id: [] for cell_id in ids}
    for measurement in measurements.of_cells(session, ids):
        measured[measurement.cell_id].append(measurement)
    kernels = conformance.of_cells(session, ids)
    views = []
    for row in rows:
        cell = planned_cell(row)
        kernel = kernels.get(row.id)
        shown = tuple(_measurement_view(m, found.get(m.id)) for m in measured[row.id])
        views.append(
            CellView(
                id=row.id,
                job_id=row.job_id,
                **dict(cell),
                status=CellStatus(row.status),
                reason=row.reason,
                traceback=row.traceback,
                executed_engine=row.executed_engine,
                environment=row.environment_key,
                files=files_of(row),
                inputs_digest=row.inputs_digest,
                duration_s=row.duration_s,
                finding=_finding(found.get(row.id)),
                measurements=shown,
                conformance=Conformance.model_validate(kernel.document) if kernel is not None else None,
                budgets=budgets(shown),
                repro=plan.repro(cell, limits=conditions.limits, analysis=conditions.analysis),
            )
        )
    return tuple(views)


def layer_view(session: Session, row: tables.Cell) -> LayerView:
    """What is known of a cell's layers, and which lost most; nothing for a cell that measured none."""
    view = _layers(row.id, analyses.find(session, row.id))
    return view.replace(lost=tuple(_lost(session, view)))


def conformance_view(found: Found) -> ConformanceView:
    """What was found of a kernel, and where it stands."""
    row = found.row
    return ConformanceView.model_validate(
        {
            **row.document,
            **{name: getattr(row, name) for name in ("id", "cell_id", "mode", "torch", "recorded_at")},
            "project": found.job.project,
            "job_id": found.job.id,
            "environment": found.cell.environment_key,
        }
    )


def series_view(row: tables.Series) -> SeriesView:
    """A series by what identifies it."""
    return SeriesView.model_validate({name: getattr(row, name) for name in SeriesView.model_fields})


def _job_view(row: tables.Job, progress: Progress) -> JobView:
    return JobView.model_validate(
        {
            "id": row.id,
            "project": row.project,
            "name": row.name,
            "status": row.status,
            "verdict": row.verdict,
            "verdict_message": row.verdict_message,
            "progress": progress,
            "git": row.git,
            "compared": (row.judgement or {}).get("compared"),
            "created_at": row.created_at,
            "finished_at": row.finished_at,
            "imported": row.imported,
            "explains": row.explains,
            "bisection": row.bisection_id,
        }
    )


def _result_rows(cell: CellView) -> Iterator[ResultRow]:
    headline = SQNR if cell.conformance is None else WRONG_CASES
    measured = {m.edge: m for m in cell.measurements if m.place == OUTPUT and m.metric == headline}
    for edge in cell.scheme.edges:
        measurement = measured.get(edge)
        finding = measurement.finding if measurement else cell.finding
        yield ResultRow(
            cell=cell.id,
            subject=cell.subject.label,
            scheme=cell.scheme.label,
            edge=edge,
            lane=cell.lane.label,
            status=cell.status,
            figure=measurement.figure if measurement and headline == SQNR else None,
            floor_db=cell.scheme.floor_db.get(edge),
            verdict=finding.verdict if finding else None,
            conformance=cell.conformance.verdict if cell.conformance else None,
        )


def _layers(cell_id: str, row: tables.Analysis | None) -> LayerView:
    return LayerView.model_validate({"cell": cell_id, **(row.document if row is not None else {})})


def _lost(session: Session, view: LayerView) -> Iterator[Culprit]:
    """Of each edge, the layer that lost most since the baseline: that of the whole output, if it has one."""
    if not view.reports:
        return
    found = {row.measurement_id: row for row in cells.findings(session, [view.cell])}
    baselines: dict[str, str] = {}
    for m in sorted(measurements.of_cells(session, [view.cell]), key=lambda m: m.place != OUTPUT):
        finding = _finding(found.get(m.id))
        if finding is not None and finding.baseline is not None:
            baselines.setdefault(m.edge, finding.baseline.measurement_id)
    for report in view.reports:
        if report.edge not in baselines:
            continue
        before = _layers("", analyses.of_measurement(session, baselines[report.edge])).reports
        most = culprit(report, next((one for one in before if one.edge == report.edge), None))
        if most is not None and most.was is not None:
            yield most


def _finding(row: tables.Finding | None) -> Finding | None:
    return Finding.model_validate(row.document) if row is not None else None


def _measurement_view(row: tables.Measurement, finding: tables.Finding | None) -> MeasurementView:
    return MeasurementView.model_validate(
        {
            "id": row.id,
            "series": row.series_key,
            "edge": row.edge,
            "place": row.place,
            "metric": row.metric,
            "figure": figure_of(row),
            "zero_output": zero_output(row),
            "finding": _finding(finding),
            **row.detail,
        }
    )


def worker_views(session: Session) -> tuple[WorkerView, ...]:
    """The workers that are there. A slot's name is its worker's, and a number."""
    doing: dict[str, list[str]] = {}
    for shard in shards.in_hand(session):
        doing.setdefault((shard.worker or "").rpartition(":")[0], []).append(shard.progress or "starting")
    return tuple(
        WorkerView(
            name=row.name,
            state=WorkerState(row.state),
            slots=row.slots,
            capabilities=Capabilities.model_validate(row.capabilities),
            started_at=row.started_at,
            silent_s=silent_s,
            doing=tuple(doing.get(row.name, ())),
        )
        for row, silent_s in workers.live(session)
    )
