"""A whole history moved between databases: every value as it was, or nothing at all."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, inspect, select, text, update
from tests.histories import answering, answers, insert_odd_rows, make_history
from tests.postgres import PostgresServer

from noisefloor.cli.serve import dispatch_for
from noisefloor.errors import CannotMoveError, SettingsError, UnavailableError
from noisefloor.store import copying, schema, tables
from noisefloor.store.session import open_engine, reading, writing
from noisefloor.store.tables import Base
from noisefloor.workflow.move import move

TABLES = Base.metadata.sorted_tables


def unwatched(_step: str, _table: str, _rows: int) -> None:
    pass


def without_negative_zeros(told: Any) -> Any:
    """PostgreSQL's documents have none; exports are text, in which that shows."""
    return told.replace(":-0.0", ":0.0") if isinstance(told, str) else told


@pytest.fixture(scope="module")
def history(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with a history that tests copy."""
    path = tmp_path_factory.mktemp("history") / "history.db"
    shutil.copy(sqlite_template, path)
    engine = open_engine(f"sqlite:///{path}")
    with answering(f"sqlite:///{path}") as api:
        make_history(api, engine)
    with engine.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    engine.dispose()
    return path


@pytest.fixture
def source(history: Path, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{shutil.copy(history, tmp_path / 'source.db')}")
    yield engine
    engine.dispose()


@pytest.fixture
def target(postgres_server: PostgresServer) -> Iterator[Engine]:
    """An empty PostgreSQL database, without a table."""
    engine = open_engine(postgres_server.create(f"move{os.urandom(4).hex()}"))
    yield engine
    engine.dispose()


def url(engine: Engine) -> str:
    return engine.url.set(drivername=engine.dialect.name).render_as_string(hide_password=False)


def test_a_moved_history_is_answered_as_before_there_and_back(
    source: Engine, target: Engine, tmp_path: Path
) -> None:
    with answering(url(source)) as api:
        before = {address: without_negative_zeros(told) for address, told in answers(api).items()}
    assert len(before) > 60
    back = open_engine(f"sqlite:///{tmp_path}/back.db")
    for one, other in ((source, target), (target, back)):
        counted = move(one, other, dispatch_for(other), unwatched)
        with one.connect() as connection:
            assert copying.counts(connection) == counted
        assert [name for name, rows in counted.items() if rows == 0] == ["workers"]
        with answering(url(other)) as api:
            after = answers(api)
        assert after.keys() == before.keys()
        for address, told in before.items():
            assert after[address] == told, address
    back.dispose()


def test_queued_shards_are_announced_where_they_are_moved_to(source: Engine, target: Engine) -> None:
    move(source, target, dispatch_for(target), unwatched)
    with reading(target) as session:
        queued = set(session.scalars(select(tables.Shard.id).where(tables.Shard.status == "queued")))
        announced = set(session.scalars(text("SELECT args->>'shard' FROM procrastinate_jobs")))
    assert announced == queued != set()


def test_a_row_may_refer_to_a_later_one_of_its_table(source: Engine, target: Engine) -> None:
    with writing(source, "prune") as session:
        first, *_, last = session.scalars(select(tables.Job).order_by(tables.Job.id))
        first.explains = last.id
    move(source, target, dispatch_for(target), unwatched)
    with reading(target) as session:
        assert session.get_one(tables.Job, first.id).explains == last.id


def test_no_table_counts_by_itself() -> None:
    """No sequence has to be told where to go on: ids come with their rows."""
    for table in TABLES:
        assert table._autoincrement_column is None, table.name
        assert all(column.identity is None for column in table.columns)


@pytest.mark.parametrize("kinds", ["sqlite-postgres", "postgres-postgres", "postgres-sqlite"])
def test_odd_values_arrive_as_they_were(kinds: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    first, _, second = kinds.partition("-")
    engines = [
        _migrated(kind, request, tmp_path / f"{number}.db") for number, kind in enumerate((first, second))
    ]

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def every_row_is_the_same(data: st.DataObject) -> None:
        with engines[0].connect() as one, engines[1].connect() as other:
            insert_odd_rows(one, data.draw, len(TABLES))
            for table in TABLES:
                list(copying.copy(one, other, table))
            assert sum(sum(copying.compare(one, other, table)) for table in TABLES) == len(TABLES)
            one.rollback()
            other.rollback()

    every_row_is_the_same()
    for engine in engines:
        engine.dispose()


def _migrated(kind: str, request: pytest.FixtureRequest, path: Path) -> Engine:
    if kind == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return open_engine(f"sqlite:///{path}")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"odd{os.urandom(4).hex()}"
    return open_engine(server.create(name, template=request.getfixturevalue("postgres_template")))


def test_a_value_that_changed_on_its_way_is_named_and_nothing_stays(source: Engine, target: Engine) -> None:
    def corrupt(step: str, table: str, _rows: int) -> None:
        if (step, table) == ("copied", "measurements"):
            connections[0].execute(update(tables.Measurement).values(edge="other"))

    connections: list[Any] = []
    event.listen(target, "begin", connections.append)
    with pytest.raises(
        CannotMoveError, match=r"measurements \w+, column edge: 'float32->true' became 'other'"
    ):
        move(source, target, dispatch_for(target), corrupt)
    assert inspect(target).get_table_names() == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM findings WHERE id = (SELECT min(id) FROM findings)", "findings differs: "),
        ("UPDATE measurements SET value = nextafter(value) WHERE value IS NOT NULL", "column value"),
        ("UPDATE jobs SET spec = spec || '{\"more\": null}'", "column spec"),
        ("UPDATE jobs SET created_at = created_at + interval '1 microsecond'", "column created_at"),
    ],
)
def test_the_smallest_difference_is_seen(source: Engine, target: Engine, statement: str, said: str) -> None:
    move(source, target, dispatch_for(target), unwatched)
    with source.connect() as given, target.connect() as got:
        got.execute(text(statement.replace("nextafter(value)", "value + value * 2.3e-16")))
        with pytest.raises(CannotMoveError, match=said):
            for table in TABLES:
                list(copying.compare(given, got, table))


REFUSED = [
    ("UPDATE jobs SET name = 'a' || char(0) || 'b' WHERE name = 'waits'", "jobs .*, column name: a NUL"),
    (r"""UPDATE jobs SET git = '{"branch": "a\u0000"}' WHERE name = 'waits'""", "jobs .*, column git: a NUL"),
    (
        r"""UPDATE jobs SET git = '{"a": ["\ud800"]}' WHERE name = 'waits'""",
        "column git: half of a surrogate",
    ),
    ("""UPDATE environments SET document = '{"a": NaN}'""", "environments .*, column document: nan in"),
    ("UPDATE jobs SET branch = printf('%.600c', 'x')", "column branch: 600 characters where 512 fit"),
    ("UPDATE shards SET attempt = 3000000000", "column attempt: 3000000000, which is no 32-bit integer"),
]


@pytest.mark.parametrize(("statement", "said"), REFUSED)
def test_what_postgres_refuses_is_named_before_anything_is_written(
    source: Engine, target: Engine, statement: str, said: str
) -> None:
    with writing(source, "prune") as session:
        session.execute(text(statement.replace(":", r"\:")))
    inserted: list[str] = []
    event.listen(target, "before_cursor_execute", lambda *a: inserted.append(a[2]))
    with pytest.raises(CannotMoveError, match=f"{said}.*which PostgreSQL refuses"):
        move(source, target, dispatch_for(target), unwatched)
    assert not [sql for sql in inserted if sql.startswith("INSERT INTO jobs")]
    assert inspect(target).get_table_names() == []


def test_only_an_empty_database_is_moved_to(source: Engine, target: Engine) -> None:
    schema.upgrade(target)
    counted = move(source, target, dispatch_for(target), unwatched)
    with pytest.raises(CannotMoveError, match=r"holds rows in .*: an empty database is needed"):
        move(source, target, dispatch_for(target), unwatched)
    with target.connect() as connection:
        assert copying.counts(connection) == counted


def test_a_source_of_another_schema_is_refused(source: Engine, target: Engine) -> None:
    schema.downgrade(source, "-1")
    with pytest.raises(SettingsError, match="run `noisefloor db upgrade`"):
        move(source, target, dispatch_for(target), unwatched)
    assert inspect(target).get_table_names() == []


def test_a_target_without_room_is_left_empty(source: Engine, tmp_path: Path) -> None:
    full = open_engine(f"sqlite:///{tmp_path}/full.db")
    event.listen(full, "connect", lambda one, _record: one.execute("PRAGMA max_page_count = 80"))
    with pytest.raises(UnavailableError, match=r"full\.db cannot be used: database or disk is full"):
        move(source, full, dispatch_for(full), unwatched)
    assert inspect(full).get_table_names() == []
    full.dispose()


KILLED = """
import os, signal, sys
from noisefloor.cli.serve import dispatch_for
from noisefloor.store.session import open_engine
from noisefloor.workflow.move import move

def watch(step, table, rows):
    if (step, table) == (sys.argv[3], sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

target = open_engine(sys.argv[2])
move(open_engine(sys.argv[1]), target, dispatch_for(target), watch)
"""


@pytest.mark.parametrize("at", [("copied", "cells"), ("compared", "findings")])
def test_a_move_that_is_killed_leaves_both_as_they_were(
    source: Engine, target: Engine, at: tuple[str, str]
) -> None:
    schema.upgrade(target)
    died = subprocess.run([sys.executable, "-c", KILLED, url(source), url(target), *at], check=False)
    assert died.returncode == -signal.SIGKILL
    with target.connect() as connection:
        copying.require_empty(connection)
        assert connection.scalar(text("SELECT count(*) FROM procrastinate_jobs")) == 0
    moved = move(source, target, dispatch_for(target), unwatched)
    with source.connect() as connection:
        assert copying.counts(connection) == moved
