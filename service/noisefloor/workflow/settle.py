"""Settle: when the last cell of a job has ended, the verdict is written in the same transaction."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.conformance import Conformance
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus, JobSpec, JobStatus
from noisefloor.contract.scheme import Scheme
from noisefloor.contract.sums import Sums
from noisefloor.contract.verdict import Baseline, Finding
from noisefloor.gate.judge import CellEvidence, Evidence, floor_db, judge
from noisefloor.store import cells, conformance, jobs, measurements, tables
from noisefloor.store.measurements import Previous
from noisefloor.store.session import new_id
from noisefloor.workflow.announce import announce


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
    kernels = conformance.of_job(session, job.id)
    judgement = judge(
        policy,
        [_cell_evidence(cell, of_cell.get(cell.id, []), before, kernels.get(cell.id)) for cell in all_cells],
    )
    cells.forget_findings(session, job.id)
    for cell, found in zip(all_cells, judgement.cells, strict=True):
        about: list[tables.Measurement | None] = [None, *of_cell.get(cell.id, [])]
        for row, finding in zip(about, [found.cell, *found.measurements], strict=True):
            if finding is not None:
                session.add(_row(cell, row, finding))

    cancelled = any(cell.status == CellStatus.CANCELLED for cell in all_cells)
    job.status = JobStatus.CANCELLED if cancelled else JobStatus.DONE
    job.verdict, job.verdict_message = judgement.verdict, judgement.message
    job.finished_at = datetime.now(UTC)
    session.flush()
    announce(session, job)


def planned_cell(row: tables.Cell) -> plan.Cell:
    """The cell as it was planned."""
    return plan.Cell.model_validate(
        {"ordinal": row.ordinal, "subject": row.subject, "scheme": row.scheme, "lane": row.lane}
    )


def figure_of(measurement: tables.Measurement) -> Figure:
    """The typed figure that a row keeps in two columns."""
    return Figure(value=measurement.value, kind=FigureKind(measurement.kind))


def zero_output(measurement: tables.Measurement) -> bool:
    """Whether the measured output was zero throughout."""
    sums = measurement.detail.get("sums")
    return sums is not None and Sums.model_validate(sums).zero_output


def _cell_evidence(
    cell: tables.Cell,
    measured: Sequence[tables.Measurement],
    before: Mapping[str, Previous],
    kernel: tables.Conformance | None,
) -> CellEvidence:
    planned = planned_cell(cell)
    found = Conformance.model_validate(kernel.document) if kernel is not None else None
    return CellEvidence(
        label=planned.label,
        status=CellStatus(cell.status),
        reason=cell.reason,
        measurements=tuple(
            _evidence(planned.scheme, row, before.get(row.series_key), found) for row in measured
        ),
    )


def _evidence(
    scheme: Scheme,
    measurement: tables.Measurement,
    previous: Previous | None,
    found: Conformance | None,
) -> Evidence:
    baseline = None
    if previous is not None:
        baseline = Baseline(
            measurement_id=previous.measurement.id,
            job_id=previous.job.id,
            figure=figure_of(previous.measurement),
            sha=previous.job.sha,
            measured_at=previous.job.measured_at,
        )
    return Evidence.model_validate(
        {
            "edge": measurement.edge,
            "place": measurement.place,
            "metric": measurement.metric,
            "own_floor": measurement.detail.get("own_floor"),
            "figure": figure_of(measurement),
            "zero_output": zero_output(measurement),
            "floor_db": floor_db(scheme, measurement.edge, measurement.place, measurement.metric),
            "baseline": baseline,
            "conformance": found,
        }
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
