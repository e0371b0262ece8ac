"""One service and several workers, each a process of its own, over one PostgreSQL."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from sqlalchemy import update
from tests.acceptance.test_faults import misbehaving, wait_until_running
from tests.postgres import PostgresServer
from tests.samples import job
from tests.service import ROOT, LiveService

from noisefloor.store import schema, shards, tables
from noisefloor.store.session import open_engine, writing

SPREAD = job(lanes={"engine": ["qnnpack", "onednn"], "isa": ["native", "avx2"]})


class LiveWorker:
    """`noisefloor worker` as its users start it."""

    def __init__(self, database: str, *arguments: str, **environment: str) -> None:
        self._command = [sys.executable, "-m", "noisefloor.cli", "worker", "--database", database, *arguments]
        self._environment = environment

    def __enter__(self) -> Self:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "tests"),
            "NOISEFLOOR_IMPORT_ALLOW": "subjects_under_test",
            **self._environment,
        }
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.process.stderr is not None
        said = ""
        for said in self.process.stderr:
            if found := re.search(r"^worker (\S+)", said):
                self.name = found[1]
                self.watched_at = said.rpartition(" ")[2].strip()
                return self
        raise RuntimeError(said)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    """A migrated database of the test's own."""
    url = postgres_server.create(f"many{os.urandom(4).hex()}")
    engine = open_engine(url)
    schema.upgrade(engine)
    engine.dispose()
    return url


@pytest.fixture
def service(database: str) -> Iterator[LiveService]:
    """The service without a worker of its own."""
    with LiveService(database, verb="serve") as serving:
        yield serving


def seen(service: LiveService, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = service.http.get(f"/v1/projects/default/jobs/{job_id}").json()
    return found


def until_ended(service: LiveService, job_id: str, cells: int) -> None:
    while seen(service, job_id)["progress"]["ended"] < cells:
        time.sleep(0.1)


def workers(service: LiveService) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in service.http.get("/v1/workers").json()["items"]}


def test_each_worker_runs_what_it_has_and_the_rest_is_named(service: LiveService, database: str) -> None:
    posted = service.submit(SPREAD)
    assert "none is there" in posted["progress"]["waiting_for"]
    with (
        LiveWorker(database, "--isa", "avx2") as older,
        LiveWorker(database, "--engine", "qnnpack", "--isa", "native") as phone,
    ):
        while workers(service).keys() != {older.name, phone.name}:
            time.sleep(0.1)
        until_ended(service, posted["id"], cells=3)
        # the worker that measured the last of them gives the rest of the shard back a moment later
        while (missing := seen(service, posted["id"])["progress"]["waiting_for"]) is None:
            time.sleep(0.1)
        assert "engine onednn with isa native" in missing
        left = [cell for cell in service.cells(posted["id"]) if cell["status"] == "queued"]
        assert [(cell["lane"]["engine"], cell["lane"]["isa"]) for cell in left] == [("onednn", "native")]
    assert workers(service) == {}
    assert (older.process.returncode, phone.process.returncode) == (0, 0)
    with LiveWorker(database):
        assert service.wait(posted["id"])["verdict"] == "pass"


def test_a_killed_workers_cells_are_queued_and_named_until_another_comes(
    service: LiveService, database: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with LiveWorker(database) as doomed:
        job_id = service.submit(misbehaving("lingering", path=str(gate)))["id"]
        wait_until_running(service, job_id, doing="onednn")
        doomed.process.kill()
        doomed.process.wait()
    gate.unlink()
    while workers(service):
        time.sleep(0.2)
    with LiveWorker(database):
        assert service.wait(job_id)["status"] == "done"
    assert [cell["status"] for cell in service.cells(job_id)] == ["done", "done"]


def test_a_cell_that_kills_its_workers_ends_and_costs_no_other(service: LiveService, database: str) -> None:
    job_id = service.submit(misbehaving("build", deed="kills_worker", engine="onednn"))["id"]
    for _ in range(shards.MAX_TRIES):
        with LiveWorker(database) as doomed:
            assert doomed.process.wait() == -signal.SIGKILL
        end_leases(database)
    with LiveWorker(database):
        assert service.wait(job_id)["verdict"] == "error"
    found = {cell["lane"]["engine"]: cell for cell in service.cells(job_id)}
    assert {engine: cell["status"] for engine, cell in found.items()} == {"onednn": "crashed", "x86": "done"}
    assert found["onednn"]["reason"].startswith("the worker was lost 3 times in a row")


def end_leases(database: str) -> None:
    """Let the ten seconds be over after which a silent worker is taken for lost."""
    engine = open_engine(database)
    with writing(engine, "test") as session:
        session.execute(update(tables.Shard).values(lease_until=0))
    engine.dispose()


def test_a_job_that_asks_for_another_torch_waits_for_it(service: LiveService, database: str) -> None:
    with LiveWorker(database):
        waiting = service.submit(job(torch="2.12.*"))["id"]
        done = service.submit(job(torch=">=2.13"))["id"]
        assert service.wait(done)["verdict"] == "pass"
        assert seen(service, waiting)["progress"]["waiting_for"].startswith(
            "a worker that has torch ==2.12.*"
        )


def test_a_worker_whose_clock_is_off_says_so_and_measures(service: LiveService, database: str) -> None:
    skewed = (
        "import time_machine as t; from datetime import *; from noisefloor.cli.main import run;"
        "t.travel(datetime.now(UTC) + timedelta(hours=1), tick=True).start(); run()"
    )
    command = [sys.executable, "-c", skewed, "worker", "--database", database]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert re.search(r"clock is 3[56]\d\d s ahead of the database's", process.stderr.readline())
            assert service.wait(service.submit(job())["id"])["verdict"] == "pass"
            (here,) = workers(service).values()
            assert here["capabilities"]["clock_off_s"] == pytest.approx(3600, abs=60)
        finally:
            process.terminate()
    assert process.returncode == 0


def refused_worker(database: str, *arguments: str, **environment: str) -> str:
    """What a worker says that cannot work; it ends at once."""
    ended = subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "worker", "--database", database, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    return ended.stderr


def test_a_worker_on_sqlite_is_refused_in_one_sentence(tmp_path: Path) -> None:
    assert "postgresql://" in refused_worker(f"sqlite:///{tmp_path}/a.db")


def test_a_worker_without_the_engine_that_it_is_to_take_is_refused(database: str) -> None:
    said = refused_worker(database, "--engine", "inductor", CXX="no-such-compiler")
    assert "engine = 'inductor': this machine has: " in said


def test_a_worker_whose_torch_cannot_be_imported_is_refused(database: str, tmp_path: Path) -> None:
    broken = tmp_path / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('libtorch.so is damaged')")
    said = refused_worker(database, PYTHONPATH=str(tmp_path))
    assert "this machine cannot say what it can measure: ImportError: libtorch.so is damaged" in said


def test_a_worker_with_the_wrong_password_is_refused(database: str, postgres_server: PostgresServer) -> None:
    postgres_server.ask_password("careful", "right")
    engine = open_engine(database.replace("//noisefloor@", "//careful:right@"))
    with engine.connect():
        pass
    engine.dispose()
    said = refused_worker(database.replace("//noisefloor@", "//careful:wrong@"))
    assert 'password authentication failed for user "careful"' in said
    assert "wrong@" not in said


def test_a_worker_without_its_database_is_refused() -> None:
    assert "Connection refused" in refused_worker("postgresql://nobody@127.0.0.1:9/none")
