"""A database that is locked, full, cut off or out of connections: 503, and all goes on once it is back."""

import itertools
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, TextClause, event, select, text
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.pool import QueuePool
from tests.conftest import serving
from tests.ledger import Ledger
from tests.lives import PATIENCE_S, Canned
from tests.measuring import TAKES_ALL
from tests.postgres import PostgresServer
from tests.samples import ENVIRONMENT, job, result

from noisefloor.contract.measurement import CellResult
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store import schema, tables
from noisefloor.store.session import NoAnswer, open_engine, reading
from noisefloor.workflow.keeper import Keeper
from noisefloor_workers import worker
from noisefloor_workers.runner.messages import ShardTask

JOBS, RESULTS = "/v1/projects/demo/jobs", "/v1/projects/demo/results"
WAL_SEGMENT_BYTES = 16 * 2**20
PADDING = """
INSERT INTO environments
SELECT md5(random()::text), jsonb_build_object('padding', padding), now()
FROM (SELECT g, string_agg(md5(random()::text), '') AS padding
      FROM generate_series(1, 1000) g, generate_series(1, 55) GROUP BY g)
"""
TWO = job(lanes={"engine": ["x86", "onednn"]})
HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("database", ["postgres"], indirect=True)


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """An engine that does not wait long for other writers."""
    engine = open_engine(database, busy_timeout_s=0.05)
    yield engine
    engine.dispose()


@contextmanager
def locked(engine: Engine) -> Iterator[None]:
    """Another process writes to the SQLite file, and goes on."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(engine.url.database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    try:
        yield
    finally:
        holder.communicate()


def post(api: httpx.Client, path: str = JOBS, document: Any = TWO) -> httpx.Response:
    return api.post(path, json=document, headers={"Idempotency-Key": "key"})


def require_unavailable(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["type"] == "urn:noisefloor:problem:unavailable"
    assert answer.headers["Retry-After"] == "1"


def require_one_job(engine: Engine) -> None:
    with reading(engine) as session:
        assert len(session.scalars(select(tables.Job.id)).all()) == 1
        assert Ledger().violations(session) == []


@on_sqlite
def test_a_locked_database_is_unavailable_to_writers_and_open_to_readers(
    api: httpx.Client, engine: Engine
) -> None:
    with locked(engine):
        require_unavailable(post(api))
        assert api.get(JOBS).json()["items"] == []
    assert post(api).status_code == 202
    require_one_job(engine)


@on_sqlite
def test_a_file_that_is_damaged_under_a_service_is_unavailable(api: httpx.Client, engine: Engine) -> None:
    assert post(api).status_code == httpx.codes.ACCEPTED
    engine.dispose()  # the last connection to close writes the log into the file
    file = Path(str(engine.url.database))
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes(len(whole) - 100))
    require_unavailable(post(api, document=job()))
    for answer in (api.get(JOBS), post(api, document=job())):
        require_unavailable(answer)
        assert "the file is damaged; restore a backup" in answer.json()["detail"]
    engine.dispose()
    file.write_bytes(whole)
    assert post(api).status_code == httpx.codes.ACCEPTED
    require_one_job(engine)
    require_unavailable(api.get("/readyz"))  # what was written meanwhile may be lost: look at it first


@on_sqlite
def test_the_log_says_in_a_line_that_the_file_is_damaged(
    api: httpx.Client, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    assert post(api).status_code == httpx.codes.ACCEPTED
    engine.dispose()
    file = Path(str(engine.url.database))
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes(len(whole) - 100))
    with Keeper(engine):
        wait_until(lambda: "nothing old is deleted: the file is damaged" in caplog.text)
    assert "Traceback" not in caplog.text
    require_unavailable(api.get("/readyz"))
    assert "not ready: sqlite:///" in caplog.text
    file.write_bytes(whole)


@on_postgres
def test_a_role_that_loses_a_right_under_a_service_is_unavailable(engine: Engine, settings: Settings) -> None:
    role = f"role{os.urandom(4).hex()}"

    def become(connection: Any, _record: object) -> None:
        connection.execute(f"SET ROLE {role}")
        connection.commit()

    def owner(statement: str) -> None:
        with engine.begin() as connection:
            connection.execute(text("RESET ROLE"))
            connection.execute(text(statement))
            connection.execute(text(f"SET ROLE {role}"))

    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role}"))
        for kind in ("TABLES", "SEQUENCES"):
            connection.execute(text(f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {role}"))
    engine.dispose()
    event.listen(engine, "connect", become)
    with serving(settings, engine) as api:
        owner(f"REVOKE INSERT ON cells FROM {role}")
        require_unavailable(post(api))
        owner(f"GRANT INSERT ON cells TO {role}")
        assert post(api).status_code == httpx.codes.ACCEPTED
    require_one_job(engine)


@on_sqlite
def test_a_full_sqlite_file_is_unavailable_until_there_is_room(engine: Engine, settings: Settings) -> None:
    def limit(connection: sqlite3.Connection, *_: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 8}")

    event.listen(engine, "connect", limit)
    with serving(settings, engine) as api:
        require_unavailable(fill(api))
        event.remove(engine, "connect", limit)
        engine.dispose()
        assert post(api).status_code == httpx.codes.ACCEPTED
    with reading(engine) as session:
        assert Ledger().violations(session) == []


def test_a_postgres_without_room_is_unavailable_until_there_is_some(tmp_path: Path) -> None:
    """A server of the test's own, of which the kernel lets no file grow past the size of a WAL segment."""
    with small_files(), PostgresServer(tmp_path) as server:
        database = server.create("small")
        engine = open_engine(database)
        schema.upgrade(engine)
        with serving(Settings(database=database, port=0), engine) as api:
            with pytest.raises(NoAnswer):
                while True:
                    execute(engine, PADDING)
            require_unavailable(fill(api))
            execute(engine, "DELETE FROM environments")
            execute(engine, "VACUUM environments")
            assert post(api).status_code == httpx.codes.ACCEPTED
        with reading(engine) as session:
            assert Ledger().violations(session) == []
        engine.dispose()


