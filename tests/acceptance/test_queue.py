"""One service and two workers over one PostgreSQL: what goes first, and what a cancel does to each."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from tests.acceptance.test_faults import STATIC, alive, runner_children
from tests.acceptance.test_many import LiveWorker
from tests.ci.events import REPOSITORY, SECRET, push, sha, signed
from tests.postgres import PostgresServer
from tests.samples import job
from tests.service import LiveService

from noisefloor.store import schema
from noisefloor.store.session import open_engine

# Writes down each heartbeat after a cancel that a worker answers by keeping its lease.
COUNT_HEARTBEATS = """
CREATE TABLE heard (shard_id text);
CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO heard SELECT NEW.id FROM jobs WHERE id = NEW.job_id AND cancel_requested; RETURN NEW;
END $$;
CREATE TRIGGER hear AFTER UPDATE ON shards FOR EACH ROW
    WHEN (OLD.status = 'running' AND NEW.status = 'running' AND NEW.lease_until > OLD.lease_until)
    EXECUTE FUNCTION hear();
"""


class Fleet:
    """The service, its workers and its database."""

    def __init__(self, service: LiveService, workers: list[LiveWorker]) -> None:
        self.service, self.workers = service, workers

    def seen(self, job_id: str, project: str = "default") -> dict[str, Any]:
        found: dict[str, Any] = self.service.http.get(f"/v1/projects/{project}/jobs/{job_id}").json()
        return found

    def until_running(self, job_id: str, shards: int, project: str = "default") -> None:
        """Wait until so many of the job's shards are at their model."""
        while sum("onednn" in line for line in self.seen(job_id, project)["progress"]["running"]) < shards:
            time.sleep(0.05)

    def children(self) -> list[int]:
        return [child for worker in self.workers for child in runner_children(worker.process.pid)]


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> str:
    """A migrated database that counts heartbeats after a cancel."""
    url = postgres_server.create(f"queue{os.urandom(4).hex()}")
    engine = open_engine(url)
    schema.upgrade(engine)
    engine.dispose()
    with psycopg.connect(url) as connection:
        connection.execute(COUNT_HEARTBEATS)
    return url


@pytest.fixture(scope="module")
def fleet(database: str) -> Iterator[Fleet]:
    """A service that takes hooks, and two workers of a slot each."""
    with (
        LiveService(database, verb="serve", NOISEFLOOR_GITHUB_WEBHOOK_SECRETS=SECRET) as service,
        LiveWorker(database, "--slots", "1") as one,
        LiveWorker(database, "--slots", "1") as other,
    ):
        yield Fleet(service, [one, other])


@pytest.fixture(autouse=True)
def let_go(tmp_path: Path) -> Iterator[None]:
    """What lingers does not outlive its test, whatever became of it."""
    yield
    for gate in tmp_path.iterdir():
        gate.unlink()


