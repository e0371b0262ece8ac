"""A process ends at any commit or send, or each of them fails: the next goes on, and every promise holds."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select
from tests.ci.providers import Got, Said, StandIn
from tests.ledger import Ledger
from tests.lives import POINTS, VERDICTS
from tests.service import ROOT

from noisefloor.failpoints import KNOWN
from noisefloor.store import schema, tables
from noisefloor.store.session import open_engine, reading

# no part of a job's life: tests/store/test_move.py kills it
OF_A_MOVE = ("move.before_commit", "move.after_commit")
# nor is this: tests/acceptance/test_stop.py kills it
OF_A_STOP = ("release_delivery.before_commit", "release_delivery.after_commit")


class Lives:
    """Processes that live the life of a job on one database, one after another."""

    def __init__(self, database: str, receiver: StandIn, log: Path) -> None:
        self.engine: Engine = open_engine(database)
        self.receiver = receiver
        self.log = log
        schema.upgrade(self.engine)
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.lives", database, receiver.url],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        while "ready" not in self._hear():
            pass

    def live(self, life: str, project: str, ledger: Ledger, failpoints: str = "") -> int:
        """How the process ended. What it was acknowledged is in the ledger."""
        assert self._process.stdin is not None
        asked = {"life": life, "project": project, "failpoints": failpoints}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        while "ended" not in (said := self._hear()):
            ledger.answered(said["answered"], said["job"])
        ended: int = said["ended"]
        return ended

    def verdicts(self, project: str) -> list[tuple[str, str]]:
        with reading(self.engine) as session:
            found = select(tables.Job.name, tables.Job.verdict).where(tables.Job.project == project)
            return [(name, verdict) for name, verdict in session.execute(found)]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self.engine.dispose()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        heard: dict[str, Any] = json.loads(line)
        return heard


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def lives(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    """One database for all lives: each has a project of its own."""
    folder = tmp_path_factory.mktemp("lives")
    if request.param == "sqlite":
        database = f"sqlite:///{folder}/noisefloor.db"
    else:
        database = request.getfixturevalue("postgres_server").create(f"lives{os.urandom(4).hex()}")
    with StandIn(lambda got: Said(status=400 if got.path.startswith("/dead") else 200)) as receiver:
        lives = Lives(database, receiver, folder / "log")
        yield lives
        lives.close()


def test_a_life_comes_by_every_point() -> None:
    assert sorted([*POINTS, *OF_A_MOVE, *OF_A_STOP]) == sorted(KNOWN)


@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_is_killed_there_loses_nothing_and_doubles_nothing(lives: Lives, point: str) -> None:
    life, project, ledger = POINTS[point], re.sub(r"\W|_", "-", point), Ledger()
    assert lives.live(life, project, ledger, f"{point}=kill") == -signal.SIGKILL, lives.log.read_text()
    assert lives.live(life, project, ledger) == 0, lives.log.read_text()
    require_every_promise(lives, life, project, ledger)


@pytest.mark.parametrize("life", VERDICTS)
def test_commits_and_sends_that_fail_or_lose_their_answers_lose_and_double_nothing(
    lives: Lives, life: str
) -> None:
    each = ",".join(f"{point}=raise*1" for point, comes_by in POINTS.items() if comes_by == life)
    ledger, project = Ledger(), f"failing-{life}"
    assert lives.live(life, project, ledger, each) == 0, lives.log.read_text()
    require_every_promise(lives, life, project, ledger)


def require_every_promise(lives: Lives, life: str, project: str, ledger: Ledger) -> None:
    with reading(lives.engine) as session:
        assert ledger.violations(session) == []
    assert lives.verdicts(project) == list(VERDICTS[life].items())
    if life == "measured":
        told = [got for got in lives.receiver.got if got.path == f"/hook/{project}"]
        assert {verdict(got) for got in told} == {"pass"}
        assert len({got.headers["webhook-id"] for got in told}) == 1


def verdict(got: Got) -> str:
    found: str = got.json["data"]["verdict"]
    return found
