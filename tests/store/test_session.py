"""Transactions, ids and the database's clock."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text

from noisefloor.errors import SettingsError, UnavailableError
from noisefloor.store.session import database_now, new_id, only_writer, open_engine, reading, writing
from noisefloor.store.tables import Project


def test_ids_sort_in_the_order_they_were_made() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))


def test_the_databases_clock_tells_epoch_seconds_with_fractions(engine: Engine) -> None:
    with reading(engine) as session:
        now = session.scalar(select(database_now()))
        if engine.dialect.name == "postgresql":
            oracle = session.scalar(text("select extract(epoch from now())::float8"))
        else:
            oracle = float(session.scalar(text("select strftime('%s','now')")))
    assert now == pytest.approx(oracle, abs=5)


def test_an_exception_leaves_nothing_behind(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), writing(engine, "test") as session:
        session.execute(text("INSERT INTO projects (name, created_at) VALUES ('p', '2026-01-01 00:00:00')"))
        raise ZeroDivisionError
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(Project)) == 0


def test_foreign_keys_hold(engine: Engine) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"), writing(engine, "test") as session:
        session.execute(
            text(
                "INSERT INTO idempotency_keys (project, key, request_digest, job_id, created_at)"
                " VALUES ('none', 'k', 'd', 'none', '2026-01-01 00:00:00')"
            )
        )


def test_sqlite_is_in_wal_mode(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/a.db")
    with reading(engine) as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
    engine.dispose()


def test_a_writing_transaction_takes_its_turn_at_the_start(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/a.db")
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None, timeout=0)
    with writing(engine, "test"), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()
    engine.dispose()


def test_a_second_process_is_told_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    second = (
        "import sys; from pathlib import Path; from noisefloor.store.session import only_writer\n"
        "with only_writer(Path(sys.argv[1])): pass"
    )
    with only_writer(path):
        refused = subprocess.run(
            [sys.executable, "-c", second, path], capture_output=True, text=True, check=False
        )
    assert "UnavailableError" in refused.stderr
    assert "in use by process" in refused.stderr
    subprocess.run([sys.executable, "-c", second, path], check=True)


@pytest.mark.parametrize("database", ["mysql://host/db", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_another_database_is_refused_with_what_is_served(database: str) -> None:
    with pytest.raises(SettingsError, match="sqlite:///path or postgresql://"):
        open_engine(database)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="file"), only_writer(tmp_path / "file" / "a.db"):
        pass
