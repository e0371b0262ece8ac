"""Queries on gates."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from noisefloor.store.tables import Gate


def find(session: Session, project: str, gate_id: str) -> Gate | None:
    """One gate of a project."""
    return session.scalar(select(Gate).where(Gate.project == project, Gate.id == gate_id))
