"""A report judged without a service: by its floors, and against a saved report. Pure."""

from collections.abc import Iterator, Mapping
from datetime import date

from noisefloor import plan
from noisefloor.contract.job import Git
from noisefloor.contract.measurement import SQNR, WRONG_CASES
from noisefloor.contract.report import Report
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import ACCEPTED, Absence, Baseline
from noisefloor.gate.evidence import AbsentSeries, CellEvidence, cell_evidence, evidence, where
from noisefloor.gate.files import doubt
from noisefloor.gate.judge import CellFindings, judge

# Threads are no part of a series, so that two cells of a job may share one.
Line = tuple[str, int]
NOT_SAVED = "the saved report does not have this series"
REFUSED = "the saved report's own gate refused its result of this series"


def judged(report: Report, saved: Report | None = None, *, today: date) -> Report:
    """The report with the findings of its policy. `saved` has the baselines; without it there are none.

    What the saved report's own gate refused is no baseline. A series that it has and the report has not is
    missing: a cell that gives no figure any more passes no gate.
    """
    baselines = dict(_baselines(saved)) if saved is not None else {}
    unfound = None if saved is None else {line: REFUSED for line, _, _ in lines(saved)}
    absent = list(_missing(report, saved, baselines)) if saved is not None else []
    judgement = judge(
        report.policy,
        [_evidence(cell, report.git, baselines, unfound) for cell in report.cells],
        today=today,
        absent=absent,
    )
    cells = tuple(
        _with_findings(cell, found) for cell, found in zip(report.cells, judgement.cells, strict=True)
    )
    missing = tuple(
        Absence(series=one.series, label=one.label, finding=finding)
        for one, finding in zip(absent, judgement.absent, strict=True)
    )
    return report.replace(
        cells=cells,
        missing=missing,
        verdict=judgement.verdict,
        message=judgement.message,
        attributions=(),
    )


def lines(report: Report) -> Iterator[tuple[Line, CellView, MeasurementView]]:
    """Every measurement of a report, by what makes it comparable with another report's."""
    for cell in report.cells:
        for measurement in cell.measurements:
            yield (measurement.series, cell.lane.threads), cell, measurement


def label(cell: CellView) -> str:
    """Subject, scheme and lane in words."""
    return _planned(cell).label


def _planned(cell: CellView) -> plan.Cell:
    return plan.Cell(ordinal=cell.ordinal, subject=cell.subject, scheme=cell.scheme, lane=cell.lane)


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


def _evidence(
    cell: CellView, git: Git, baselines: Mapping[Line, Baseline], unfound: Mapping[Line, str] | None
) -> CellEvidence:
    threads = cell.lane.threads
    measured = (
        evidence(m, cell.scheme, cell.conformance).replace(
            baseline=baselines.get((m.series, threads)),
            unfound=None if unfound is None else unfound.get((m.series, threads), NOT_SAVED),
        )
        for m in cell.measurements
    )
    return cell_evidence(
        _planned(cell),
        status=cell.status,
        reason=cell.reason,
        doubt=doubt(git, cell.subject, cell.files),
        measurements=measured,
    )


def _with_findings(cell: CellView, found: CellFindings) -> CellView:
    measured = zip(cell.measurements, found.measurements, strict=True)
    return cell.replace(
        finding=found.cell, measurements=tuple(m.replace(finding=finding) for m, finding in measured)
    )


def _missing(report: Report, saved: Report, baselines: Mapping[Line, Baseline]) -> Iterator[AbsentSeries]:
    """Series of what is judged: a time or a plugin's metric that is not there any more is no loss."""
    judged_metrics = {SQNR, WRONG_CASES}
    if report.policy.rules.coverage_min is not None:
        judged_metrics.add("coverage")
    present = {line for line, _, _ in lines(report)}
    status = {_identity(cell): cell.status for cell in report.cells}
    for line, cell, m in lines(saved):
        if line not in present and m.metric in judged_metrics:
            planned = _planned(cell)
            yield AbsentSeries(
                series=m.series,
                label=f"{planned.label} · {m.edge} · {m.place}",
                where=where(planned).model_copy(update={"edge": m.edge, "place": m.place}),
                metric=m.metric,
                baseline=baselines.get(line),
                status=status.get(_identity(cell)),
            )


def _identity(cell: CellView) -> str:
    """What makes two cells of different reports the same."""
    return _planned(cell).replace(ordinal=0).model_dump_json(exclude_defaults=True)
