"""Databases that are not as they should be: one sentence that names them, exit code 2, and nothing hurt."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import Engine, event, inspect, text
from tests.measuring import measure
from tests.postgres import LOCKED, PostgresServer
from tests.samples import spec

from noisefloor.cli import main
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store import condition, schema, session
from noisefloor.store.session import only_writer, open_engine, writing

PASSWORD = "hunter2"
DROP_RIGHTS = 24  # PR_CAPBSET_DROP
OVERRIDES = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: what makes root write where nobody may

Told = Callable[..., str]

SERVE = ("serve", "--port", "0")
UPGRADE = ("db", "upgrade")
PRUNE = ("db", "prune")
BACKUP = ("db", "backup", "never.backup")
ALL = (SERVE, UPGRADE, PRUNE, BACKUP)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Told:
    """Runs a verb on a database, which must fail as it should; gives what it says."""
    monkeypatch.chdir(tmp_path)

    def run(verb: tuple[str, ...], database: str | None, named: str | None = None) -> str:
        more = [] if database is None else ["--database", database]
        monkeypatch.setattr(sys, "argv", ["noisefloor", *verb, *more])
        with pytest.raises(SystemExit) as ended:
            main.run()
        said = capsys.readouterr()
        return checked(ended.value.code, said.out + said.err, named or name_of(database or ""))

    return run


def name_of(database: str) -> str:
    return database.rpartition("/")[2].partition("?")[0]


def checked(code: object, said: str, named: str) -> str:
    """What a verb said, if it is one sentence that names the database without its password."""
    assert code == 2, said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1, said
    assert PASSWORD not in said
    assert named in said
    return said


def run_apart(verb: tuple[str, ...], database: str, prepare: Callable[[], None] | None = None) -> str:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "noisefloor.cli", *verb, "--database", database]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, preexec_fn=prepare
    )
    return checked(done.returncode, done.stdout + done.stderr, name_of(database))


def drop_rights() -> None:
    """Let root be refused like everybody."""
    libc = ctypes.CDLL(None, use_errno=True)
    for right in OVERRIDES:
        if os.geteuid() == 0 and libc.prctl(DROP_RIGHTS, right, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


@pytest.fixture
def postgres(postgres_server: PostgresServer, postgres_template: str) -> Iterator[Engine]:
    engine = open_engine(postgres_server.create(f"c{os.urandom(4).hex()}", template=postgres_template))
    yield engine
    engine.dispose()


def as_role(engine: Engine, role: str, *statements: str) -> str:
    """The database's address for another role."""
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        for statement in statements:
            connection.execute(text(statement.format(role=role)))
    return engine.url.set(drivername="postgresql", username=role).render_as_string(hide_password=False)


# The schema


@pytest.mark.parametrize("verb", [SERVE, PRUNE])
def test_an_older_schema_is_not_used_until_it_is_upgraded(
    engine: Engine, database: str, told: Told, verb: tuple[str, ...]
) -> None:
    schema.downgrade(engine, "-1")
    assert "run `noisefloor db upgrade`" in told(verb, database)


def test_a_newer_schema_is_left_alone(engine: Engine, database: str, told: Told) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_later'"))
    for verb in ALL:
        assert "at schema 9999_later, which this version does not know: upgrade Noisefloor" in told(
            verb, database
        )
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999_later"


def test_an_upgrade_to_an_older_schema_says_that_it_did_nothing(
    engine: Engine, database: str, told: Told
) -> None:
    for asked in ("0002", "0011"):
        said = told((*UPGRADE, "--revision", asked), database)
        assert f"is at schema {schema.head()}, which is newer than {asked}: nothing was done" in said
    for asked in ("head", "heads", str(schema.head()), str(schema.head())[:4]):
        assert schema.upgrade(engine, asked) == schema.head()
    schema.check(engine)


@pytest.mark.parametrize("revision", [None, "abc123"])
def test_a_database_of_something_else_is_left_alone(
    engine: Engine, database: str, told: Told, revision: str | None
) -> None:
    schema.downgrade(engine, "base")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE customers (name text)"))
        connection.execute(text("DROP TABLE alembic_version"))
        if revision is not None:
            connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
            connection.execute(text("INSERT INTO alembic_version VALUES (:at)"), {"at": revision})
    before = inspect(engine).get_table_names()
    for verb in ALL:
        assert "is not Noisefloor's: it holds customers" in told(verb, database)
    assert inspect(engine).get_table_names() == before


@pytest.mark.parametrize("revision", [None, "abc123"])
def test_a_table_of_something_else_that_is_called_like_ours(
    engine: Engine, database: str, told: Told, revision: str | None
) -> None:
    schema.downgrade(engine, "base")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE jobs (i int)"))
        if revision is None:
            connection.execute(text("DROP TABLE alembic_version"))
        else:
            connection.execute(text("INSERT INTO alembic_version VALUES (:at)"), {"at": revision})
    for verb in ALL:
        assert "is not Noisefloor's: it holds jobs; name an empty database" in told(verb, database)


