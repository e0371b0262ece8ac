"""Queries on stored policies."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from noisefloor.store.tables import Policy


def latest(session: Session, project: str, name: str) -> Policy | None:
    """The latest version of a policy."""
    query = select(Policy).where(Policy.project == project, Policy.name == name)
    return session.scalar(query.order_by(Policy.version.desc()).limit(1))


def version(session: Session, project: str, name: str, number: int) -> Policy | None:
    """One version of a policy."""
    return session.get(Policy, (project, name, number))


def page(session: Session, project: str, *, limit: int, after: str | None) -> Sequence[Policy]:
    """The latest version of each policy by name, `limit` of them past the name `after`."""
    newest = (
        select(Policy.name, func.max(Policy.version).label("version"))
        .where(Policy.project == project)
        .group_by(Policy.name)
        .subquery()
    )
    query = (
        select(Policy)
        .join(newest, (Policy.name == newest.c.name) & (Policy.version == newest.c.version))
        .where(Policy.project == project)
        .order_by(Policy.name)
        .limit(limit)
    )
    return session.scalars(query if after is None else query.where(Policy.name > after)).all()


def versions(session: Session, project: str, name: str) -> Sequence[Policy]:
    """All versions of a policy, newest first."""
    query = select(Policy).where(Policy.project == project, Policy.name == name)
    return session.scalars(query.order_by(Policy.version.desc())).all()
