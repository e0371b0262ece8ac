"""Queries on what projects decide for themselves."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from noisefloor.contract.project import ProjectSettings, Retention
from noisefloor.store.tables import Project


def exists(session: Session, name: str) -> bool:
    """Whether there is such a project."""
    return session.scalar(select(Project.name).where(Project.name == name)) is not None


def settings(session: Session, name: str) -> ProjectSettings:
    """A project's settings; the defaults where it has none."""
    found = session.scalar(select(Project.settings).where(Project.name == name))
    return ProjectSettings.model_validate(found or {})


def retention(session: Session, name: str) -> Retention:
    """How long a project keeps what was measured; forever where it does not say."""
    found = session.scalar(select(Project.retention).where(Project.name == name))
    return Retention.model_validate(found or {})


def write_settings(session: Session, name: str, given: ProjectSettings) -> None:
    """Replace a project's settings."""
    document = given.model_dump(mode="json")
    session.execute(update(Project).where(Project.name == name).values(settings=document))


def write_retention(session: Session, name: str, given: Retention) -> None:
    """Replace what a project says of retention."""
    document = given.model_dump(mode="json")
    session.execute(update(Project).where(Project.name == name).values(retention=document))