def held(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A job of one shard and one cell a model."""
    data = {"calibration": {"shape": [8, 4]}, "evaluation": {"shape": [2, 4]}}
    subjects = [
        {"import": f"subjects_under_test.misbehaving:{model.pop('factory')}", "args": model, "data": data}
        for model in models
    ]
    lanes = {"engine": ["onednn"]}
    limits = {"cell_timeout_s": 600, "memory_gib": 1}
    return job(subjects=subjects, schemes=[STATIC], lanes=lanes, limits=limits, **changes)


def lingering(path: Path) -> dict[str, Any]:
    path.touch()
    return {"factory": "lingering", "path": str(path)}


def test_a_cancel_ends_queued_cells_at_once_and_running_ones_by_a_heartbeat(
    fleet: Fleet, database: str, tmp_path: Path
) -> None:
    deaf = {"factory": "build", "deed": "deafens"}
    later = [lingering(tmp_path / str(number)) for number in (1, 2)]
    posted = fleet.service.submit(held(deaf, lingering(tmp_path / "0"), *later))["id"]
    fleet.until_running(posted, shards=2)
    children = fleet.children()
    assert len(children) == 2
    asked_s = time.monotonic()
    answer = fleet.service.http.post(f"/v1/projects/default/jobs/{posted}/cancel").json()
    answered_s = time.monotonic()
    assert (answer["progress"]["ended"], len(answer["progress"]["running"])) == (2, 2)
    settled = fleet.service.wait(posted)
    settled_s = time.monotonic()
    print(f"cancel: answered after {answered_s - asked_s:.2f} s, settled {settled_s - asked_s:.2f} s")  # noqa: T201
    assert (settled["status"], settled["verdict"]) == ("cancelled", "error")
    assert {cell["status"] for cell in fleet.service.cells(posted)} == {"cancelled"}
    assert not any(alive(child) for child in children)
    with psycopg.connect(database) as connection:
        heard = connection.execute("SELECT count(*) FROM heard GROUP BY shard_id").fetchall()
    assert len(heard) == 2
    assert max(heard) <= (2,), "one that was under way, and the one that brought the news"


def test_a_worker_that_is_done_with_a_nightlys_shard_takes_the_gate_next(
    fleet: Fleet, tmp_path: Path
) -> None:
    gates = [tmp_path / str(number) for number in range(5)]
    nightly = fleet.service.submit(held(*map(lingering, gates), priority="nightly"))["id"]
    fleet.until_running(nightly, shards=2)
    gate = fleet.service.submit(
        held({"factory": "build", "deed": "raises", "engine": "none"}, priority="gate")
    )
    for path in gates[:2]:  # whichever of the two workers is done first takes the gate's only shard
        path.unlink()
    while fleet.seen(gate["id"])["status"] != "done":
        progress = fleet.seen(nightly)["progress"]
        both_on_the_nightly = progress["ended"] == 2 and len(progress["running"]) == 2
        assert not both_on_the_nightly or fleet.seen(gate["id"])["status"] == "done"
        time.sleep(0.05)
    fleet.service.http.post(f"/v1/projects/default/jobs/{nightly}/cancel")
    assert fleet.service.wait(nightly)["status"] == "cancelled"


def deliver(service: LiveService, document: Any) -> dict[str, Any]:
    answer = httpx.post(
        f"{service.url}/v1/hooks/github", **signed("push", document, delivery=os.urandom(4).hex())
    )
    (outcome,) = answer.json()["suites"]
    assert isinstance(outcome, dict)
    return outcome


def test_a_newer_head_takes_the_workers_of_the_older_one(fleet: Fleet, database: str, tmp_path: Path) -> None:
    suite = "/v1/projects/demo/suites/int8"
    about = {"provider": "github", "repository": REPOSITORY}
    slow = held(*(lingering(tmp_path / str(number)) for number in range(3)))
    assert fleet.service.http.put(suite, json={**about, "job": slow}).is_success
    older = deliver(fleet.service, push(sha(1), at=100))["job"]
    fleet.until_running(older, shards=2, project="demo")
    quick = held({"factory": "build", "deed": "raises", "engine": "none"})
    assert fleet.service.http.put(suite, json={**about, "job": quick}).is_success
    newer = deliver(fleet.service, push(sha(2), before=sha(1), at=101))
    assert newer["cancelled"] == [older]
    assert fleet.service.wait(newer["job"], project="demo")["status"] == "done"
    ended = fleet.service.wait(older, project="demo")
    assert (ended["status"], ended["verdict"]) == ("cancelled", "error")
    with psycopg.connect(database) as connection:
        told = connection.execute(
            "SELECT announcement->>'verdict' FROM deliveries"
            " WHERE announcement->>'sha' = %s ORDER BY sequence",
            [sha(1)],
        ).fetchall()
    assert told[-1] == ("error",)
    assert set(told) <= {("pending",), ("error",)}
