"""Real parts for every test: databases built by the migrations, a service in a process of its own."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text
from tests.postgres import PostgresServer
from tests.service import LiveService

from noisefloor.api.app import create_app
from noisefloor.cli.serve import listen, server
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store import schema
from noisefloor.store.session import open_engine

NO_BROWSER = "no Chromium on this machine"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly that pages were not looked at."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if NO_BROWSER in str(r.longrepr)]
    if skipped:
        terminalreporter.section(f"{len(skipped)} BROWSER TESTS DID NOT RUN: {NO_BROWSER}", red=True)
        terminalreporter.line("Install Debian's `chromium`, or run `playwright install chromium`.")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL server of the test run's own."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """A migrated database that tests copy."""
    engine = open_engine(postgres_server.create("template_noisefloor"))
    schema.upgrade(engine)
    engine.dispose()
    return "template_noisefloor"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database that tests copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = open_engine(f"sqlite:///{path}")
    schema.upgrade(engine)
    with engine.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    engine.dispose()
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh migrated database, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "noisefloor.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    template = request.getfixturevalue("postgres_template")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create(f"t{os.urandom(6).hex()}", template=template)


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """An engine on the fresh database."""
    engine = open_engine(database)
    yield engine
    engine.dispose()


@pytest.fixture
def settings(database: str) -> Settings:
    """The settings that the tests' service has."""
    return Settings(database=database, port=0, import_allow="subjects_under_test")  # type: ignore[arg-type]


@contextmanager
def serving(settings: Settings, engine: Engine) -> Iterator[httpx.Client]:
    """The API without a worker, over real HTTP."""
    http = server(settings, create_app(settings=settings, engine=engine, dispatch=LocalDispatch()))
    with listen(settings) as listener:
        thread = threading.Thread(target=http.run, kwargs={"sockets": [listener]})
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
            while not http.started:
                time.sleep(0.005)
            try:
                yield client
            finally:
                http.should_exit = True
                thread.join()


@pytest.fixture
def api(engine: Engine, settings: Settings) -> Iterator[httpx.Client]:
    """The API without a worker, over real HTTP."""
    with serving(settings, engine) as client:
        yield client


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def service_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the live services keep their tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('live')}/noisefloor.db"
    return request.getfixturevalue("postgres_server").create(f"live{os.urandom(4).hex()}")


@pytest.fixture(scope="session")
def live(service_database: str) -> Iterator[LiveService]:
    """`noisefloor up` in a process of its own, on either database, with real kernels."""
    with LiveService(service_database) as service:
        yield service


@pytest.fixture(scope="session")
def live_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """`noisefloor up` in a process of its own on SQLite."""
    with LiveService(f"sqlite:///{tmp_path_factory.mktemp('browser')}/noisefloor.db") as service:
        yield service
