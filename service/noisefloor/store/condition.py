"""What is wrong with a database, in one sentence that names it without its password."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from noisefloor.errors import UnavailableError
from noisefloor.store.session import WRITES, shown, was_damaged
from noisefloor.store.tables import Base

OLDEST_POSTGRES = 15  # the oldest that is still mended, and that the tests were run on
VERSION_TABLE = "alembic_version"
MESSAGES = "procrastinate_jobs"
QUICKLY_CHECKED_BYTES = 64 * 2**20
MADE = {"jobs", "cells", "shards", "measurements"}  # by Noisefloor's migrations, whatever the revision
MISSING_RIGHT = """
SELECT name_, right_ FROM unnest(CAST(:names AS text[])) name_, unnest(CAST(:rights AS text[])) right_
WHERE has_table_privilege(to_regclass(name_), right_) IS NOT TRUE LIMIT 1
"""

DAMAGED = "the file is damaged; restore a backup elsewhere, by `noisefloor db restore`"
ADVICE = {
    "file is not a database": "it is no SQLite file",
    "malformed": DAMAGED,
    "readonly": "the file and its folder must be writable",
    "unable to open": "the file and its folder must be readable and writable",
    "is full": "make room on its disk",
}


@contextmanager
def named(engine: Engine) -> Iterator[None]:
    """Raise what the database refuses as an `UnavailableError` that names it and the cause."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise UnavailableError(f"{shown(engine.url)} cannot be used: {cause(error)}") from error


def cause(error: DBAPIError | sqlite3.Error) -> str:
    """What the driver says, in one line, and what to do about it."""
    said = str(getattr(error, "orig", error)).strip().splitlines()[0]
    advice = (advice for part, advice in ADVICE.items() if part in said)
    return "; ".join([said, *advice])


def require_sound(engine: Engine, *, limit_bytes: int | None = None) -> None:
    """Refuse a SQLite file that is damaged: it is looked through, unless it is larger than the limit."""
    if engine.dialect.name != "sqlite":
        return
    path = Path(str(engine.url.database))
    if not path.exists() or (limit_bytes is not None and path.stat().st_size > limit_bytes):
        return
    with named(engine), engine.connect() as connection:
        found = connection.scalar(text("PRAGMA quick_check(1)"))
    if found != "ok":
        said = str(found).splitlines()[-1]
        raise UnavailableError(f"{shown(engine.url)} cannot be used: {said}; {DAMAGED}")


def require_undamaged(engine: Engine) -> None:
    """Refuse a SQLite file in which damage was met since it was opened."""
    if was_damaged(engine):
        raise UnavailableError(f"{shown(engine.url)} cannot be used: {DAMAGED}")


def require_supported(connection: Connection) -> None:
    """Refuse a server that is older than what is tested."""
    if connection.dialect.name != "postgresql":
        return
    version = connection.scalar(text("SELECT current_setting('server_version_num')::int")) // 10_000
    if version < OLDEST_POSTGRES:
        raise UnavailableError(
            f"{shown(connection.engine.url)} is PostgreSQL {version}; {OLDEST_POSTGRES} or newer is needed"
        )


def foreign(connection: Connection, revision: str | None) -> list[str]:
    """The tables of a database that is not Noisefloor's, by name, those first that are none of its own.

    Without a revision no table is Noisefloor's, whatever its name: its migrations write both.
    """
    there = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
    if revision is not None and there >= MADE:
        return []
    return sorted(there, key=lambda name: (name in Base.metadata.tables, name))


def require_writable(engine: Engine) -> None:
    """Refuse a database that can only be read: a file, a role, a standby."""
    with (
        named(engine),
        engine.connect().execution_options(**WRITES) as connection,
        connection.begin() as trial,
    ):
        if connection.dialect.name == "sqlite":
            # BEGIN IMMEDIATE alone is a BEGIN where the file is read-only
            connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
            trial.rollback()
            return
        if connection.scalar(text("SHOW transaction_read_only")) == "on":
            raise UnavailableError(
                f"{shown(engine.url)} is read-only: default_transaction_read_only, or a standby"
            )
        asked = {
            "names": [*Base.metadata.tables, MESSAGES],
            "rights": ["SELECT", "INSERT", "UPDATE", "DELETE"],
        }
        if (missing := connection.execute(text(MISSING_RIGHT), asked).first()) is not None:
            raise UnavailableError(
                f"{shown(engine.url)} cannot be written: its role may not {missing.right_} in {missing.name_}"
            )
