"""Where a soak takes place: a fresh database, and the roles over it."""

import random
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine
from tests.postgres import PostgresServer
from tests.soak.crew import Role, command, plain_up, plain_worker

from noisefloor.store import schema
from noisefloor.store.session import open_engine

migrating = threading.Lock()  # Alembic keeps its context in the module
# below what the kernel gives to connections: one of those could take the port of a service that is down
PORTS = range(20_000, 32_000)
POSTGRES_COMPLAINS = ("ERROR:", "PANIC:")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A database, an engine that looks at it from outside, and a folder for what is said."""

    database: str
    watching: Engine
    folder: Path
    server_log: Path | None = None

    @property
    def on_sqlite(self) -> bool:
        return self.watching.dialect.name == "sqlite"

    def complaints(self) -> list[str]:
        """What the database server wrote of errors."""
        if self.server_log is None:
            return []
        lines = self.server_log.read_text(errors="replace").splitlines()
        return [line for line in lines if any(sign in line for sign in POSTGRES_COMPLAINS)]


@contextmanager
def stage(kind: str) -> Iterator[Stage]:
    """A fresh database of a kind, `sqlite` or `postgres`, with the schema."""
    with tempfile.TemporaryDirectory(prefix="noisefloor-soak-") as name:
        folder = Path(name)
        if kind == "sqlite":
            database = f"sqlite:///{folder}/noisefloor.db"
            _migrate(database)
            # read only: one process alone writes a SQLite file, and it is not this one
            watching = create_engine(f"sqlite:///file:{folder}/noisefloor.db?mode=ro&uri=true&timeout=30")
            yield Stage(database=database, watching=watching, folder=folder)
            watching.dispose()
            return
        with PostgresServer(folder) as server:
            database = server.create("soak")
            _migrate(database)
            watching = open_engine(database)
            yield Stage(database=database, watching=watching, folder=folder, server_log=server.log)
            watching.dispose()


def cast(at: Stage, *, kernels: str, slots: int, workers: int, **plain: Any) -> tuple[list[Role], list[str]]:
    """The roles over the database, and where their services answer. `plain` goes to the plain workers."""
    ports = [_free_port() for _ in range(1 if at.on_sqlite else 2)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    at_database = ("--database", at.database)
    if at.on_sqlite:
        act = (
            partial(command, "up", *at_database, "--port", str(ports[0]), "--slots", str(slots))
            if kernels == "real"
            else partial(plain_up, at.database, ports[0], slots=slots, **plain)
        )
        return [Role(name="up", act=act)], urls
    worker = (
        partial(command, "worker", *at_database, "--slots", str(slots))
        if kernels == "real"
        else partial(plain_worker, at.database, slots=slots, **plain)
    )
    services = [
        Role(name="service", act=partial(command, "serve", *at_database, "--port", str(p))) for p in ports
    ]
    return [*services, *[Role(name="worker", act=worker)] * workers], urls


def _migrate(database: str) -> None:
    engine = open_engine(database)
    with migrating:
        schema.upgrade(engine)
    engine.dispose()


def _free_port() -> int:
    for port in random.sample(PORTS, len(PORTS)):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError("no port is free")
