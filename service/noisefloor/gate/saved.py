"""A report judged without a service: by its floors, and against a saved report. Pure."""

from collections.abc import Iterator, Mapping

from noisefloor import plan
from noisefloor.contract.measurement import SQNR
from noisefloor.contract.report import Report
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import ACCEPTED, Baseline, Verdict
from noisefloor.gate.judge import CellEvidence, CellFindings, Evidence, floor_db, judge

# Threads are no part of a series, so that two cells of a job may share one.
Line = tuple[str, int]


def judged(report: Report, saved: Report | None = None) -> Report:
    """The report with the findings of its policy. `saved` has the baselines; without it there are none.

    What the saved report's own gate refused is no baseline. A series that it has and the report has not is
    missing, and that is a regression: a cell that gives no figure any more passes no gate.
    """
    baselines = dict(_baselines(saved)) if saved is not None else {}
    judgement = judge(report.policy, [_evidence(cell, baselines) for cell in report.cells])
    cells = tuple(
        _with_findings(cell, found) for cell, found in zip(report.cells, judgement.cells, strict=True)
    )
    missing = _missing(report, saved) if saved is not None else []
    verdict, message = judgement.verdict, judgement.message
    if missing:
        verdict = max(verdict, Verdict.REGRESSED, key=lambda v: v.severity)
        message = f"{len(missing)} series of the baseline are missing: {missing[0]}; {message}"
    return report.replace(cells=cells, verdict=verdict, message=message)


def lines(report: Report) -> Iterator[tuple[Line, CellView, MeasurementView]]:
    """Every measurement of a report, by what makes it comparable with another report's."""
    for cell in report.cells:
        for measurement in cell.measurements:
            yield (measurement.series, cell.lane.threads), cell, measurement


def label(cell: CellView) -> str:
    """Subject, scheme and lane in words."""
    return plan.Cell(ordinal=cell.ordinal, subject=cell.subject, scheme=cell.scheme, lane=cell.lane).label


def _baselines(saved: Report) -> Iterator[tuple[Line, Baseline]]:
    for line, cell, measurement in lines(saved):
        if measurement.finding is None or measurement.finding.verdict in ACCEPTED:
            yield (
                line,
                Baseline(
                    measurement_id=measurement.id,
                    job_id=cell.job_id,
                    figure=measurement.figure,
                    sha=saved.git.sha,
                    measured_at=saved.git.committed_at,
                ),
            )


def _evidence(cell: CellView, baselines: Mapping[Line, Baseline]) -> CellEvidence:
    return CellEvidence(
        label=label(cell),
        status=cell.status,
        reason=cell.reason,
        measurements=tuple(
            Evidence(
                edge=m.edge,
                place=m.place,
                metric=m.metric,
                figure=m.figure,
                own_floor=m.own_floor,
                zero_output=m.zero_output,
                floor_db=floor_db(cell.scheme, m.edge, m.place, m.metric),
                baseline=baselines.get((m.series, cell.lane.threads)),
            )
            for m in cell.measurements
        ),
    )


def _with_findings(cell: CellView, found: CellFindings) -> CellView:
    measured = zip(cell.measurements, found.measurements, strict=True)
    return cell.replace(
        finding=found.cell, measurements=tuple(m.replace(finding=finding) for m, finding in measured)
    )


def _missing(report: Report, saved: Report) -> list[str]:
    """Series of what is judged: a time or a plugin's metric that is not there any more is no loss."""
    judged_metrics = {SQNR} if report.policy.rules.coverage_min is None else {SQNR, "coverage"}
    present = {line for line, _, _ in lines(report)}
    return [
        f"{label(cell)} · {m.edge} · {m.place}"
        for line, cell, m in lines(saved)
        if line not in present and m.metric in judged_metrics
    ]
