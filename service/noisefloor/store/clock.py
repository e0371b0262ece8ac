"""The database's clock, as this process knows it: what one process stamps is compared with what others stamp.

A machine's own clock may be an hour off. The database is asked when a connection is made; in between the
monotonic clock counts on, which nobody sets.
"""

import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Engine, event, select

_started_s: float | None = None  # what the database's clock said when the monotonic one was at zero


def follow(engine: Engine, now: ColumnElement[float]) -> None:
    """Ask for `now`, epoch seconds, on each new connection of an engine."""
    event.listen(engine, "connect", partial(_ask, str(select(now).compile(dialect=engine.dialect))))


def now_s() -> float:
    """Epoch seconds by the database's clock; by this process's own as long as it has not heard of it."""
    return time.time() if _started_s is None else _started_s + time.monotonic()


def now() -> datetime:
    """The same as a moment in UTC."""
    return datetime.fromtimestamp(now_s(), UTC)


def off_s() -> float:
    """By how many seconds this machine's clock is ahead of the database's."""
    return time.time() - now_s()


def _ask(query: str, connection: Any, _record: object) -> None:
    global _started_s  # noqa: PLW0603 - a process has one clock
    asked_s = time.monotonic()
    cursor = connection.cursor()
    cursor.execute(query)
    (said_s,) = cursor.fetchone()
    cursor.close()
    connection.rollback()
    _started_s = said_s - (asked_s + time.monotonic()) / 2
