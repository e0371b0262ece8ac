"""Stored policies: a version for each change, and what one would have done to jobs of the past."""

from datetime import date

from sqlalchemy.orm import Session

from noisefloor.contract.gate import DryRunRequest, DryRunRow, DryRunView, JobPolicy, PolicyView
from noisefloor.contract.policy import Policy, PolicyOrName
from noisefloor.contract.resources import FieldError
from noisefloor.contract.verdict import LETS_THROUGH, Verdict
from noisefloor.errors import InvalidRequestError, NotFoundError
from noisefloor.store import clock, jobs, policies, tables
from noisefloor.workflow.evaluate import evaluate

NAMES_SHOWN = 20


def put(session: Session, project: str, name: str, policy: Policy) -> tuple[tables.Policy, bool]:
    """Keep a policy under a name, and say whether it is a version that was not there yet.

    Raises `InvalidRequestError` for one that says another name, and for a waiver that has ended.
    """
    if policy.name not in {None, name}:
        raise _invalid("name", f"the address says {name!r}", policy.name, [name])
    now = clock.now()
    jobs.ensure_project(session, project, now)
    jobs.lock_project(session, project)  # two puts at once are two versions
    document = policy.replace(name=name).model_dump(mode="json")
    before = policies.latest(session, project, name)
    if before is not None and before.document == document:
        return before, False
    refuse_ended_waivers(policy, now.date(), "")
    number = before.version + 1 if before is not None else 1
    row = tables.Policy(project=project, name=name, version=number, document=document, created_at=now)
    session.add(row)
    session.flush()
    return row, True


def resolve(session: Session, project: str, policy: PolicyOrName, today: date) -> JobPolicy:
    """The policy as it is now: a stored one with its version, or what was written out.

    Raises `InvalidRequestError` for a name that is not there, and for a waiver that has ended.
    """
    if isinstance(policy, Policy):
        refuse_ended_waivers(policy, today, "policy.")
        return JobPolicy(policy=policy)
    row = policies.latest(session, project, policy)
    if row is None:
        known = [known.name for known in policies.page(session, project, limit=NAMES_SHOWN, after=None)]
        raise _invalid("policy", f"project {project!r} has no policy {policy!r}", policy, known)
    return JobPolicy(name=row.name, version=row.version, policy=Policy.model_validate(row.document))


def refuse_ended_waivers(policy: Policy, today: date, prefix: str) -> None:
    """A waiver that has ended before it is made would never count."""
    for number, waiver in enumerate(policy.waivers):
        if waiver.until < today:
            field = f"{prefix}waivers.{number}.until"
            message = f"the waiver has ended; today is {today} in UTC"
            raise _invalid(field, message, str(waiver.until), [f"≥ {today}"])


def dry_run(session: Session, project: str, name: str, asked: DryRunRequest) -> DryRunView:
    """The verdicts that past jobs would have got. Reads alone.

    Each is judged as of the day on which it was settled, against the results that were accepted then.
    """
    row = found(session, project, name, asked.version)
    policy = Policy.model_validate(row.document)
    rows = []
    for job in jobs.settled_page(
        session, project, since=asked.since, until=asked.until, branch=asked.branch, limit=asked.limit
    ):
        day = (job.finished_at or job.created_at).date()
        judgement = evaluate(session, job, policy, day).judgement
        rows.append(
            DryRunRow(
                job=job.id,
                name=job.name,
                sha=job.sha,
                branch=job.branch,
                at=job.measured_at,
                was=Verdict(job.verdict),
                would_be=judgement.verdict,
                message=judgement.message,
            )
        )
    blocked = [one for one in rows if one.would_be not in LETS_THROUGH]
    return DryRunView(
        policy=view(row),
        jobs=tuple(rows),
        would_block=len(blocked),
        newly_blocked=sum(one.was in LETS_THROUGH for one in blocked),
        newly_passed=sum(one.was not in LETS_THROUGH and one.would_be in LETS_THROUGH for one in rows),
    )


def found(session: Session, project: str, name: str, version: int | None = None) -> tables.Policy:
    """The policy, or the 404 that names it."""
    if version is None:
        row = policies.latest(session, project, name)
    else:
        row = policies.version(session, project, name, version)
    if row is None:
        of = f" of version {version}" if version is not None else ""
        raise NotFoundError(f"project {project!r} has no policy {name!r}{of}")
    return row


def view(row: tables.Policy) -> PolicyView:
    """A version as the service shows it."""
    return PolicyView(
        name=row.name,
        version=row.version,
        created_at=row.created_at,
        policy=Policy.model_validate(row.document),
    )


def _invalid(field: str, message: str, value: object, accepted: list[str]) -> InvalidRequestError:
    error = FieldError(field=field, message=message, value=value, accepted=accepted)
    return InvalidRequestError(f"{field}: {message}", [error])
