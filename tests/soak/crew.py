"""The processes of a soak: started from a warm interpreter, killed at random, and started again at once."""

import fcntl
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Self

import time_machine
from tests.soak.plain import CAPABILITIES, PlainRunner

from noisefloor.api.app import create_app
from noisefloor.cli import main
from noisefloor.cli.options import settings
from noisefloor.cli.serve import announce, dispatch_for, listen, opened, server
from noisefloor.cli.stopping import on_stop
from noisefloor.store import schema
from noisefloor.store.session import open_engine
from noisefloor.store.shards import LEASE_S
from noisefloor_workers.runner.confinement import die_with_parent
from noisefloor_workers.runner.pool import Runners
from noisefloor_workers.worker import Worker, news_for

POLL_S = 0.2
STOP_S = 60.0

spawning = multiprocessing.get_context("forkserver")
spawning.set_forkserver_preload([__name__, "uvicorn.protocols.http.auto", "uvicorn.lifespan.on", "psycopg"])


def command(*arguments: str) -> None:
    """The command line, in this process."""
    sys.argv = ["noisefloor", *arguments]
    main.run()


def plain_worker(
    database: str, *, slots: int = 2, lease_s: float = LEASE_S, make: Callable[..., Any] = PlainRunner
) -> None:
    """`noisefloor worker`, but for what it measures with."""
    given = settings(database=database, slots=slots)
    engine = open_engine(given.database)
    schema.require_usable(engine)
    dispatch = dispatch_for(engine)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with Worker(
        engine=engine,
        dispatch=dispatch,
        news=news_for(engine, dispatch, ("cpu",)),
        settings=given,
        ask=lambda: CAPABILITIES,
        runners=partial(Runners, make),
        lease_s=lease_s,
    ):
        stop.wait()


def plain_up(
    database: str, port: int, *, slots: int, lease_s: float = LEASE_S, make: Callable[..., Any] = PlainRunner
) -> None:
    """`noisefloor up`, but for what it measures with."""
    given = settings(database=database, port=port, slots=slots)
    # a child that was being forked as its worker was killed holds lock and port until it notices
    with Path(f"{given.sqlite_path}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    with opened(given) as engine, listen(given) as listener:
        schema.upgrade(engine)
        dispatch = dispatch_for(engine)
        app = create_app(settings=given, engine=engine, dispatch=dispatch)
        http = server(given, app)
        on_stop(http.stop, within_s=given.stop_s)
        announce(given, listener)
        with Worker(
            engine=engine,
            dispatch=dispatch,
            news=news_for(engine, dispatch, ("cpu",)),
            settings=given,
            ask=lambda: CAPABILITIES.replace(takes_all=True),
            stopping=app.state.service.stopping,
            runners=partial(Runners, make),
            lease_s=lease_s,
        ):
            http.run(sockets=[listener])


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a process does, under which name it is counted, and by how much its clock is wrong."""

    name: str
    act: Callable[[], None]
    skew_s: float = 0.0


def _enter(role: Role, log: Path) -> None:
    # the fork server ends when nobody holds this any more, and all that it forked with it
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    die_with_parent(os.getppid())
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    random.seed()
    if role.skew_s:
        time_machine.travel(datetime.now(UTC) + timedelta(seconds=role.skew_s), tick=True).start()
    role.act()


@dataclass
class Member:
    """A role and the process that has it now."""

    role: Role
    process: Any
    killed: bool = False


@dataclass
class Crew:
    """Every role has a process at all times. One that ends by itself is a fault, named in `faults`."""

    roles: Iterable[Role]
    logs: Path
    faults: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    members: list[Member] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self.members = [Member(role, self._started(role)) for role in self.roles]
        self._tending = threading.Thread(target=self._tend, name="crew")
        self._tending.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every process as an operator would; one that does not end, or not well, is a fault."""
        self._stopping.set()
        self._tending.join()
        for member in self.members:
            member.process.terminate()
        for member in self.members:
            member.process.join(STOP_S)
            if member.process.exitcode != 0:
                self.faults.append(f"a {member.role.name} ended with {member.process.exitcode} on SIGTERM")
                member.process.kill()

    def kill(self, member: Member) -> None:
        """SIGKILL, counted."""
        with self._lock:
            if member.process.is_alive():
                member.killed = True
                member.process.kill()
                self.kills[member.role.name] += 1

    def pids(self) -> set[int]:
        """Of the processes that are there now."""
        return {member.process.pid for member in self.members}

    def log(self) -> str:
        """All that was said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.logs.glob("*.log")))

    def _started(self, role: Role) -> Any:
        log = self.logs / f"{role.name}.log"
        process = spawning.Process(target=_enter, args=(role, log), daemon=True)
        process.start()
        return process

    def _tend(self) -> None:
        while not self._stopping.is_set():
            wait([member.process.sentinel for member in self.members], timeout=POLL_S)
            for member in self.members:
                if member.process.exitcode is None:
                    continue
                with self._lock:
                    if not member.killed:
                        self.faults.append(f"a {member.role.name} ended with {member.process.exitcode}")
                    member.process.join()
                    member.process, member.killed = self._started(member.role), False
