"""Engines and transactions.

SQLite: WAL, foreign keys, `busy_timeout`; a writing transaction begins with BEGIN IMMEDIATE, so that it waits
for its turn at the start instead of failing in the middle.
"""

import fcntl
import os
import re
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import URL, Connection, Engine, Float, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from noisefloor.errors import MissingExtraError, SettingsError, UnavailableError
from noisefloor.failpoints import Transaction, reach
from noisefloor.store import clock

BUSY_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5
PASSWORDS = ("password", "sslpassword")  # libpq takes them in the query, too
WRITES = {"noisefloor_writes": True}
# How a database fails that is locked, full, out of connections, damaged or gone: another try may succeed.
NoAnswer = (OperationalError, InterfaceError, InternalError, NoConnectionError)
DENIED = "42501"  # SQLSTATE insufficient_privilege
DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# A server that is gone without a word is noticed by what it does not acknowledge.
PATIENCE: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}


_id_lock = threading.Lock()
_damaged: weakref.WeakSet[Engine] = weakref.WeakSet()
_last_stamp_us = 0


def new_id() -> str:
    """A new identifier: 26 hex characters that sort in the order they were made.

    Exactly so within a process; across processes as closely as each knows the database's clock.
    """
    global _last_stamp_us  # noqa: PLW0603 - the order of ids is a fact of the process
    with _id_lock:
        _last_stamp_us = max(_last_stamp_us + 1, int(clock.now_s() * 1e6))
        stamp_us = _last_stamp_us
    return f"{stamp_us:014x}{secrets.token_hex(6)}"


class database_now(GenericFunction[float]):  # noqa: N801 - SQLAlchemy names a SQL function by its class
    """Epoch seconds by the database's clock, which is the only clock that leases trust."""

    type = Float()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite_now(element: database_now, compiler: SQLCompiler, **_: Any) -> str:
    del element, compiler
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _postgres_now(element: database_now, compiler: SQLCompiler, **_: Any) -> str:
    del element, compiler
    return "extract(epoch from clock_timestamp())::float8"


def open_engine(database: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """An engine for `sqlite:///path` or `postgresql://…`.

    `busy_timeout_s` is how long SQLite waits for another writer.
    """
    url = _url(database)
    if url.get_backend_name() == "postgresql":
        patience = {name: value for name, value in PATIENCE.items() if name not in url.query}
        driver = url.set(drivername="postgresql+psycopg")
        try:
            engine = create_engine(
                driver,
                pool_pre_ping=True,
                hide_parameters=True,  # a statement that fails is logged, and some carry secrets
                connect_args=patience,
            )
        except (ImportError, NoSuchModuleError):
            raise MissingExtraError("PostgreSQL needs a driver: pip install 'noisefloor[postgres]'") from None
        event.listen(engine, "handle_error", _hide_row)
        event.listen(engine, "handle_error", _as_no_answer)
        clock.follow(engine, database_now())
        return engine
    if url.drivername != "sqlite" or url.query or url.database in {None, "", ":memory:"}:
        raise SettingsError(f"database {shown(url)} is not served; give sqlite:///path or postgresql://…")
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": busy_timeout_s})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "handle_error", _as_no_answer)
    clock.follow(engine, database_now())
    return engine


def shown(url: URL | str) -> str:
    """A database's address as it was given, but for its password."""
    address = (_url(url) if isinstance(url, str) else url).difference_update_query(PASSWORDS)
    return repr(address.set(drivername=address.get_backend_name()))


def _url(database: str) -> URL:
    try:
        return make_url(database)
    except (ArgumentError, ValueError):
        masked = re.sub(r"//.*@", "//***@", database)
        raise SettingsError(
            f"database {masked!r} is not a URL; give sqlite:///path or postgresql://…"
        ) from None


def _hide_row(context: ExceptionContext) -> None:
    """Take the row out of an error that PostgreSQL shows it in: a webhook's has its secret."""
    diagnosis = getattr(context.original_exception, "diag", None)
    row = getattr(diagnosis, "message_detail", None)
    for error in (context.original_exception, context.sqlalchemy_exception):
        if row and error is not None:
            error.args = tuple(str(said).replace(row, "(hidden)") for said in error.args)


def _as_no_answer(context: ExceptionContext) -> None:
    """Raise as `OperationalError` what drivers call otherwise: a damaged file, a right taken away."""
    error = context.sqlalchemy_exception
    if context.engine is not None and is_damage(context.original_exception):
        _damaged.add(context.engine)
    if type(error) is DatabaseError or getattr(context.original_exception, "sqlstate", None) == DENIED:
        raise OperationalError(
            context.statement, None, context.original_exception, hide_parameters=True
        ) from context.original_exception


def is_damage(error: BaseException) -> bool:
    """Whether an error of the driver, or of SQLAlchemy, says that a SQLite file is damaged."""
    code = getattr(getattr(error, "orig", None) or error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in DAMAGE  # the rest of the code says which part of the file


def was_damaged(engine: Engine) -> bool:
    """Whether damage was met in an engine's file. It stays so: a file that is mended is another's to open."""
    return engine in _damaged


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy says BEGIN, not the driver
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("noisefloor_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def writing(engine: Engine, name: Transaction) -> Iterator[Session]:
    """One transaction that writes; committed at the end, rolled back by an exception.

    Its name is that of its failpoints, before and after the commit.
    """
    with (
        engine.connect().execution_options(**WRITES) as connection,
        Session(bind=connection, expire_on_commit=False) as session,
        session.begin(),
    ):
        session.connection()  # begins here, not at the first statement
        yield session
        session.flush()
        reach(f"{name}.before_commit")
    reach(f"{name}.after_commit")


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """One transaction that only reads: a consistent picture."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the SQLite file's lock file: exactly one process writes, by whatever path it came.

    Raises `UnavailableError` when another process has it, and for a file of several names: SQLite would keep
    a log of writes beside each.
    """
    try:
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.stat().st_nlink > 1:
            raise UnavailableError(f"{path} is a file of several names (hard links); leave it one")
        file = Path(f"{path}.lock").open("a+")  # noqa: SIM115 - closed below, whatever happens
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written: {error.strerror}") from None
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"{path} is in use by {_holder(lock)}; one process writes a SQLite file"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    return lock.read().strip() or "another process"
