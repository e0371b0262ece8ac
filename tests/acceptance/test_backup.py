"""A backup made while jobs are measured, restored elsewhere: what was acknowledged before it is measured."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.acceptance.test_faults import misbehaving, wait_until_running
from tests.postgres import PostgresServer
from tests.samples import job
from tests.service import LiveService


@pytest.fixture(params=["sqlite", "postgres"])
def databases(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: PostgresServer
) -> tuple[str, str]:
    """Where the service is, and where its backup is restored."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/here.db", f"sqlite:///{tmp_path}/there.db"
    here, there = (postgres_server.create(f"{name}{os.urandom(4).hex()}") for name in ("here", "there"))
    return here, there


def test_no_job_acknowledged_before_a_backup_is_lost(
    databases: tuple[str, str], tmp_path: Path, postgres_server: PostgresServer
) -> None:
    def db(verb: str, database: str) -> str:
        path = f"{postgres_server.programs}:{os.environ['PATH']}"
        return subprocess.run(
            [sys.executable, "-m", "noisefloor.cli", "db", verb, file, "--database", database],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path},
        ).stdout

    here, there = databases
    file, gate = str(tmp_path / "noisefloor.backup"), tmp_path / "gate"
    gate.touch()
    with LiveService(here) as service:
        done = service.submit(job())["id"]
        service.wait(done)
        running = service.submit(misbehaving("lingering", path=str(gate)))["id"]
        waits = service.submit(job())["id"]
        wait_until_running(service, running, doing="onednn")
        said = db("backup", here)
        service.process.kill()  # nobody gives back what was in hand
        gate.unlink()
    assert "jobs              3\n" in said
    assert db("restore", there).startswith(said.rpartition("backed up")[0])
    with LiveService(there) as service:
        for one, cells in ((done, 1), (running, 2), (waits, 1)):
            assert service.wait(one)["status"] == "done"
            ended = [(cell["status"], len(cell["measurements"])) for cell in service.cells(one)]
            assert ended == [("done", 1)] * cells
