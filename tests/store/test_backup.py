"""Backups and what is restored of them, on both databases; every refusal leaves things as they were."""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text
from tests.measuring import measure
from tests.postgres import PostgresServer
from tests.samples import spec

from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import (
    ConflictError,
    InvalidRequestError,
    MissingExtraError,
    NoisefloorError,
    SettingsError,
    UnavailableError,
)
from noisefloor.settings import Settings
from noisefloor.store import copying, schema
from noisefloor.store.backup import back_up, restore
from noisefloor.store.session import open_engine, writing

Empty = Callable[[], Engine]


@pytest.fixture(autouse=True)
def _programs(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{postgres_server.programs}:{os.environ['PATH']}")


@pytest.fixture
def empty(engine: Engine, tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Empty]:
    """Makes databases of the engine's kind without anything in them."""
    made = []

    def add() -> Engine:
        name = f"empty{os.urandom(4).hex()}"
        sqlite = engine.dialect.name == "sqlite"
        made.append(
            open_engine(f"sqlite:///{tmp_path}/{name}.db" if sqlite else postgres_server.create(name))
        )
        return made[-1]

    yield add
    for one in made:
        one.dispose()


@pytest.fixture
def measured(engine: Engine, settings: Settings) -> Engine:
    with writing(engine, "prune") as session:
        measure(session, settings, LocalDispatch(), spec(name="☃"))
    return engine


def test_what_is_restored_is_what_was_backed_up(measured: Engine, empty: Empty, tmp_path: Path) -> None:
    rows = back_up(measured, tmp_path / "a.backup")
    assert rows["measurements"] == 1
    assert stat.S_IMODE((tmp_path / "a.backup").stat().st_mode) == 0o600  # secrets of webhooks are in it
    other = empty()
    assert restore(other, tmp_path / "a.backup") == (schema.head(), rows)
    with measured.connect() as one, other.connect() as two:
        for table in copying.TABLES:
            list(copying.compare(one, two, table))
    schema.check(other)


def test_a_backup_is_one_moment(measured: Engine, settings: Settings, empty: Empty, tmp_path: Path) -> None:
    with writing(measured, "prune") as session:
        measure(session, settings, LocalDispatch(), spec())
        rows = back_up(measured, tmp_path / "a.backup")  # beside a transaction that is not done
    other = empty()
    assert restore(other, tmp_path / "a.backup")[1] == rows
    assert rows["jobs"] == 1


def test_a_backup_of_an_older_schema_is_restored_as_it_is(
    measured: Engine, empty: Empty, tmp_path: Path
) -> None:
    schema.downgrade(measured, "0006_conformance")
    back_up(measured, tmp_path / "a.backup")
    other = empty()
    at, rows = restore(other, tmp_path / "a.backup")
    assert (at, rows["jobs"], "workers" in rows) == ("0006_conformance", 1, False)
    schema.upgrade(other)
    schema.check(other)


def test_a_newer_backup_is_refused(measured: Engine, empty: Empty, tmp_path: Path) -> None:
    back_up(measured, tmp_path / "a.backup")
    with measured.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_later'"))
    refused(SettingsError, "upgrade Noisefloor", lambda: back_up(measured, tmp_path / "b.backup"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "known", lambda _revision: True)
        back_up(measured, tmp_path / "b.backup")
    other = empty()
    refused(
        InvalidRequestError, "9999_later.*upgrade Noisefloor", lambda: restore(other, tmp_path / "b.backup")
    )
    assert inspect(other).get_table_names() == []


def test_nothing_is_overwritten(measured: Engine, tmp_path: Path) -> None:
    back_up(measured, tmp_path / "a.backup")
    before = (tmp_path / "a.backup").read_bytes()
    refused(ConflictError, "there already", lambda: back_up(measured, tmp_path / "a.backup"))
    assert (tmp_path / "a.backup").read_bytes() == before
    refused(ConflictError, "already", lambda: restore(measured, tmp_path / "a.backup"))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_log_that_another_file_left_behind_is_not_read_into_what_is_restored(
    measured: Engine, empty: Empty, tmp_path: Path
) -> None:
    back_up(measured, tmp_path / "a.backup")
    other = empty()
    log = Path(f"{other.url.database}-wal")
    log.write_bytes(b"what was written last")
    refused(ConflictError, "-wal is there already", lambda: restore(other, tmp_path / "a.backup"))


def test_an_empty_database_has_nothing_to_back_up(empty: Empty, tmp_path: Path) -> None:
    refused(SettingsError, "no tables yet|is not there", lambda: back_up(empty(), tmp_path / "a.backup"))
    assert not list(tmp_path.glob("*a.backup*"))


def test_what_is_no_backup_is_refused(engine: Engine, empty: Empty, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    refused(InvalidRequestError, "is no backup: neither", lambda: restore(empty(), tmp_path / "text"))
    refused(InvalidRequestError, "cannot be read", lambda: restore(empty(), tmp_path / "none"))
    with closing(sqlite3.connect(tmp_path / "other.db")) as foreign:
        foreign.execute("CREATE TABLE a (b)")
    said = "no backup of Noisefloor" if engine.dialect.name == "sqlite" else "noisefloor db move"
    refused(InvalidRequestError, said, lambda: restore(empty(), tmp_path / "other.db"))


def test_a_cut_backup_is_refused_and_nothing_is_made(measured: Engine, empty: Empty, tmp_path: Path) -> None:
    back_up(measured, tmp_path / "a.backup")
    whole = (tmp_path / "a.backup").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) * 3 // 4])
    other = empty()
    refused(UnavailableError, "malformed|damaged|pg_restore: error", lambda: restore(other, tmp_path / "cut"))
    assert inspect(other).get_table_names() == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_damaged_database_is_not_backed_up(measured: Engine, tmp_path: Path) -> None:
    path = Path(str(measured.url.database))
    with measured.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        root = connection.scalar(text("SELECT rootpage FROM sqlite_master WHERE name = 'measurements'"))
    measured.dispose()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(os.urandom(4096))
    refused(UnavailableError, "damaged", lambda: back_up(measured, tmp_path / "a.backup"))
    assert not list(tmp_path.glob("*a.backup*"))


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_postgres_needs_its_own_programs(
    measured: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(MissingExtraError, "postgresql-client", lambda: back_up(measured, tmp_path / "a.backup"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    older = tmp_path / "pg_dump"
    said = "aborting because of server version mismatch"
    older.write_text(f"#!/bin/sh\necho 'pg_dump: error: {said}' >&2\nexit 1\n")
    older.chmod(0o755)
    refused(UnavailableError, said, lambda: back_up(measured, tmp_path / "a.backup"))
    assert not list(tmp_path.glob("*a.backup*"))


def test_a_file_that_cannot_be_written_is_a_clear_error(measured: Engine, tmp_path: Path) -> None:
    refused(UnavailableError, "cannot be written", lambda: back_up(measured, tmp_path / "none" / "a.backup"))


def refused(kind: type[NoisefloorError], said: str, act: Callable[[], object]) -> None:
    with pytest.raises(kind, match=said):
        act()
