"""What needs attention in a job: every finding that is not a pass, beside the result it is compared with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from noisefloor.contract.attribution import Attribution, Cause
from noisefloor.contract.bisection import BisectionView
from noisefloor.contract.job import Git
from noisefloor.contract.layers import Culprit, LayerReport
from noisefloor.contract.measurement import OUTPUT, SQNR
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import Absence, Finding, Verdict
from noisefloor.dashboard.earlier import Earlier, document, earlier, layers
from noisefloor.dashboard.repro import Repro, repro
from noisefloor.gate.culprit import culprit
from noisefloor.gate.steps import label_of
from noisefloor.store import absences, bisections, cells, tables
from noisefloor.workflow.attribute import attributions_of
from noisefloor.workflow.bisections import view
from noisefloor.workflow.losses import loss_of
from noisefloor.workflow.views import cell_views


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
    repro: Repro
    searches: tuple[BisectionView, ...]

    @property
    def can_be_attributed(self) -> bool:
        """Whether the cause is not known, and known once the baseline's commit is measured here."""
        if self.attribution is None or self.attribution.cause is not Cause.UNKNOWN:
            return False
        corner = self.attribution.square.old_in_new
        return corner.how == "missing" and corner.sha is not None

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
    """The gravest concerns of a job, and how many there are; a missing series is one as well.

    `searches`: bisections that explain none of these, because they found nothing or are not done.
    """

    concerns: tuple[Concern | Absence, ...]
    total: int
    searches: tuple[BisectionView, ...]


class _Found(NamedTuple):
    verdict: Verdict
    place: tuple[int, int]
    what: tables.Finding | Absence


def attention(session: Session, job: tables.Job, *, limit: int) -> Attention:
    """The `limit` gravest findings of a job that are not a pass."""
    searches = tuple(view(session, row) for row in bisections.of_job(session, job))
    if job.verdict in {Verdict.PASS, Verdict.PENDING}:
        return Attention(concerns=(), total=0, searches=searches)
    found = sorted(_found(session, job), key=lambda one: (-one.verdict.severity, one.place))
    worst = [one.what for one in found[:limit]]
    ids = {what.cell_id for what in worst if isinstance(what, tables.Finding)}
    rows = [
        row for row in (cells.find(session, job.id, cell_id) for cell_id in sorted(ids)) if row is not None
    ]
    views = {one.id: one for one in cell_views(session, job, rows)}
    split = {one.measurement: one.attribution for one in attributions_of(session, job)}
    concerns = tuple(
        what
        if isinstance(what, Absence)
        else _concern(
            session,
            job,
            views[what.cell_id],
            what,
            attribution=split.get(what.measurement_id or ""),
            searches=searches,
        )
        for what in worst
    )
    told = {one.id for concern in concerns if isinstance(concern, Concern) for one in concern.searches}
    others = tuple(one for one in searches if one.id not in told)
    return Attention(concerns=concerns, total=len(found), searches=others)


def _found(session: Session, job: tables.Job) -> Iterator[_Found]:
    """At the same gravity what was measured goes first, in the order of the cells."""
    for finding, ordinal in cells.irregular(session, job.id):
        yield _Found(Verdict(finding.verdict), (0, ordinal), finding)
    for place, row in enumerate(absences.of_job(session, job.id)):
        absence = Absence.model_validate(row.document)
        if absence.finding.verdict is not Verdict.PASS:
            yield _Found(absence.finding.verdict, (1, place), absence)


def _concern(
    session: Session,
    job: tables.Job,
    cell: CellView,
    row: tables.Finding,
    *,
    attribution: Attribution | None,
    searches: Sequence[BisectionView],
) -> Concern:
    measurement = next((m for m in cell.measurements if m.id == row.measurement_id), None)
    finding = Finding.model_validate(row.document)
    environment = document(session, cell.environment)
    before = earlier(session, job, measurement, finding, environment) if measurement is not None else None
    here = layers(session, cell.id, measurement.edge) if measurement is not None else None
    return Concern(
        cell=cell,
        measurement=measurement,
        finding=finding,
        earlier=before,
        layers=here,
        culprit=culprit(here, before.layers if before is not None else None) if here is not None else None,
        attribution=attribution,
        environment=environment,
        repro=repro(cell, Git.model_validate(job.git), environment, measurement),
        searches=tuple(
            one for one in searches if measurement is not None and _explains(one, cell, measurement)
        ),
    )


def _explains(search: BisectionView, cell: CellView, measurement: MeasurementView) -> bool:
    """Whether a bisection found what lost this figure."""
    if (
        search.found is None
        or not search.found.found
        or (measurement.place, measurement.metric) != (OUTPUT, SQNR)
    ):
        return False
    return search.found.series == label_of(cell, measurement.edge, search.spec.over)