def test_a_running_service_says_that_it_is_not_ready_and_its_log_why(
    engine: Engine, api: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert api.get("/readyz").json() == {"status": "ready"}
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_later'"))
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:noisefloor:problem:unavailable")
    assert "9999_later" not in answer.text
    assert "upgrade Noisefloor" in caplog.text


KILLED = """
import os, signal, sys
from sqlalchemy import event
from noisefloor.store import schema
from noisefloor.store.session import open_engine

engine, left = open_engine(sys.argv[1]), int(sys.argv[2])

def count(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

event.listen(engine, "after_cursor_execute", count)
schema.upgrade(engine)
"""


@pytest.mark.parametrize("statements", [30, 45])
def test_an_upgrade_that_is_killed_leaves_the_old_schema_whole(
    engine: Engine, database: str, settings: Settings, statements: int
) -> None:
    with writing(engine, "test") as session:
        measure(session, settings, LocalDispatch(), spec())
    schema.downgrade(engine, "0002")
    before = shape(engine)
    died = subprocess.run([sys.executable, "-c", KILLED, database, str(statements)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert shape(engine) == before
    schema.upgrade(engine)
    schema.check(engine)


def shape(engine: Engine) -> tuple[dict[str, list[str]], str | None, int | None]:
    """Tables with their columns, the revision, and how many jobs there are."""
    found = inspect(engine)
    tables = {name: [c["name"] for c in found.get_columns(name)] for name in sorted(found.get_table_names())}
    with engine.connect() as connection:
        revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return tables, revision, connection.scalar(text("SELECT count(*) FROM jobs"))


def test_of_two_upgrades_at_once_one_waits(postgres_server: PostgresServer) -> None:
    database = postgres_server.create(f"two{os.urandom(4).hex()}")
    engine = open_engine(database)
    command = [sys.executable, "-m", "noisefloor.cli", "db", "upgrade", "--database", database]
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'"
    )
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": schema.UPGRADING})
        both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
            deadline = time.monotonic() + 120
            while looking.scalar(waiting) != 2:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert [process.communicate()[1] for process in both] == [b"", b""]
    assert [process.returncode for process in both] == [0, 0]
    schema.check(engine)
    engine.dispose()


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_nothing_is_pruned_of_a_project_that_is_not_there(
    database: str, told: Told, more: tuple[str, ...]
) -> None:
    assert "there is no project 'nosuch'" in told((*PRUNE, "--project", "nosuch", *more), database)


# PostgreSQL


def test_a_server_that_is_not_there(told: Told) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for verb in ALL:
        said = told(verb, f"postgresql://noisefloor:{PASSWORD}@127.0.0.1:{port}/gone?password={PASSWORD}")
        assert "Connection refused" in said
        assert "noisefloor:***@127.0.0.1" in said


def test_a_server_that_does_not_answer_is_not_waited_for(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.CONNECT_TIMEOUT_S <= 5
    monkeypatch.setattr(session, "CONNECT_TIMEOUT_S", 2)  # the least that libpq takes
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timeout" in told(PRUNE, f"postgresql://127.0.0.1:{silent.getsockname()[1]}/silent")
    assert time.monotonic() - started < 60  # the driver itself would wait 130 s


def test_a_wrong_password_a_missing_database_and_a_host_without_a_name(
    postgres_server: PostgresServer, told: Told
) -> None:
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {LOCKED} LOGIN PASSWORD 'another'")
    here = f"127.0.0.1:{postgres_server.port}"
    for url, cause in (
        (f"postgresql://{LOCKED}:{PASSWORD}@{here}/postgres", "password authentication failed"),
        (f"postgresql://{LOCKED}@{here}/postgres?password={PASSWORD}", "password authentication failed"),
        (f"postgresql://noisefloor@{here}/no_such_database", "does not exist"),
        (f"postgresql://noisefloor:{PASSWORD}@host.invalid/a", "failed to resolve host"),
    ):
        assert cause in told(SERVE, url)


def test_an_address_that_is_none_does_not_tell_its_password(told: Told) -> None:
    for url in (f"postgresql://u:{PASSWORD}@host:port/db", f"postgresql//u:{PASSWORD}@host/db"):
        assert "is not a URL; give sqlite:///path or postgresql://" in told(SERVE, url)


def test_an_older_server_is_refused(postgres: Engine, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "OLDEST_POSTGRES", 99)
    url = postgres.url.set(drivername="postgresql").render_as_string(hide_password=False)
    for verb in ALL:
        assert "or newer is needed" in told(verb, url)


@pytest.mark.parametrize("verb", [SERVE, PRUNE])
def test_a_role_that_may_only_read(postgres: Engine, told: Told, verb: tuple[str, ...]) -> None:
    grant = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    reader, writer = f"reader{os.urandom(4).hex()}", f"writer{os.urandom(4).hex()}"
    assert "may not INSERT in projects" in told(verb, as_role(postgres, reader, grant))
    read_only = "ALTER ROLE {role} SET default_transaction_read_only = on"
    url = as_role(postgres, writer, "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}", read_only)
    assert "is read-only: default_transaction_read_only" in told(verb, url)


# SQLite


@pytest.fixture
def file(sqlite_template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sqlite_template, tmp_path / "some.db"))


def test_what_is_no_sqlite_file(tmp_path: Path, told: Told) -> None:
    (tmp_path / "text.db").write_text("a text that is long enough to be looked at as a header " * 10)
    (tmp_path / "folder.db").mkdir()
    for verb in ALL:
        assert "it is no SQLite file" in told(verb, f"sqlite:///{tmp_path}/text.db")
        assert "unable to open database file" in told(verb, f"sqlite:///{tmp_path}/folder.db")
    assert (tmp_path / "text.db").read_text().startswith("a text")


def test_a_damaged_file(file: Path, told: Told) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:100] + os.urandom(len(content) - 100))
    for verb in ALL:
        assert "the file is damaged; restore a backup" in told(verb, f"sqlite:///{file}")


