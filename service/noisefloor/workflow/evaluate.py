"""Evaluate: a job's results under a policy, on a day. Reads alone: settling, dry runs and gates share it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.conformance import Conformance
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.files import Files
from noisefloor.contract.gate import JobPolicy
from noisefloor.contract.job import CellStatus, Git
from noisefloor.contract.match import Where
from noisefloor.contract.measurement import SQNR
from noisefloor.contract.policy import Policy
from noisefloor.contract.sums import Sums
from noisefloor.contract.verdict import Absence, Baseline
from noisefloor.gate.baseline import Choice
from noisefloor.gate.evidence import (
    AbsentSeries,
    CellEvidence,
    Evidence,
    Level,
    cell_evidence,
    floor_db,
    where,
)
from noisefloor.gate.files import doubt
from noisefloor.gate.judge import Judgement, judge
from noisefloor.store import cells, conformance, measurements, tables
from noisefloor.workflow import expected
from noisefloor.workflow.baselines import Baselines
from noisefloor.workflow.expected import Expected


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A cell of the job with what it measured, and what it found of a kernel."""

    row: tables.Cell
    plan: plan.Cell
    measurements: Sequence[tables.Measurement]
    kernel: Conformance | None = None


@dataclass(frozen=True, kw_only=True)
class History:
    """What is known of the job's series from other jobs."""

    choices: Mapping[str, Choice] = field(default_factory=dict)
    anchors: Mapping[str, Baseline] = field(default_factory=dict)
    levels: Mapping[str, Sequence[Level]] = field(default_factory=dict)
    absent: Sequence[AbsentSeries] = ()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A judgement beside the cells that it is about."""

    judgement: Judgement
    cells: Sequence[Measured]
    absences: tuple[Absence, ...]


def evaluate(session: Session, job: tables.Job, policy: Policy, today: date) -> Evaluation:
    """Judge what a job measured."""
    measured = measured_cells(session, job.id)
    history = _history(session, job, policy, measured, today)
    git = Git.model_validate(job.git)
    evidence = [_cell_evidence(cell, git, history) for cell in measured]
    judgement = judge(policy, evidence, today=today, absent=history.absent)
    return Evaluation(
        judgement=judgement,
        cells=measured,
        absences=tuple(
            Absence(series=one.series, label=one.label, finding=finding)
            for one, finding in zip(history.absent, judgement.absent, strict=True)
        ),
    )


def measured_cells(session: Session, job_id: str) -> list[Measured]:
    """The cells of a job with their measurements and kernels."""
    of_cell: dict[str, list[tables.Measurement]] = {}
    for measurement in measurements.of_job(session, job_id):
        of_cell.setdefault(measurement.cell_id, []).append(measurement)
    kernels = {
        cell_id: Conformance.model_validate(row.document)
        for cell_id, row in conformance.of_job(session, job_id).items()
    }
    return [
        Measured(
            row=row,
            plan=planned_cell(row),
            measurements=of_cell.get(row.id, ()),
            kernel=kernels.get(row.id),
        )
        for row in cells.page(session, job_id)
    ]


def policy_of(job: tables.Job) -> JobPolicy:
    """The policy that a job is judged by, as it was when the job was posted."""
    if job.policy is not None:
        return JobPolicy.model_validate(job.policy)
    # posted before policies were kept beside the spec
    return JobPolicy(policy=Policy.model_validate(job.spec.get("policy") or {}))


def planned_cell(row: tables.Cell) -> plan.Cell:
    """The cell as it was planned."""
    return plan.Cell.model_validate(
        {"ordinal": row.ordinal, "subject": row.subject, "scheme": row.scheme, "lane": row.lane}
    )


def figure_of(measurement: tables.Measurement) -> Figure:
    """The typed figure that a row keeps in two columns."""
    return Figure(value=measurement.value, kind=FigureKind(measurement.kind))


def files_of(row: tables.Cell) -> Files | None:
    """Of which commit the files were, where the cell was measured from some and its worker said it."""
    return Files.model_validate(row.files) if row.files is not None else None


def zero_output(measurement: tables.Measurement) -> bool:
    """Whether the measured output was zero throughout."""
    sums = measurement.detail.get("sums")
    return sums is not None and Sums.model_validate(sums).zero_output


def where_of(cell: plan.Cell, measurement: tables.Measurement) -> Where:
    """Where a measurement stands among the series."""
    place = measurement.place if measurement.metric == SQNR else None
    return where(cell).model_copy(update={"edge": measurement.edge, "place": place})


def _history(
    session: Session, job: tables.Job, policy: Policy, measured: Sequence[Measured], today: date
) -> History:
    present = {m.series_key: where_of(cell.plan, m) for cell in measured for m in cell.measurements}
    past = Baselines(session, job, policy, today)
    if not policy.compares:
        return History(levels=past.levels(present, _digests(measured), {}))
    wanted = _expected(session, job, policy, measured, past)
    series = {**present, **{key: one.where for key, one in wanted.items()}}
    environments = {m.series_key: cell.row.environment_key for cell in measured for m in cell.measurements}
    choices = past.choices(series, environments)
    chosen = {key: choice.baseline for key, choice in choices.items() if choice.baseline is not None}
    levels = past.levels(series, _digests(measured), chosen)
    missing = expected.lost(session, wanted, chosen, present)
    accepted = past.accepted_as_missing({key: chosen[key] for key in missing if key in chosen})
    return History(
        choices=choices,
        anchors=_anchors(past, policy, present),
        levels=levels,
        absent=[
            AbsentSeries(
                series=key,
                label=wanted[key].label,
                where=wanted[key].where,
                metric=wanted[key].metric,
                baseline=chosen.get(key),
                status=wanted[key].status,
                levels=tuple(levels.get(key, ())),
            )
            for key in missing
            if key not in accepted
        ],
    )


def _expected(
    session: Session, job: tables.Job, policy: Policy, measured: Sequence[Measured], past: Baselines
) -> dict[str, Expected]:
    cells_of_job = ((cell.plan, CellStatus(cell.row.status)) for cell in measured)
    own = expected.of_cells(session, job.project, policy, cells_of_job)
    return expected.of_namesake(session, policy, past.of_named_job(), own)


def _anchors(past: Baselines, policy: Policy, present: Mapping[str, Where]) -> dict[str, Baseline]:
    """What creep is measured from, for each series that a rule on creep is about."""
    since: dict[str, dict[str, Where]] = {}
    for key, at in present.items() if policy.limits_creep else ():
        rule = policy.rules_for(at).creep_db
        if rule is not None:
            since.setdefault(rule.since, {})[key] = at
    return {key: b for start, series in since.items() for key, b in past.anchors(start, series).items()}


def _digests(measured: Sequence[Measured]) -> dict[str, Collection[str]]:
    digests: dict[str, set[str]] = {}
    for cell in measured:
        for m in cell.measurements:
            if m.detail.get("output_digest") is not None:
                digests.setdefault(m.series_key, set()).add(m.detail["output_digest"])
    return {key: frozenset(found) for key, found in digests.items()}


def _cell_evidence(cell: Measured, git: Git, history: History) -> CellEvidence:
    return cell_evidence(
        cell.plan,
        status=CellStatus(cell.row.status),
        reason=cell.row.reason,
        doubt=doubt(git, cell.plan.subject, files_of(cell.row)),
        measurements=[_evidence(cell, measurement, history) for measurement in cell.measurements],
    )


def _evidence(cell: Measured, measurement: tables.Measurement, history: History) -> Evidence:
    key, detail = measurement.series_key, measurement.detail
    choice = history.choices.get(key, Choice())
    return Evidence.model_validate(
        {
            "edge": measurement.edge,
            "place": measurement.place,
            "metric": measurement.metric,
            "own_floor": detail.get("own_floor"),
            "figure": figure_of(measurement),
            "zero_output": zero_output(measurement),
            "output_digest": detail.get("output_digest"),
            "floor_db": floor_db(cell.plan.scheme, measurement.edge, measurement.place, measurement.metric),
            "baseline": choice.baseline,
            "unfound": choice.reason,
            "anchor": history.anchors.get(key),
            "levels": history.levels.get(key, ()),
            "conformance": cell.kernel,
        }
    )
