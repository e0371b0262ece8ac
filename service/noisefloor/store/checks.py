"""Queries on checks, and on the deliveries from providers that open them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from noisefloor.store.session import database_now
from noisefloor.store.tables import Base, Check, HookReceipt, Job


def open_once(session: Session, row: Mapping[str, Any], *, timeout_s: float) -> bool:
    """Open a check with its limit, unless there is one of this suite at this commit. Says whether it did."""
    return _insert(session, Check, {**row, "open": True, "deadline": database_now() + timeout_s})


def receive_once(
    session: Session, *, provider: str, delivery: str, digest: str, received_at: datetime
) -> bool:
    """Remember a delivery by its id and by its body. Says whether it is new."""
    row = {"provider": provider, "delivery": delivery, "digest": digest, "received_at": received_at}
    return _insert(session, HookReceipt, row)


def reopen(session: Session, check: Check, *, timeout_s: float) -> None:
    """Let the check be pending once more, with a limit and a check run of its own."""
    check.open, check.run_id = True, None
    check.deadline = database_now() + timeout_s
    session.flush()


def get(session: Session, check_id: str) -> Check:
    """One check, not held."""
    return session.get_one(Check, check_id)


def lock(session: Session, check_id: str) -> Check:
    """The check as it is now, held until the transaction ends."""
    return session.execute(
        select(Check).where(Check.id == check_id).with_for_update().execution_options(populate_existing=True)
    ).scalar_one()


def of_job(session: Session, job_id: str) -> Check | None:
    """The check that a job decides."""
    return session.scalar(select(Check).where(Check.job_id == job_id))


def at(session: Session, *, project: str, suite: str, repository: str, sha: str) -> Check | None:
    """The check of a suite at a commit."""
    return session.scalar(
        select(Check).where(
            Check.project == project,
            Check.suite == suite,
            Check.repository == repository,
            Check.sha == sha,
        )
    )


def at_commit(session: Session, project: str, sha: str) -> Sequence[Check]:
    """The checks of a project's suites at a commit, oldest first."""
    query = select(Check).where(Check.project == project, Check.sha == sha)
    return session.scalars(query.order_by(Check.id)).all()


def on_line(session: Session, *, project: str, suite: str, repository: str, line: str) -> Sequence[Check]:
    """The checks of a branch or a pull request, newest first."""
    return session.scalars(
        select(Check)
        .where(
            Check.project == project,
            Check.suite == suite,
            Check.repository == repository,
            Check.line == line,
        )
        .order_by(Check.id.desc())
        .limit(100)
    ).all()


def expired(session: Session) -> Sequence[Check]:
    """Checks that are pending past their limit."""
    return session.scalars(
        select(Check)
        .where(Check.open.is_(True), Check.deadline < database_now())
        .order_by(Check.id)
        .limit(100)
    ).all()


def suite_of(session: Session, job_id: str) -> str | None:
    """The suite that a job names; its large spec is not read."""
    return session.scalar(select(Job.spec["suite"].as_string()).where(Job.id == job_id))


def _insert(session: Session, table: type[Base], row: Mapping[str, Any]) -> bool:
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    made = session.execute(insert(table).values(dict(row)).on_conflict_do_nothing().returning(literal(1)))
    return made.first() is not None
