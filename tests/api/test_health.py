"""Health: what it says under a wrong schema, without a database, and while the service stops."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from tests.conftest import serving
from tests.postgres import PostgresServer
from tests.proxy import Proxy
from tests.samples import job

from noisefloor.api.errors import install
from noisefloor.settings import Settings
from noisefloor.store.session import open_engine, writing

JOBS = "/v1/projects/demo/jobs"
THREADS, REQUESTS = 40, 50  # more than there are threads to answer them
SOON_S = 15
UNAVAILABLE = "urn:noisefloor:problem:unavailable"


def test_a_wrong_schema_is_alive_and_not_ready(api: httpx.Client, engine: Engine) -> None:
    with writing(engine, "test") as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0001_tables'"))
    assert api.get("/healthz").status_code == 200
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json()["type"]) == (503, UNAVAILABLE)


@pytest.fixture
def between(postgres_server: PostgresServer) -> Iterator[Proxy]:
    """What lies between the service and PostgreSQL."""
    with Proxy(postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def remote(between: Proxy, postgres_server: PostgresServer, postgres_template: str) -> Iterator[httpx.Client]:
    """A service whose database is beyond the proxy."""
    database = make_url(postgres_server.create(f"h{between.port}", template=postgres_template))
    # so patient that those that ask a silent database hold their threads for long
    beyond = database.set(port=between.port, query={"connect_timeout": "60"})
    url = beyond.render_as_string(hide_password=False)
    engine = open_engine(url)
    with serving(Settings(database=url, port=0), engine) as client:
        yield client
        between.mend()
    engine.dispose()


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.05)


def test_a_lost_database_is_503_and_comes_back_by_itself(remote: httpx.Client, between: Proxy) -> None:
    assert remote.get("/readyz").status_code == 200
    between.cut()
    for answer in (
        remote.get("/readyz"),
        remote.get(JOBS),
        remote.post(JOBS, json=job()),
        remote.get("/v1/workers"),
        remote.get("/projects/demo", headers={"Accept": "text/html"}),
    ):
        assert (answer.status_code, answer.json()["type"]) == (503, UNAVAILABLE), answer.url
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"]
    assert remote.get("/healthz").status_code == 200
    assert "noisefloor_database_up 0.0" in remote.get("/metrics").text
    between.mend()
    until(lambda: remote.get("/readyz").status_code == 200)
    assert remote.post(JOBS, json=job()).status_code == 202


def test_a_silent_database_is_noticed_soon_however_many_wait(remote: httpx.Client, between: Proxy) -> None:
    assert remote.get(JOBS).status_code == 200
    between.hush()
    with ThreadPoolExecutor(REQUESTS) as clients:
        hanging = [clients.submit(httpx.get, f"{remote.base_url}{JOBS}", timeout=60) for _ in range(REQUESTS)]
        until(lambda: sum("AnyIO" in thread.name for thread in threading.enumerate()) >= THREADS)
        # those that hang do so for half a minute: a thread is not free sooner, and an answer needs none
        answer = remote.get("/readyz", timeout=SOON_S)
        assert (answer.status_code, answer.json()["type"]) == (503, UNAVAILABLE)
        assert remote.get("/healthz", timeout=SOON_S).status_code == 200
        assert "noisefloor_database_up 0.0" in remote.get("/metrics", timeout=SOON_S).text
        between.mend()
        assert {one.result().status_code for one in hanging} <= {200, 503}
    until(lambda: remote.get("/readyz").status_code == 200)


def test_a_stream_ends_when_the_database_is_lost(remote: httpx.Client, between: Proxy) -> None:
    posted = remote.post(JOBS, json=job()).json()["id"]
    with remote.stream("GET", f"{JOBS}/{posted}/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: progress"
        between.cut()
        list(lines)  # ends, and is whole: a broken one would raise


@pytest.mark.parametrize(
    "lost",
    [
        OperationalError("SELECT 1", {}, Exception("gone")),
        InterfaceError("SELECT 1", {}, Exception("gone")),
        PoolTimeoutError("no connection is free"),
    ],
)
def test_whatever_says_that_the_database_is_gone_is_503(lost: SQLAlchemyError) -> None:
    app = FastAPI()
    install(app)

    @app.get("/")
    def fails() -> None:
        raise lost

    answer = TestClient(app).get("/")
    assert (answer.status_code, answer.json()["type"]) == (503, UNAVAILABLE)


def test_a_server_that_is_gone_without_a_word_is_given_up(postgres_server: PostgresServer) -> None:
    asked = postgres_server.url("postgres") + "?connect_timeout=3"
    engine = open_engine(asked)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        given = driver.info.get_parameters()
    engine.dispose()
    assert (given["connect_timeout"], given["tcp_user_timeout"]) == ("3", "20000")
