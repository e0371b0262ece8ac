"""Deliver: what is taken out of the outbox, and what becomes of it. Sending itself holds no transaction."""

from typing import Any

from sqlalchemy.orm import Session

from noisefloor.ci.transport import Outcome
from noisefloor.contract.base import Value
from noisefloor.contract.delivery import (
    Announcement,
    CheckTarget,
    DeliveryStatus,
    DeliveryView,
    Reasons,
)
from noisefloor.contract.job import Git, JobStatus
from noisefloor.contract.suite import Provider
from noisefloor.contract.verdict import Verdict
from noisefloor.errors import ConflictError, NotFoundError
from noisefloor.store import checks, clock, deliveries, jobs, tables
from noisefloor.workflow.announce import WEBHOOK, tell_check
from noisefloor.workflow.cancel import cancel
from noisefloor.workflow.reasons import reasons

PROVIDERS: tuple[Provider, ...] = ("github", "gitlab")
ERROR_LENGTH = 2_000
LONGEST_WAIT_S = 3_600.0


class Parcel(Value):
    """A delivery in a sender's hands. `attempt` is the fencing token of what it reports."""

    delivery: str
    attempt: int
    announcement: Announcement
    reasons: Reasons = Reasons()
    check: CheckTarget | None = None
    run_id: str | None = None
    webhook_url: str = ""
    webhook_secret: str = ""

    @property
    def kind(self) -> str:
        """Whom it goes to: a provider, or a webhook."""
        return self.check.provider if self.check is not None else WEBHOOK


def claim(session: Session, kinds: tuple[str, ...]) -> Parcel | None:
    """The next delivery of these kinds that is due, with all that its sender needs."""
    while (row := deliveries.claim_next(session, kinds)) is not None:
        told = Announcement.model_validate(row.announcement)
        parcel: dict[str, Any] = {"delivery": row.id, "attempt": row.attempt, "announcement": told}
        if told.job is not None and told.verdict is not Verdict.PENDING:
            parcel["reasons"] = reasons(session, told.project, told.job)
        if row.check_id is not None:
            check = checks.get(session, row.check_id)
            return Parcel(**parcel, check=_target(check), run_id=check.run_id)
        webhook = deliveries.webhook(session, row.project, row.target)
        if webhook is not None and webhook.enabled:
            return Parcel(**parcel, webhook_url=webhook.url, webhook_secret=webhook.secret)
        _end(row, DeliveryStatus.DEAD, error=f"webhook {row.target!r} is switched off or gone")
        session.flush()
    return None


def conclude(
    session: Session, parcel: Parcel, outcome: Outcome, *, tries: int, backoff_s: float, jitter: float
) -> str:
    """Write down how an attempt ended, unless a later one holds the delivery, and say what became of it.

    `jitter` is from 0 to 1.
    """
    # a job is held before its check, and a check before its deliveries, here as where they are announced
    if outcome.ancestors and parcel.announcement.job is not None:
        _remember_ancestors(session, parcel.announcement.job, outcome.ancestors)
    check = checks.lock(session, parcel.check.check) if parcel.check is not None else None
    row = deliveries.held(session, parcel.delivery, parcel.attempt)
    if row is None:
        return "left to a later attempt"
    row.response_status = outcome.status
    row.error = outcome.error.replace("\x00", " ")[:ERROR_LENGTH] if outcome.error is not None else None
    if outcome.run_id is not None and check is not None:
        check.run_id = outcome.run_id
    if outcome.result == "delivered":
        _end(row, DeliveryStatus.DELIVERED)
    elif deliveries.is_superseded(session, row):
        _end(row, DeliveryStatus.SUPERSEDED)
    elif outcome.result == "retry" and row.tries < tries:
        deliveries.put_off(
            session, row, max(wait_s(row.tries, backoff_s=backoff_s, jitter=jitter), outcome.after_s or 0.0)
        )
    else:
        _end(row, DeliveryStatus.DEAD)
    became = _became(row)
    if outcome.result == "gone" and row.kind == WEBHOOK:
        webhook = deliveries.webhook(session, row.project, row.target)
        if webhook is not None:
            webhook.enabled, webhook.disabled_reason = False, "the receiver answered 410: it is gone"
            became += f", webhook {row.target!r} of project {row.project!r} switched off"
    return became


