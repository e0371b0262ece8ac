"""Queries on what series are held against: earlier results, and those that somebody accepted or pinned.

Long, since all of them share the few conditions at its end: what counts as an earlier result stands once.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select, true, tuple_
from sqlalchemy.orm import Session, aliased

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import JobStatus
from noisefloor.contract.verdict import Baseline, Verdict
from noisefloor.store.jobs import COUNTS
from noisefloor.store.tables import Absence, AcceptedLevel, Cell, Finding, Job, Mark, Measurement

KEYS_A_QUERY = 5_000  # databases bound the number of parameters
MARKS_READ = 200  # the newest: what an older one let through is a baseline by now
BRANCH_JOBS_READ = 100  # each tells of a hundred commits
LET_THROUGH = (Verdict.PASS, Verdict.WARN, Verdict.ACKNOWLEDGED, Verdict.NO_BASELINE)
COMPARABLE = (FigureKind.FINITE, FigureKind.EXACT, FigureKind.NOT_APPLICABLE)


def previous(session: Session, job: Job, keys: Collection[str], branch: str | None) -> dict[str, Baseline]:
    """For each series its latest result earlier on the branch."""
    return _first(session, keys, _earlier(job), _on(branch), order_by=_latest())


def at_commits(
    session: Session, job: Job, keys: Collection[str], distances: Mapping[str, int]
) -> dict[str, Baseline]:
    """For each series the nearest result at one of these commits, with its distance."""
    found = _first(
        session,
        keys,
        Job.project == job.project,
        Job.id != job.id,
        Job.sha.in_(distances),
        order_by=(_nearest(distances), *_latest()),
    )
    return {key: b.replace(distance=distances.get(b.sha or "")) for key, b in found.items()}


def at_mark(
    session: Session, mark: Mark, keys: Collection[str], *, without: str | None = None
) -> dict[str, Baseline]:
    """For each series the result that was pinned or accepted: one of then, and not of the job `without`."""
    then = Job.finished_at <= mark.created_at
    other = Job.id != without if without is not None else true()
    return _first(session, keys, of_mark(mark), then, other, order_by=_latest())


def that_measured(session: Session, marks: Sequence[Mark], keys: Collection[str]) -> list[Mark]:
    """The marks of jobs that measured any of these series."""
    of_jobs = or_(
        Job.id.in_({mark.job_id for mark in marks if not mark.whole_commit}),
        Job.sha.in_({mark.sha for mark in marks if mark.whole_commit}),
    )
    measured: set[str | None] = set()
    for some in _portions(keys) if marks else ():
        of_series = select(Measurement.id).where(
            Measurement.job_id == Job.id, Measurement.series_key.in_(some)
        )
        for row in session.execute(select(Job.id, Job.sha).where(of_jobs, of_series.exists())):
            measured |= {row.id, row.sha}
    return [mark for mark in marks if (mark.sha if mark.whole_commit else mark.job_id) in measured]


def released(session: Session, job: Job, keys: Collection[str], tag: str | None) -> dict[str, Baseline]:
    """For each series its result at the release of this tag, or at the latest one."""
    named = Job.git["tag"].as_string()
    wanted = named.is_not(None) if tag is None else named == tag
    return _first(session, keys, _earlier(job), wanted, order_by=_latest())


def accepted_losses(
    session: Session, job: Job, keys: Collection[str], *, branch: str | None, ancestors: Sequence[str]
) -> dict[str, Baseline]:
    """For each series its latest result that was acknowledged under an acceptance, in the job's own past."""
    own_past = or_(_on(branch), Job.sha.in_(ancestors))
    by_acceptance = and_(Finding.verdict == Verdict.ACKNOWLEDGED, _acknowledged_by() == "acceptance")
    return _first(session, keys, _earlier(job), own_past, by_acceptance, order_by=_latest())


def known_history(session: Session, job: Job, branch: str) -> set[str]:
    """The commits known of a branch: those its other jobs measured, and their ancestors.

    On the branch itself only those that were measured: there every ancestor is the branch's own.
    """
    others = (
        Job.project == job.project,
        Job.branch == branch,
        Job.id != job.id,
        Job.sha.is_not(None),
        COUNTS,
    )
    ancestors = job.git.get("ancestors") or []
    measured = session.scalars(select(Job.sha).where(*others, Job.sha.in_(ancestors))).all()
    history = {sha for sha in measured if sha is not None}
    if job.branch != branch:
        query = (
            select(Job.sha, Job.git["ancestors"])
            .where(*others)
            .order_by(Job.measured_at.desc(), Job.id.desc())
            .limit(BRANCH_JOBS_READ)
        )
        for sha, before in session.execute(query):
            history.update([sha, *(before or [])])
    return history