@contextmanager
def small_files() -> Iterator[None]:
    """A limit that processes started meanwhile inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (WAL_SEGMENT_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def execute(engine: Engine, statement: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))


def fill(api: httpx.Client) -> httpx.Response:
    """Post results, each in an environment of its own that takes over a kilobyte, until they are refused."""
    for number in itertools.count():
        padding = {f"padding-{place}": f"{number:0500d}" for place in range(3)}
        one = result("0", environment=ENVIRONMENT.replace(plugins=padding)).model_dump(mode="json")
        answer = api.post(RESULTS, json={"job": job(), "results": [one]})
        if answer.status_code != httpx.codes.CREATED:
            return answer
    raise AssertionError


@contextmanager
def no_connection_left(engine: Engine) -> Iterator[None]:
    """Others have all connections of the pool, and it does not wait long for one."""
    assert isinstance(engine.pool, QueuePool)
    engine.pool._timeout = 0.05
    with ExitStack() as others:
        with suppress(NoConnectionError):
            while True:
                others.enter_context(engine.connect())
        yield


def test_a_service_without_a_free_connection_is_unavailable(api: httpx.Client, engine: Engine) -> None:
    with no_connection_left(engine):
        require_unavailable(post(api))
        require_unavailable(api.get(JOBS))
    assert post(api).status_code == 202
    require_one_job(engine)


@on_postgres
def test_a_request_whose_connection_is_cut_in_its_transaction_is_unavailable_and_leaves_nothing(
    api: httpx.Client, engine: Engine
) -> None:
    assert api.put("/v1/projects/demo/settings", json={}).status_code == 200
    answers: list[httpx.Response] = []
    with engine.begin() as holder:
        holder.execute(text("SELECT name FROM projects FOR UPDATE"))
        request = threading.Thread(target=lambda: answers.append(post(api)))
        request.start()
        cut_who_waits_for_a_lock(engine)
        request.join()
    require_unavailable(answers[0])
    assert post(api).status_code == 202
    require_one_job(engine)


def cut_who_waits_for_a_lock(engine: Engine) -> None:
    """Terminate the one server process that waits for a row, once there is one."""
    waiting = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    wait_until(lambda: bool(rows(engine, waiting)))


def cut_all(engine: Engine) -> None:
    """Terminate every connection to the database but our own."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    rows(engine, text(f"{others} AND pid <> pg_backend_pid()"))


def rows(engine: Engine, query: TextClause) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(query).scalars())


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


class Pausing(Canned):
    """Runners that wait before each result until the test lets them go on."""

    def __init__(self) -> None:
        self.paused, self.go_on = threading.Event(), threading.Event()

    def run(self, task: ShardTask, on_tick: Callable[[str], bool]) -> Iterator[CellResult]:
        for one in super().run(task, on_tick):
            self.paused.set()
            self.go_on.wait()
            yield one


@pytest.fixture
def working(engine: Engine, settings: Settings, api: httpx.Client) -> Iterator[Pausing]:
    """A worker that has measured the first of two cells, and is about to record it."""
    runners = Pausing()
    assert post(api).status_code == 202
    with worker.Worker(
        engine=engine,
        dispatch=LocalDispatch(),
        news=LocalDispatch(),
        settings=settings,
        ask=lambda: TAKES_ALL,
        runners=lambda: runners,  # type: ignore[arg-type, return-value]
    ):
        try:
            assert runners.paused.wait(PATIENCE_S)
            yield runners
        finally:
            runners.go_on.set()


def require_first_attempt(api: httpx.Client, engine: Engine) -> None:
    """The job was measured by the attempt that began it: nothing was measured again."""
    (shown,) = api.get(JOBS).json()["items"]
    assert api.get(f"{JOBS}/{shown['id']}", params={"wait": 60}).json()["verdict"] == "pass"
    with reading(engine) as session:
        assert session.scalars(select(tables.Cell.attempt)).all() == [1, 1]
    require_one_job(engine)


@on_sqlite
def test_a_worker_keeps_its_result_while_the_database_is_locked(
    working: Pausing, api: httpx.Client, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with locked(engine):
        working.go_on.set()
        wait_until(lambda: "the database did not answer" in caplog.text)
    require_first_attempt(api, engine)


@on_postgres
def test_a_worker_goes_on_when_its_connections_are_cut(
    working: Pausing, api: httpx.Client, engine: Engine
) -> None:
    cut_all(engine)
    working.go_on.set()
    require_first_attempt(api, engine)


@on_postgres
def test_a_worker_whose_connection_is_cut_in_its_transaction_records_once(
    working: Pausing, api: httpx.Client, engine: Engine
) -> None:
    with engine.begin() as holder:
        holder.execute(text("SELECT id FROM jobs FOR UPDATE"))
        working.go_on.set()
        cut_who_waits_for_a_lock(engine)
    require_first_attempt(api, engine)
