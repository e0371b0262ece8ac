"""Settle: when the last cell of a job has ended, the verdict is written in the same transaction."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import delete
from sqlalchemy.orm import Session

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus, JobSpec, JobStatus
from noisefloor.contract.measurement import OUTPUT
from noisefloor.contract.scheme import Scheme
from noisefloor.contract.sums import Sums
from noisefloor.contract.verdict import Baseline, Finding
from noisefloor.gate.judge import Evidence, conclude, is_judged, judge_cell, judge_measurement
from noisefloor.store import cells, jobs, measurements, tables
from noisefloor.store.measurements import Previous
from noisefloor.store.session import new_id


def settle_if_ended(session: Session, job_id: str) -> None:
    """Judge the job if none of its cells is pending. The caller holds the job's lock."""
    if cells.count_pending(session, job_id):
        return
    job = jobs.lock(session, job_id)
    policy = JobSpec.model_validate(job.spec).policy
    before = measurements.previous_on_branch(session, job) if policy.rules.max_drop_db is not None else {}
    of_cell: dict[str, list[tables.Measurement]] = {}
    for measurement in measurements.of_job(session, job.id):
        of_cell.setdefault(measurement.cell_id, []).append(measurement)

    all_cells = cells.page(session, job.id)
    found: list[Finding] = []
    judged = 0
    session.execute(delete(tables.Finding).where(tables.Finding.job_id == job.id))
    for cell in all_cells:
        irregular = judge_cell(policy, CellStatus(cell.status), cell.reason)
        if irregular is not None:
            found.append(irregular)
            session.add(_row(cell, None, irregular))
        scheme = Scheme.model_validate(cell.scheme)
        for measurement in of_cell.get(cell.id, []):
            evidence = _evidence(scheme, measurement, before.get(measurement.series_key))
            judged += is_judged(policy, evidence.floor_db)
            finding = judge_measurement(policy, evidence)
            if finding is not None:
                found.append(finding)
                session.add(_row(cell, measurement, finding))

    cancelled = any(cell.status == CellStatus.CANCELLED for cell in all_cells)
    job.status = JobStatus.CANCELLED if cancelled else JobStatus.DONE
    job.verdict, job.verdict_message = conclude(found, judged=judged)
    job.finished_at = datetime.now(UTC)
    session.flush()


def figure_of(measurement: tables.Measurement) -> Figure:
    """The typed figure that a row keeps in two columns."""
    return Figure(value=measurement.value, kind=FigureKind(measurement.kind))


def zero_output(measurement: tables.Measurement) -> bool:
    """Whether the measured output was zero throughout."""
    sums = measurement.detail.get("sums")
    return sums is not None and Sums.model_validate(sums).zero_output


def _evidence(scheme: Scheme, measurement: tables.Measurement, previous: Previous | None) -> Evidence:
    floors: Mapping[str, float] = {str(edge): floor for edge, floor in scheme.floor_db.items()}
    floor_db = floors.get(measurement.edge) if measurement.place == OUTPUT else None
    baseline = None
    if previous is not None:
        baseline = Baseline(
            measurement_id=previous.measurement.id,
            job_id=previous.job.id,
            figure=figure_of(previous.measurement),
            sha=previous.job.sha,
            measured_at=previous.job.measured_at,
        )
    return Evidence(
        figure=figure_of(measurement),
        zero_output=zero_output(measurement),
        floor_db=floor_db,
        baseline=baseline,
    )


def _row(cell: tables.Cell, measurement: tables.Measurement | None, finding: Finding) -> tables.Finding:
    return tables.Finding(
        id=new_id(),
        job_id=cell.job_id,
        cell_id=cell.id,
        measurement_id=measurement.id if measurement is not None else None,
        verdict=finding.verdict,
        floor_db=finding.floor_db,
        document=finding.model_dump(mode="json"),
    )
