"""Accept and pin: what somebody says of results, and the verdicts that change with it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy.orm import Session

from noisefloor.contract.figure import Figure
from noisefloor.contract.gate import BaselineRequest, BaselineView
from noisefloor.contract.job import JobStatus, unknown_sha
from noisefloor.contract.match import Match, Where
from noisefloor.contract.policy import Policy
from noisefloor.contract.resources import FieldError
from noisefloor.contract.verdict import Absence, Finding, Verdict
from noisefloor.errors import ConflictError, InvalidRequestError, NotFoundError
from noisefloor.gate.acknowledge import by_levels, by_waivers, concerns, limits, reopened
from noisefloor.gate.evidence import Level, where
from noisefloor.gate.judge import Located, conclude, measured_label
from noisefloor.store import absences, baselines, cells, clock, jobs, series, tables
from noisefloor.store.session import new_id
from noisefloor.workflow import expected
from noisefloor.workflow.baselines import acknowledgement, commit, level_figure, marked, spent
from noisefloor.workflow.evaluate import figure_of, measured_cells, policy_of, where_of
from noisefloor.workflow.verdict import give_verdict

OPEN = frozenset({Verdict.REGRESSED, Verdict.ACKNOWLEDGED})


@dataclass(frozen=True, kw_only=True)
class Found:
    """A finding of a settled job, with the rows and facts that an acceptance asks for."""

    row: tables.Finding | tables.Absence
    finding: Finding
    label: str
    where: Where
    series: str | None = None
    figure: Figure | None = None
    output_digest: str | None = None


def mark(session: Session, project: str, asked: BaselineRequest) -> tuple[tables.Mark, list[str]]:
    """Accept or pin results; says which jobs' findings changed.

    Raises `NotFoundError` for a job or commit that is not there, `ConflictError` where it is not settled or
    there is nothing to accept, `InvalidRequestError` for a day that is past.
    """
    now = clock.now()
    if asked.until is not None and asked.until < now.date():
        message = f"that day is past; today is {now.date()} in UTC"
        error = FieldError(
            field="until", message=message, value=str(asked.until), accepted=[f"≥ {now.date()}"]
        )
        raise InvalidRequestError(f"until: {message}", [error])
    jobs.lock_project(session, project)  # what is accepted at once is applied one after another
    targets = _targets(session, project, asked)
    row = tables.Mark(
        id=new_id(),
        project=project,
        kind=asked.kind,
        whole_commit=asked.sha is not None,
        job_id=targets[-1].id,
        sha=targets[-1].sha,
        branch=targets[-1].branch,
        measured_at=targets[-1].measured_at,
        matches=asked.match.model_dump(mode="json", exclude_none=True),
        reason=asked.reason,
        marked_by=asked.by,
        until=asked.until,
        created_at=now,
    )
    session.add(row)
    session.flush()
    if asked.kind == "pin":
        _require_results(session, row, targets)
        return row, []
    keys = _add_levels(session, row, targets)
    return row, _apply(session, row, keys, targets, now.date())


def view(row: tables.Mark, acknowledged: Sequence[str] = ()) -> BaselineView:
    """A mark as the service shows it."""
    return BaselineView.model_validate(
        {
            "id": row.id,
            "kind": row.kind,
            "job": row.job_id,
            "sha": row.sha,
            "branch": row.branch,
            "whole_commit": row.whole_commit,
            "match": row.matches,
            "reason": row.reason,
            "by": row.marked_by,
            "until": row.until,
            "created_at": row.created_at,
            "acknowledged": tuple(acknowledged),
        }
    )


def _targets(session: Session, project: str, asked: BaselineRequest) -> Sequence[tables.Job]:
    if asked.sha is not None:
        settled = jobs.settled_at(session, project, asked.sha)
        if not settled:
            raise NotFoundError(f"project {project!r} has no settled job of commit {unknown_sha(asked.sha)}")
        return settled
    job = jobs.find(session, project, asked.job or "")
    if job is None:
        raise NotFoundError(f"project {project!r} has no job {asked.job}")
    if job.explains is not None:
        raise ConflictError(f"job {job.id} only explains job {job.explains}: accept that one")
    if job.bisection_id is not None:
        raise ConflictError(f"job {job.id} is a step of bisection {job.bisection_id}: it decides nothing")
    if not JobStatus(job.status).settled:
        raise ConflictError(f"job {job.id} is {job.status}: nothing is known yet that could be accepted")
    return [job]


def _require_results(session: Session, row: tables.Mark, targets: Sequence[tables.Job]) -> None:
    """A pin needs at least one result that was not refused."""
    match = Match.model_validate(row.matches)
    keys = [
        m.series_key
        for job in targets
        for cell in measured_cells(session, job.id)
        for m in cell.measurements
        if match.fits(where_of(cell.plan, m))
    ]
    if not keys:
        raise ConflictError("no measurement there fits the match: nothing to pin")
    if not baselines.at_mark(session, row, keys):
        raise ConflictError("what was measured there was refused, and is no baseline: accept it first")


def _add_levels(session: Session, row: tables.Mark, targets: Sequence[tables.Job]) -> Collection[str]:
    """Keep what was accepted, and say of which series.

    Where a series was measured twice, the lower figure was seen as well.
    """
    match = Match.model_validate(row.matches)
    levels: dict[str, Found] = {}
    for job in targets:
        for found in _found(session, job):
            if found.series is None or not match.fits(found.where) or not _acceptable(found):
                continue
            before = levels.get(found.series)
            if before is None or _value(found) < _value(before):
                levels[found.series] = found
    if not levels:
        raise ConflictError(
            "there is nothing to accept: no regression there fits the match and is a number of its own; "
            "what is NaN or of another shape, or could not be evaluated, needs a waiver or a fix"
        )
    session.add_all(
        tables.AcceptedLevel(
            mark_id=row.id,
            series_key=key,
            value=found.figure.value if found.figure is not None else None,
            kind=found.figure.kind if found.figure is not None else None,
            output_digest=found.output_digest,
            limits=limits(found.finding),
        )
        for key, found in levels.items()
    )
    session.flush()
    return levels


def _acceptable(found: Found) -> bool:
    """Whether any rule is broken that an accepted level could cover."""
    missing = isinstance(found.row, tables.Absence)
    return any(
        (breach.verdict in OPEN or breach.rule == "on_improvement")
        and (missing or breach.tolerance_db is not None)
        for breach in (found.finding, *found.finding.also)
    )


def _apply(
    session: Session,
    row: tables.Mark,
    keys: Collection[str],
    targets: Sequence[tables.Job],
    today: date,
) -> list[str]:
    """Acknowledge what is covered, in the jobs named and in later ones that it holds for; oldest first."""
    named = {job.id for job in targets}
    later = baselines.settled_with_breaches(session, row.project, row.measured_at, keys)
    in_turn = [*targets, *(job for job in later if job.id not in named)]
    return [job.id for job in in_turn if _apply_to(session, row, job, today, named=job.id in named)]


def _apply_to(session: Session, row: tables.Mark, job: tables.Job, today: date, *, named: bool) -> bool:
    policy = policy_of(job).policy
    holds = named or _holds(session, row, job, policy)
    found = list(_found(session, jobs.lock(session, job.id)))
    keys = {one.series for one in found if one.series is not None}
    levels = {level.series_key: level for level in baselines.levels(session, [row.id], keys)}
    chosen = {
        one.series: one.finding.baseline
        for one in found
        if one.series in levels and one.finding.baseline is not None
    }
    used_up = spent(session, [row.id], chosen)
    changed, after = False, []
    for one in found:
        level = levels.get(one.series or "")
        finding = one.finding
        if level is not None and (holds or (one.output_digest and one.output_digest == level.output_digest)):
            what = Level(
                figure=level_figure(level),
                limits=level.limits,
                by=acknowledgement(row),
                spent=(one.series, row.id) in used_up,
            )
            finding = _acknowledged(one, what, policy, today)
        if finding != one.finding:
            changed = True
            _rewrite(one.row, finding)
        after.append(Located(label=one.label, finding=finding))
    if changed:
        judged = (job.judgement or {}).get("judged", True)
        verdict, message = conclude(policy, after, judged=judged)
        give_verdict(session, job, verdict, message)
    return changed


def _holds(session: Session, row: tables.Mark, job: tables.Job, policy: Policy) -> bool:
    head = commit(job)
    return concerns(marked(session, row, head), head, merged_into=policy.baseline.branch)


def _acknowledged(found: Found, level: Level, policy: Policy, today: date) -> Finding:
    """The finding under the acceptance; a waiver that covered it before gives way to it."""
    fresh = by_levels(reopened(found.finding), found.figure, [level], today)
    if fresh.acknowledged is None or fresh.acknowledged.kind != "acceptance":
        return found.finding
    return by_waivers(fresh, found.where, policy.waivers, today)


def _rewrite(row: tables.Finding | tables.Absence, finding: Finding) -> None:
    row.verdict = finding.verdict
    document = finding.model_dump(mode="json")
    if isinstance(row, tables.Finding):
        row.document = document
    else:
        row.document = {**row.document, "finding": document}


def _found(session: Session, job: tables.Job) -> Iterator[Found]:
    """The findings of a job in the order in which they are told."""
    measured = measured_cells(session, job.id)
    rows = {
        row.measurement_id or row.cell_id: row
        for row in cells.findings(session, [cell.row.id for cell in measured])
    }
    for cell in measured:
        label = cell.plan.label
        if cell.row.id in rows:
            row = rows[cell.row.id]
            finding = Finding.model_validate(row.document)
            yield Found(row=row, finding=finding, label=label, where=where(cell.plan))
        for m in cell.measurements:
            if m.id in rows:
                yield Found(
                    row=rows[m.id],
                    finding=Finding.model_validate(rows[m.id].document),
                    label=measured_label(label, m.edge, m.place),
                    where=where_of(cell.plan, m),
                    series=m.series_key,
                    figure=figure_of(m),
                    output_digest=m.detail.get("output_digest"),
                )
    missing = absences.of_job(session, job.id)
    where_by_key = {
        row.key: expected.where(row) for row in series.by_keys(session, [m.series_key for m in missing])
    }
    for absent in missing:
        value = Absence.model_validate(absent.document)
        yield Found(
            row=absent,
            finding=value.finding,
            label=value.label,
            where=where_by_key[absent.series_key],
            series=absent.series_key,
        )


def _value(found: Found) -> float:
    value = found.figure.value if found.figure is not None else None
    return value if value is not None else float("inf")