def release(session: Session, parcel: Parcel) -> None:
    """Give back what its sender cannot finish: it is due at once, and the attempt does not count."""
    row = deliveries.held(session, parcel.delivery, parcel.attempt)
    if row is not None and row.lease_until is not None:
        row.tries -= 1
        deliveries.put_off(session, row, 0.0)


def wait_s(tries: int, *, backoff_s: float, jitter: float) -> float:
    """Seconds before the next try: doubled each time, an hour at most, and half of it by chance.

    >>> [wait_s(tries, backoff_s=5, jitter=1.0) for tries in (1, 2, 3, 20)]
    [5.0, 10.0, 20.0, 3600.0]
    >>> wait_s(1, backoff_s=5, jitter=0.0)
    2.5
    """
    return min(backoff_s * 2.0 ** (tries - 1), LONGEST_WAIT_S) * (0.5 + 0.5 * jitter)


def expire(session: Session) -> None:
    """End the checks that are past their limit as errors, and the jobs that did not make it."""
    for stale in checks.expired(session):
        job_id, deadline = stale.job_id, stale.deadline
        job = jobs.lock(session, job_id) if job_id is not None else None
        check = checks.lock(session, stale.id)
        if not check.open or check.deadline != deadline or check.job_id != job_id:
            continue  # a verdict, or another run, was faster
        check.open = False
        if job is not None and not JobStatus(job.status).settled:
            cancel(session, job)
        tell_check(session, check, Verdict.ERROR, "could not evaluate: no verdict within the suite's limit")


def replay(session: Session, project: str, delivery_id: str) -> tables.Delivery:
    """Send a dead letter again. Raises `ConflictError` for what is not dead or was overtaken."""
    row = deliveries.find(session, project, delivery_id)
    if row is None:
        raise NotFoundError(f"project {project!r} has no delivery {delivery_id}")
    if row.status != DeliveryStatus.DEAD:
        raise ConflictError(f"delivery {delivery_id} is {row.status}; only dead ones are replayed")
    if deliveries.is_superseded(session, row):
        raise ConflictError(f"something newer than delivery {delivery_id} was told in its place")
    row.status, row.tries, row.ended_at = DeliveryStatus.PENDING, 0, None
    deliveries.put_off(session, row, 0.0)
    session.refresh(row)
    return row


def delivery_view(row: tables.Delivery) -> DeliveryView:
    """A delivery as it is shown."""
    return DeliveryView.model_validate({name: getattr(row, name) for name in DeliveryView.model_fields})


def _remember_ancestors(session: Session, job_id: str, ancestors: tuple[str, ...]) -> None:
    """Give a job that a webhook started what it is judged by; its client would have sent it."""
    job = jobs.lock(session, job_id)
    git = Git.model_validate(job.git)
    if not git.ancestors:
        job.git = git.replace(ancestors=ancestors).model_dump(mode="json")
        job.spec = {**job.spec, "git": job.git}


def _target(check: tables.Check) -> CheckTarget:
    return CheckTarget.model_validate(
        {
            "check": check.id,
            "provider": check.provider,
            "repository": check.repository,
            "sha": check.sha,
            "context": check.context,
            "installation": check.installation,
        }
    )


def _became(row: tables.Delivery) -> str:
    tries = f"{row.tries} {'try' if row.tries == 1 else 'tries'}"
    told = {
        DeliveryStatus.PENDING: f"to be sent again after {tries}",
        DeliveryStatus.DEAD: f"dead letter after {tries}",
    }
    return told.get(DeliveryStatus(row.status), row.status)


def _end(row: tables.Delivery, status: DeliveryStatus, error: str | None = None) -> None:
    row.status, row.lease_until, row.ended_at = status, None, clock.now()
    row.error = error or row.error
