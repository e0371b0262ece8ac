"""Queries on suites."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from noisefloor.store.tables import Suite


def find(session: Session, project: str, name: str) -> Suite | None:
    """One suite of a project."""
    return session.get(Suite, (project, name))


def page(session: Session, project: str, *, limit: int, after: str | None) -> Sequence[Suite]:
    """Suites by name, `limit` of them past the name `after`."""
    query = select(Suite).where(Suite.project == project).order_by(Suite.name).limit(limit)
    return session.scalars(query if after is None else query.where(Suite.name > after)).all()


def of_repository(session: Session, provider: str, repository: str) -> Sequence[Suite]:
    """The suites of a repository in all projects, held until the transaction ends: events come one by one."""
    return session.scalars(
        select(Suite)
        .where(Suite.provider == provider, Suite.repository == repository.lower())
        .order_by(Suite.project, Suite.name)
        .with_for_update()
    ).all()
