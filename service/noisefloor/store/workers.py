"""Queries on workers: they announce themselves, and are forgotten when they fall silent."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from noisefloor.contract.worker import Capabilities, WorkerState
from noisefloor.store.session import database_now
from noisefloor.store.tables import Worker

ALIVE_S = 10.0
FORGOTTEN_S = 3600.0


def announce(
    session: Session,
    *,
    name: str,
    capabilities: Capabilities,
    slots: int,
    state: WorkerState,
    started_at: datetime,
) -> None:
    """Say that a worker is there, and what it can do; forget those that fell silent long ago."""
    now_s = session.scalars(select(database_now())).one()
    row = session.get(Worker, name)
    if row is None:
        row = Worker(name=name, started_at=started_at)
        session.add(row)
    row.capabilities = capabilities.model_dump(mode="json")
    row.slots, row.state = slots, state.value
    row.seen_at = now_s
    session.execute(delete(Worker).where(Worker.seen_at < database_now() - FORGOTTEN_S))


def leave(session: Session, name: str) -> None:
    """A worker that stops is gone at once."""
    session.execute(delete(Worker).where(Worker.name == name))


def live(session: Session) -> Sequence[tuple[Worker, float]]:
    """The workers that were heard of lately, and for how many seconds each has been silent."""
    silent_s = database_now() - Worker.seen_at
    query = select(Worker, silent_s).where(Worker.seen_at > database_now() - ALIVE_S).order_by(Worker.name)
    return [(row, silent) for row, silent in session.execute(query)]
