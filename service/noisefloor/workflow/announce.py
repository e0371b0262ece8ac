"""Announce: a change of verdict enters the outbox in the transaction that makes it."""

from sqlalchemy.orm import Session

from noisefloor.ci.event import Head
from noisefloor.contract.delivery import Announcement, DeliveryStatus
from noisefloor.contract.job import Git
from noisefloor.contract.suite import Suite
from noisefloor.contract.verdict import Verdict
from noisefloor.store import checks, clock, deliveries, jobs, suites, tables
from noisefloor.store.session import database_now, new_id

WEBHOOK = "webhook"
FULL_SHA_LENGTHS = {40, 64}
MESSAGE_LENGTH = 10_000


def announce(session: Session, job: tables.Job) -> None:
    """Tell the check that the job decides, and the project's webhooks. The caller holds the job's lock.

    What explains another job, or is a bisection's step, decides nothing.
    """
    if not job.counts:
        return
    verdict = Verdict(job.verdict)
    check = _check_of(session, job)
    if check is not None:
        tell_of_job(session, check, job)
    if verdict is Verdict.PENDING:
        return
    for webhook in deliveries.webhooks(session, job.project):
        if webhook.enabled and (not webhook.verdicts or verdict in webhook.verdicts):
            git = Git.model_validate(job.git)
            announcement = Announcement(
                sequence=1,
                at=clock.now(),
                project=job.project,
                job=job.id,
                suite=check.suite if check is not None else None,
                repository=git.repository,
                sha=git.sha,
                branch=git.branch,
                verdict=verdict,
                message=job.verdict_message[:MESSAGE_LENGTH],
            )
            topic = f"webhook {job.project}/{webhook.name} {job.id}"
            _enqueue(session, announcement, kind=WEBHOOK, target=webhook.name, topic=topic)


def tell_check(session: Session, check: tables.Check, verdict: Verdict, message: str) -> None:
    """Put what a check is to show into the outbox. The caller holds the check."""
    announcement = Announcement(
        sequence=1,
        at=clock.now(),
        project=check.project,
        job=check.job_id,
        suite=check.suite,
        repository=check.repository,
        sha=check.sha,
        branch=check.branch,
        verdict=verdict,
        message=message[:MESSAGE_LENGTH],
    )
    _enqueue(
        session,
        announcement,
        kind=check.provider,
        target=check.context,
        topic=f"check {check.id}",
        check_id=check.id,
    )


def open_check(session: Session, row: tables.Suite, suite: Suite, head: Head) -> tables.Check | None:
    """A suite's check at a commit, pending under the suite's limit; None if there is one already."""
    check_id = new_id()
    made = checks.open_once(
        session,
        {
            "id": check_id,
            "project": row.project,
            "suite": row.name,
            "provider": suite.provider,
            "repository": suite.repository,
            "sha": head.sha,
            "context": suite.context or f"noisefloor/{row.name}",
            "branch": head.branch,
            "line": head.line,
            "before": head.before,
            "head_at": head.at,
            "committed_at": head.committed_at,
            "installation": head.installation,
            "created_at": clock.now(),
        },
        timeout_s=suite.timeout_s,
    )
    return checks.lock(session, check_id) if made else None


def tell_of_job(session: Session, check: tables.Check, job: tables.Job) -> None:
    """Tell a check of its job's verdict, unless it has moved on."""
    check, verdict = checks.lock(session, check.id), Verdict(job.verdict)
    if check.job_id != job.id:
        return  # a later job took the check over while this one waited for it
    if job.cancel_requested and not check.open:
        return  # it has ended already, and said why
    if verdict is Verdict.PENDING and not check.open:
        checks.reopen(session, check, timeout_s=_timeout_s(session, check))
    check.open = verdict is Verdict.PENDING
    tell_check(session, check, verdict, job.verdict_message)


def tell_again(session: Session, job_id: str) -> None:
    """Tell a settled job's check once more: more is known of why the verdict is what it is."""
    job = jobs.lock(session, job_id)
    check = checks.of_job(session, job_id)
    if check is not None and job.verdict != Verdict.PENDING:
        tell_of_job(session, check, job)


def _check_of(session: Session, job: tables.Job) -> tables.Check | None:
    """The check that the job decides: as it was told, or the one of the suite that the job names."""
    check = checks.of_job(session, job.id)
    if check is not None or job.sha is None or len(job.sha) not in FULL_SHA_LENGTHS:
        return check
    name = checks.suite_of(session, job.id)
    row = suites.find(session, job.project, name) if name is not None else None
    if row is None:
        return None
    suite = Suite.model_validate(row.document)
    place = {"project": row.project, "suite": row.name, "repository": suite.repository, "sha": job.sha}
    check = checks.at(session, **place) or _opened_by(session, row, suite, job)
    if check is None or (check.job_id is not None and check.job_id > job.id):
        return None  # a later job decides it
    check = checks.lock(session, check.id)
    check.job_id = job.id
    session.flush()
    return check


def _opened_by(session: Session, row: tables.Suite, suite: Suite, job: tables.Job) -> tables.Check | None:
    """Results that come before the event, or without any, open the check themselves."""
    assert job.sha is not None  # noqa: S101 - the caller has looked
    head = Head(
        provider=suite.provider,
        event="push",
        repository=suite.repository,
        sha=job.sha,
        branch=job.branch or "",
        into=job.branch or "",
    )
    return open_check(session, row, suite, head)


def _timeout_s(session: Session, check: tables.Check) -> float:
    row = suites.find(session, check.project, check.suite)
    return Suite.model_validate(row.document).timeout_s if row is not None else 0.0


def _enqueue(
    session: Session,
    announcement: Announcement,
    *,
    kind: str,
    target: str,
    topic: str,
    check_id: str | None = None,
) -> None:
    """Take the place of what was still to be said of the topic."""
    deliveries.supersede(session, topic)
    sequence = deliveries.next_sequence(session, topic)
    session.add(
        tables.Delivery(
            id=new_id(),
            project=announcement.project,
            kind=kind,
            target=target,
            topic=topic,
            sequence=sequence,
            check_id=check_id,
            announcement=announcement.replace(sequence=sequence).model_dump(mode="json"),
            status=DeliveryStatus.PENDING,
            tries=0,
            attempt=0,
            due_at=database_now(),
            created_at=clock.now(),
        )
    )
    session.flush()
