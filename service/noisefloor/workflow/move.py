"""Move: the whole history from one database to another, in one transaction of the other."""

from collections.abc import Callable, Iterator

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.orm import Session

from noisefloor.dispatch.port import Dispatch
from noisefloor.errors import CannotMoveError
from noisefloor.store import copying, schema, shards, workers
from noisefloor.store.condition import named
from noisefloor.store.session import reading, shown, writing

Watch = Callable[[str, str, int], None]
"""Told of what is done (`looked at`, `copied`, `compared`), to which table, and to how many rows more."""

Step = Callable[[Connection, Connection, Table], Iterator[int]]


def move(source: Engine, target: Engine, dispatch: Dispatch, watch: Watch) -> dict[str, int]:
    """Copy every table, hold every row against its copy, announce what is queued; gives each table's rows.

    The target has all or nothing of it. Raises `CannotMoveError` where a row does not fit, or differs.
    """
    schema.require_current(source)
    with reading(source) as origin, named(target), writing(target, "move") as destination:
        require_unused(origin, source)
        given, taken = origin.connection(), destination.connection()
        schema.upgrade_within(taken)
        copying.lock(taken, "EXCLUSIVE")
        copying.require_empty(taken)
        steps: tuple[tuple[str, Step], ...] = (
            ("looked at", copying.look),
            ("copied", copying.copy),
            ("compared", copying.compare),
        )
        for done, step in steps:
            for table in copying.TABLES:
                for more in step(given, taken, table):
                    watch(done, table.name, more)
        announce(destination, dispatch)
        return copying.counts(taken)


def require_unused(session: Session, engine: Engine) -> None:
    """Refuse a PostgreSQL that is measured for, and keep others from writing it; SQLite has its lock file."""
    if engine.dialect.name != "postgresql":
        return
    if there := workers.live(session):
        raise CannotMoveError(
            f"worker {there[0][0].name} measures for {shown(engine.url)}: stop service and workers first"
        )
    with named(engine):
        copying.lock(session.connection(), "SHARE")


def announce(session: Session, dispatch: Dispatch) -> None:
    """Tell the workers of the target what is queued there."""
    queued = shards.queued(session)
    for start in range(0, len(queued), copying.BATCH):
        dispatch.send(session, queued[start : start + copying.BATCH])