def marks(session: Session, project: str, kind: str) -> Sequence[Mark]:
    """What was accepted or pinned, newest first."""
    query = select(Mark).where(Mark.project == project, Mark.kind == kind)
    return session.scalars(query.order_by(Mark.id.desc()).limit(MARKS_READ)).all()


def mark_page(session: Session, project: str, *, limit: int, before: str | None) -> Sequence[Mark]:
    """What was accepted or pinned, newest first, `limit` of them below the id `before`."""
    query = select(Mark).where(Mark.project == project).order_by(Mark.id.desc()).limit(limit)
    return session.scalars(query if before is None else query.where(Mark.id < before)).all()


def of_mark(mark: Mark) -> ColumnElement[bool]:
    """The jobs whose results were marked."""
    if mark.whole_commit:
        return and_(Job.project == mark.project, Job.sha == mark.sha)
    return Job.id == mark.job_id


def levels(session: Session, mark_ids: Collection[str], keys: Collection[str]) -> Iterator[AcceptedLevel]:
    """What these acceptances let through of the series."""
    for some in _portions(keys):
        yield from session.scalars(
            select(AcceptedLevel).where(
                AcceptedLevel.mark_id.in_(mark_ids), AcceptedLevel.series_key.in_(some)
            )
        )


def settled_with_breaches(
    session: Session, project: str, since: datetime, keys: Collection[str]
) -> Sequence[Job]:
    """Settled jobs of commits from a moment on, oldest first, in which one of the series is not a pass."""
    found: dict[str, Job] = {}
    for some in _portions(keys):
        measured = (
            select(Finding.job_id)
            .join(Measurement, Measurement.id == Finding.measurement_id)
            .where(Measurement.series_key.in_(some), Finding.verdict != Verdict.PASS)
        )
        absent = select(Absence.job_id).where(Absence.series_key.in_(some))
        query = select(Job).where(
            Job.project == project,
            Job.measured_at >= since,
            Job.finished_at.is_not(None),
            or_(Job.id.in_(measured), Job.id.in_(absent)),
        )
        found |= {job.id: job for job in session.scalars(query)}
    return sorted(found.values(), key=lambda job: (job.measured_at, job.id))


def let_through_by(
    session: Session, mark_ids: Collection[str], keys: Collection[str]
) -> Iterator[tuple[str, str, Job]]:
    """Where acceptances took effect: series, acceptance, and the job that was let through."""
    found, missing = Finding.document, Absence.document["finding"]
    for some in _portions(keys):
        measured = (
            select(Measurement.series_key, _acknowledgement(found), Job)
            .join(Job, Job.id == Measurement.job_id)
            .join(Finding, Finding.measurement_id == Measurement.id)
            .where(Measurement.series_key.in_(some), _acknowledgement(found).in_(mark_ids))
        )
        absent = (
            select(Absence.series_key, _acknowledgement(missing), Job)
            .join(Job, Job.id == Absence.job_id)
            .where(Absence.series_key.in_(some), _acknowledgement(missing).in_(mark_ids))
        )
        for query in (measured, absent):
            yield from session.execute(query)


def named_job(
    session: Session, job: Job, *, distances: Mapping[str, int] | None, branch: str | None
) -> str | None:
    """The nearest earlier job of the same name of which no series was refused as missing.

    At one of these commits, or, without any, on the branch.
    """
    let_through = and_(
        Absence.verdict.in_(LET_THROUGH),
        func.coalesce(_acknowledged_by(Absence.document["finding"]), "acceptance") == "acceptance",
    )
    refused = select(Absence.id).where(Absence.job_id == Job.id, ~let_through).exists()
    namesakes = (Job.name == job.name, Job.status == JobStatus.DONE, COUNTS)
    query = select(Job.id).where(*namesakes, ~refused).limit(1)
    if distances is not None:
        query = query.where(Job.project == job.project, Job.id != job.id, Job.sha.in_(distances))
        query = query.order_by(_nearest(distances), *_latest_job())
    else:
        query = query.where(_earlier(job), _on(branch)).order_by(*_latest_job())
    return session.scalar(query)


def accepted_absences(session: Session, job: Job, keys: Collection[str]) -> Iterator[tuple[str, Job]]:
    """Earlier jobs in which somebody accepted that a series is missing."""
    by_acceptance = _acknowledged_by(Absence.document["finding"]) == "acceptance"
    for some in _portions(keys):
        query = (
            select(Absence.series_key, Job)
            .join(Job, Job.id == Absence.job_id)
            .where(
                Absence.series_key.in_(some),
                Absence.verdict == Verdict.ACKNOWLEDGED,
                by_acceptance,
                _earlier(job),
            )
        )
        yield from session.execute(query)


