"""Backups: one file a database, made while the service runs, by SQLite's backup API or by pg_dump."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, text

from noisefloor.errors import (
    ConflictError,
    InvalidRequestError,
    MissingExtraError,
    SettingsError,
    UnavailableError,
)
from noisefloor.store import schema
from noisefloor.store.condition import cause, named, require_supported
from noisefloor.store.copying import counts
from noisefloor.store.session import CONNECT_TIMEOUT_S, PASSWORDS, shown

MAGIC = {b"SQLite format 3\0": "sqlite", b"PGDMP": "postgresql"}
WHOLE = ("--no-owner", "--no-privileges")


def back_up(engine: Engine, file: Path) -> dict[str, int]:
    """Write one moment of the database to a new file; gives the rows of each table at that moment.

    The file is whole or not there. Raises `ConflictError` where there is one already.
    """
    if file.exists():
        raise ConflictError(f"{file} is there already; name another file")
    schema.require_file(engine)
    with named(engine), _one_moment(engine) as connection:
        if schema.revision_of(connection) is None:
            raise SettingsError(f"{shown(engine.url)} has no tables yet: there is nothing to back up")
        with _whole(file) as partial:
            if engine.dialect.name == "sqlite":
                _copy_sqlite(_path(engine), partial)
                return _counts_of(partial)
            snapshot = connection.scalar(text("SELECT pg_export_snapshot()"))
            _run(engine, "pg_dump", "--format=custom", *WHOLE, f"--snapshot={snapshot}", f"--file={partial}")
            return counts(connection)


def restore(engine: Engine, file: Path) -> tuple[str, dict[str, int]]:
    """Make the database of a backup where there is none; gives its schema, and the rows of each table.

    The database is whole or as empty as before. Raises `ConflictError` for one that has tables, and
    `InvalidRequestError` for a file that is no backup of such a database, or of a newer Noisefloor.
    """
    kind = _kind(file)
    if kind != engine.dialect.name:
        raise InvalidRequestError(
            f"{file} is a backup of a {kind} database, and {shown(engine.url)} is none;"
            " restore it to one, and `noisefloor db move` that"
        )
    if kind == "sqlite":
        _restore_sqlite(engine, file)
    else:
        _restore_postgres(engine, file)
    with named(engine), engine.connect() as connection:
        return str(schema.revision_of(connection)), counts(connection)


def _restore_sqlite(engine: Engine, file: Path) -> None:
    path = _path(engine)
    for there in (path, *(Path(f"{path}-{log}") for log in ("wal", "journal"))):
        if there.exists() and there.stat().st_size > 0:
            raise ConflictError(
                f"{there} is there already; restore to a new file, and let the service use that"
            )
    with _whole(path) as partial:
        _copy_sqlite(file, partial)
        with closing(sqlite3.connect(partial)) as copy:
            found = copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            at = copy.execute("SELECT version_num FROM alembic_version").fetchone() if found else None
        _require_known(file, at[0] if at else None)


def _restore_postgres(engine: Engine, file: Path) -> None:
    with named(engine), engine.connect() as connection:
        require_supported(connection)
        if there := inspect(connection).get_table_names():
            raise ConflictError(
                f"{shown(engine.url)} has tables already ({', '.join(sorted(there)[:3])});"
                " restore to a new database, and let the service use that"
            )
    script = _run(
        engine, "pg_restore", "--data-only", "--table=alembic_version", "--file=-", str(file), connect=False
    )
    _, _, data = script.partition("FROM stdin;\n")
    _require_known(file, data.split("\n", 1)[0] or None)
    _run(engine, "pg_restore", "--single-transaction", "--exit-on-error", *WHOLE, str(file))


def _require_known(file: Path, revision: str | None) -> None:
    if revision is None:
        raise InvalidRequestError(f"{file} is no backup of Noisefloor")
    if not schema.known(revision):
        raise InvalidRequestError(
            f"{file} is at schema {revision}, which this version does not know: upgrade Noisefloor"
        )


def _kind(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            head = opened.read(16)
    except OSError as error:
        raise InvalidRequestError(f"{file} cannot be read: {error.strerror}") from None
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    raise InvalidRequestError(f"{file} is no backup: neither a SQLite file nor an archive of pg_dump")


def _copy_sqlite(source: Path, target: Path) -> None:
    """Copy one moment of a SQLite file that others may be writing, and look whether the copy is sound."""
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as given,
            closing(sqlite3.connect(target)) as copy,
        ):
            given.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            ((found,),) = copy.execute("PRAGMA integrity_check(1)")
    except sqlite3.Error as error:
        raise UnavailableError(f"{source} cannot be copied to {target}: {cause(error)}") from error
    if found != "ok":
        raise UnavailableError(f"{source} is damaged: {found.splitlines()[-1]}")


def _counts_of(path: Path) -> dict[str, int]:
    engine = create_engine(URL.create("sqlite", database=str(path)))
    with engine.connect() as connection:
        found = counts(connection)
    engine.dispose()
    return found


@contextmanager
def _one_moment(engine: Engine) -> Iterator[Connection]:
    options = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """A file to write beside the one that is wanted, which takes its place at the end, or is gone."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        partial.touch(mode=0o600)
        yield partial
        partial.replace(file)
    except OSError as error:
        raise UnavailableError(f"{file} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _path(engine: Engine) -> Path:
    return Path(str(engine.url.database))


def _run(engine: Engine, program: str, *arguments: str, connect: bool = True) -> str:
    """Run one of PostgreSQL's own programs; its environment has the password, which nobody else reads."""
    found = shutil.which(program)
    if found is None:
        raise MissingExtraError(
            f"{program} is not on PATH: install PostgreSQL's client programs, as new as the server"
            " (Debian: postgresql-client)"
        )
    url = engine.url
    secret = url.password or url.query.get("password")
    address = url.set(drivername="postgresql", password=None).difference_update_query(PASSWORDS)
    whose = ["--dbname", address.render_as_string()] if connect else []
    environment = {**os.environ, "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT_S)}
    if secret:
        environment["PGPASSWORD"] = str(secret)
    done = subprocess.run(  # noqa: S603 - a program that was looked up, and no shell
        [found, *whose, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode != 0:
        said = "; ".join(line.strip() for line in done.stderr.splitlines()[:2])
        raise UnavailableError(f"{shown(url)}: {said or f'{program} ended with {done.returncode}'}")
    return done.stdout
