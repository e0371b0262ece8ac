"""Settle: when the last cell of a job has ended, the verdict is written in the same transaction."""

import logging

from sqlalchemy.orm import Session

from noisefloor.contract.job import CellStatus, JobStatus
from noisefloor.contract.verdict import Finding
from noisefloor.store import absences, cells, clock, jobs, tables
from noisefloor.store.session import new_id
from noisefloor.telemetry import logs, traces
from noisefloor.workflow.announce import tell_again
from noisefloor.workflow.bisection import advance
from noisefloor.workflow.corners import measure_missing
from noisefloor.workflow.evaluate import Evaluation, evaluate, policy_of
from noisefloor.workflow.verdict import give_verdict

log = logging.getLogger(__name__)


def settle_if_ended(session: Session, job_id: str) -> None:
    """Judge the job if none of its cells is pending. The caller holds the job's lock."""
    if cells.count_pending(session, job_id):
        return
    with traces.span("settle", job_id), logs.about(job=job_id):
        _settle(session, job_id)


def _settle(session: Session, job_id: str) -> None:
    job = jobs.lock(session, job_id)
    now = clock.now()
    with traces.span("judge", job_id):
        evaluation = evaluate(session, job, policy_of(job).policy, now.date())
    _write_findings(session, job, evaluation)
    cancelled = any(cell.row.status == CellStatus.CANCELLED for cell in evaluation.cells)
    job.status = JobStatus.CANCELLED if cancelled else JobStatus.DONE
    job.finished_at = now
    judgement = evaluation.judgement
    job.judgement = {"judged": judgement.judged, "compared": judgement.compared.model_dump(mode="json")}
    give_verdict(session, job, judgement.verdict, judgement.message)
    log.info("settled: %s: %s", judgement.verdict, judgement.message)
    if job.bisection_id is not None:
        advance(session, job)
    elif job.explains is not None:
        tell_again(session, job.explains)
    elif job.status == JobStatus.DONE:
        measure_missing(session, job)


def _write_findings(session: Session, job: tables.Job, evaluation: Evaluation) -> None:
    cells.forget_findings(session, job.id)
    for cell, found in zip(evaluation.cells, evaluation.judgement.cells, strict=True):
        about: list[tables.Measurement | None] = [None, *cell.measurements]
        for row, finding in zip(about, [found.cell, *found.measurements], strict=True):
            if finding is not None:
                session.add(_row(cell.row, row, finding))
    absences.replace(session, job.id, evaluation.absences)


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