def _first(
    session: Session,
    keys: Collection[str],
    *conditions: ColumnElement[bool],
    order_by: Sequence[ColumnElement[Any]],
) -> dict[str, Baseline]:
    """For each series the first result, in this order, that the gate did not refuse."""
    found: dict[str, Baseline] = {}
    for some in _portions(keys):
        rank = func.row_number().over(partition_by=Measurement.series_key, order_by=order_by)
        ranked = (
            select(Measurement.id.label("id"), rank.label("rank"))
            .join(Job, Job.id == Measurement.job_id)
            .outerjoin(Finding, Finding.measurement_id == Measurement.id)
            .where(
                Measurement.series_key.in_(some),
                Job.status == JobStatus.DONE,
                COUNTS,
                _not_refused(),
                *conditions,
            )
            .subquery()
        )
        query = (
            select(
                Measurement.series_key,
                Measurement.id.label("measurement_id"),
                Measurement.value,
                Measurement.kind,
                _output_digest().label("output_digest"),
                Job.id.label("job_id"),
                Job.sha,
                Job.measured_at,
                Cell.environment_key,
            )
            .join(Job, Job.id == Measurement.job_id)
            .join(Cell, Cell.id == Measurement.cell_id)
            .join(ranked, and_(ranked.c.id == Measurement.id, ranked.c.rank == 1))
        )
        found |= {row.series_key: _baseline(row) for row in session.execute(query)}
    return found


def _baseline(row: Any) -> Baseline:
    return Baseline(
        measurement_id=row.measurement_id,
        job_id=row.job_id,
        figure=Figure(value=row.value, kind=FigureKind(row.kind)),
        sha=row.sha,
        measured_at=row.measured_at,
        environment=row.environment_key,
        output_digest=row.output_digest,
    )


def _not_refused() -> ColumnElement[bool]:
    """A regression must not become the norm by being run twice, nor by a waiver, which ends.

    A first result is refused by nobody: it is what later ones are held against. The same commit measured
    again in another environment is no first result.
    """
    rule = Finding.document["rule"].as_string()
    first = and_(rule == "on.no_baseline", ~_measured_elsewhere_before())
    let_through = or_(and_(Finding.verdict.in_(LET_THROUGH), rule != "on.no_baseline"), first)
    for_good = func.coalesce(_acknowledged_by(), "acceptance") == "acceptance"
    rebased = or_(rule != "on_improvement", Finding.verdict == Verdict.ACKNOWLEDGED)
    judged = and_(let_through, for_good, rebased)
    return and_(Measurement.kind.in_(COMPARABLE), or_(Finding.verdict.is_(None), judged))


def _measured_elsewhere_before() -> ColumnElement[bool]:
    """Whether the series was measured at the same commit before, in another environment."""
    other, other_job, other_cell = aliased(Measurement), aliased(Job), aliased(Cell)
    here = (
        select(Cell.environment_key)
        .where(Cell.id == Measurement.cell_id)
        .correlate(Measurement)
        .scalar_subquery()
    )
    return (
        select(other.id)
        .join(other_job, other_job.id == other.job_id)
        .join(other_cell, other_cell.id == other.cell_id)
        .where(
            other.series_key == Measurement.series_key,
            other.kind.in_(COMPARABLE),
            other_job.sha == Job.sha,
            other_job.id < Job.id,
            other_job.status == JobStatus.DONE,
            other_job.explains.is_(None),
            other_cell.environment_key != here,
        )
        .exists()
    )


def _acknowledged_by(finding: Any = Finding.document) -> ColumnElement[str]:
    kind: ColumnElement[str] = finding["acknowledged"]["kind"].as_string()
    return kind


def _acknowledgement(finding: Any) -> ColumnElement[str]:
    identifier: ColumnElement[str] = finding["acknowledged"]["id"].as_string()
    return identifier


def _output_digest() -> ColumnElement[str]:
    digest: ColumnElement[str] = Measurement.detail["output_digest"].as_string()
    return digest


def _earlier(job: Job) -> ColumnElement[bool]:
    """Jobs of the project before this one, and not of the same commit: no commit is its own baseline."""
    other_commit = or_(Job.sha.is_(None), Job.sha != job.sha) if job.sha is not None else Job.id != job.id
    before = tuple_(Job.measured_at, Job.id) < (job.measured_at, job.id)
    return and_(Job.project == job.project, other_commit, before)


def _on(branch: str | None) -> ColumnElement[bool]:
    return Job.branch.is_(None) if branch is None else Job.branch == branch


def _nearest(distances: Mapping[str, int]) -> ColumnElement[int]:
    return case(dict(distances), value=Job.sha)


def _latest() -> tuple[ColumnElement[Any], ...]:
    return (*_latest_job(), Measurement.id.desc())


def _latest_job() -> tuple[ColumnElement[Any], ...]:
    return (Job.measured_at.desc(), Job.id.desc())


def _portions(keys: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(keys)
    for start in range(0, len(ordered), KEYS_A_QUERY):
        yield ordered[start : start + KEYS_A_QUERY]