def test_a_file_with_damaged_pages(file: Path, told: Told) -> None:
    content, page = file.read_bytes(), 4096
    assert len(content) > 23 * page
    file.write_bytes(content[: 3 * page] + os.urandom(20 * page) + content[23 * page :])
    for verb in ALL:
        assert "damaged" in told(verb, f"sqlite:///{file}")
    assert "the file is damaged; restore a backup" in run_apart(("up", "--port", "0"), f"sqlite:///{file}")


def test_a_large_file_is_looked_through_by_verbs_of_db_alone(file: Path) -> None:
    engine = open_engine(f"sqlite:///{file}")
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    for limit_bytes, looked in ((None, 1), (file.stat().st_size, 1), (file.stat().st_size - 1, 0)):
        asked.clear()
        condition.require_sound(engine, limit_bytes=limit_bytes)
        assert len([one for one in asked if "quick_check" in one]) == looked
    engine.dispose()


def test_a_file_that_is_not_there_is_made_by_upgrade_alone(tmp_path: Path, told: Told) -> None:
    for verb in (SERVE, PRUNE, BACKUP):
        assert "`noisefloor db upgrade` makes it" in told(verb, f"sqlite:///{tmp_path}/none/none.db")
    move = ("db", "move", "--from", f"sqlite:///{tmp_path}/none.db", "--to", f"sqlite:///{tmp_path}/new.db")
    assert "`noisefloor db upgrade` makes it" in told(move, None, "none.db")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path, told: Told) -> None:
    def fill(connection: object, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 8")  # type: ignore[attr-defined]

    event.listen(Engine, "connect", fill)
    try:
        assert "database or disk is full; make room" in told(UPGRADE, f"sqlite:///{tmp_path}/full.db")
    finally:
        event.remove(Engine, "connect", fill)
    engine = open_engine(f"sqlite:///{tmp_path}/full.db")
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_files_and_folders_that_cannot_be_written(file: Path, tmp_path: Path) -> None:
    for verb in (SERVE, PRUNE):
        file.chmod(0o400)
        assert "the file and its folder must be writable" in run_apart(verb, f"sqlite:///{file}", drop_rights)
        file.chmod(0o600)
        Path(f"{file}.lock").unlink()
        tmp_path.chmod(0o500)
        try:
            assert "cannot be written: Permission denied" in run_apart(verb, f"sqlite:///{file}", drop_rights)
        finally:
            tmp_path.chmod(0o700)


def test_one_process_writes_by_whatever_path_it_comes(file: Path, tmp_path: Path, told: Told) -> None:
    (tmp_path / "symlink.db").symlink_to(file)
    with only_writer(file):
        for path in ("symlink.db", f"../{tmp_path.name}/some.db", "some.db", file):
            for verb in (UPGRADE, PRUNE, SERVE):
                said = told(verb, f"sqlite:///{path}", "some.db")
                assert f"is in use by process {os.getpid()}" in said
    (tmp_path / "hard.db").hardlink_to(file)
    for path in ("hard.db", "some.db"):
        assert "is a file of several names (hard links)" in told(UPGRADE, f"sqlite:///{path}")


def test_nothing_is_moved_to_where_it_is(file: Path, told: Told, tmp_path: Path) -> None:
    for to in (file, f"../{tmp_path.name}/some.db"):
        move = ("db", "move", "--from", f"sqlite:///{file}", "--to", f"sqlite:///{to}")
        assert "source and target are the same database" in told(move, None, "some.db")


def test_a_lock_that_a_dead_process_left_holds_nobody_up(file: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from noisefloor.store.session import only_writer\n"
        "with only_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
    assert Path(f"{file}.lock").exists()
    with only_writer(file):
        pass


@pytest.mark.parametrize("verb", [("up", "--port", "0"), ("worker",)])
def test_verbs_that_measure_say_the_same(postgres: Engine, verb: tuple[str, ...]) -> None:
    with postgres.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_later'"))
    url = postgres.url.set(drivername="postgresql").render_as_string(hide_password=False)
    assert "upgrade Noisefloor" in run_apart(verb, url)
