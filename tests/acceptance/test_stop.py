"""How processes stop: not ready at once, nothing lost, nobody kept waiting, and hard when asked twice."""

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.acceptance.test_faults import misbehaving, wait_until_running
from tests.acceptance.test_many import LiveWorker
from tests.postgres import PostgresServer
from tests.samples import job, result
from tests.service import WAIT_S, LiveService

from noisefloor.store import schema
from noisefloor.store.session import open_engine

STOP_S = 30
HARD = 128
JOBS = "/v1/projects/default/jobs"


@pytest.fixture
def migrated(tmp_path: Path) -> str:
    """A SQLite database at the code's schema."""
    database = f"sqlite:///{tmp_path}/noisefloor.db"
    engine = open_engine(database)
    schema.upgrade(engine)
    engine.dispose()
    return database


def rows(database: str, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(database.removeprefix("sqlite:///"))
    found = connection.execute(query).fetchall()
    connection.close()
    return found


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGKILL])
def test_who_waits_for_a_job_waits_on_past_the_service(migrated: str, told: signal.Signals) -> None:
    """Nothing is told of a job before it is settled, by whatever service."""
    waits = [sys.executable, "-m", "noisefloor.cli", "wait", "--timeout", str(WAIT_S)]
    with ExitStack() as last:
        with LiveService(migrated, verb="serve") as service:
            posted = service.submit(job())["id"]
            verb = last.enter_context(
                subprocess.Popen(
                    [*waits, posted, "--url", service.url],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            last.callback(verb.kill)
            assert verb.stderr is not None
            assert verb.stderr.readline().startswith(posted)
            service.process.send_signal(told)
            service.process.wait(STOP_S)
        port = str(httpx.URL(service.url).port)
        with LiveService(migrated, "--port", port, verb="serve") as again:
            assert again.url == service.url
            again.http.post(f"{JOBS}/{posted}/cancel").raise_for_status()
            out, err = verb.communicate(timeout=WAIT_S)
    assert verb.returncode == 0, err
    assert "verdict:  error" in out


def until_not_ready(client: httpx.Client) -> httpx.Response:
    while (answer := client.get("/readyz")).status_code == 200:
        time.sleep(0.02)
    return answer


def test_a_service_that_stops_says_so_answers_on_and_lets_go(migrated: str) -> None:
    """With more time to drain than the test takes: it is the second signal that ends it."""
    with LiveService(migrated, verb="serve", NOISEFLOOR_DRAIN_S="20") as service:
        posted = service.submit(job())["id"]
        waited: list[httpx.Response] = []
        address = f"{service.url}{JOBS}/{posted}"
        waiting = threading.Thread(
            target=lambda: waited.append(httpx.get(address, params={"wait": 60}, timeout=60))
        )
        with service.http.stream("GET", f"{JOBS}/{posted}/events") as stream:
            lines = stream.iter_lines()
            next(lines)
            waiting.start()
            service.process.send_signal(signal.SIGTERM)
            list(lines)
        waiting.join()
        assert waited[0].json()["status"] == "queued"
        answer = until_not_ready(service.http)
        assert (answer.status_code, answer.json()["detail"]) == (503, "the service is stopping")
        assert service.http.get("/healthz").status_code == 200
        assert service.http.get(f"{JOBS}/{posted}").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(STOP_S) == HARD + signal.SIGTERM


def test_what_is_in_flight_finishes(migrated: str) -> None:
    body = b"{}"
    with LiveService(migrated, verb="serve") as service, begun_request(service.url, len(body)) as finishing:
        service.process.send_signal(signal.SIGTERM)
        wait_until_closed(service.url)
        finishing.sendall(body)
        assert finishing.recv(12) == b"HTTP/1.1 422"
        assert service.process.wait(STOP_S) == 0


def test_what_never_finishes_is_ended_at_the_limit(migrated: str) -> None:
    with (
        LiveService(migrated, verb="serve", NOISEFLOOR_STOP_S="1") as service,
        begun_request(service.url, 2),
    ):
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(STOP_S) == HARD + signal.SIGALRM


def begun_request(url: str, length: int) -> socket.socket:
    """A request whose body is still to come."""
    address = httpx.URL(url)
    connection = socket.create_connection((address.host, address.port or 80))
    head = f"POST {JOBS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n"
    connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert connection.recv(1024).startswith(b"HTTP/1.1 100")  # it is being read
    return connection


def wait_until_closed(url: str) -> None:
    while True:
        try:
            httpx.get(f"{url}/healthz")
        except httpx.HTTPError:
            return
        time.sleep(0.02)


@pytest.fixture
def hanging() -> Iterator[tuple[str, threading.Event]]:
    """A receiver that takes a request and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        called, held = threading.Event(), []

        def take() -> None:
            connection, _ = listener.accept()
            held.append(connection)
            connection.recv(1024)
            called.set()

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook", called
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    ("failpoint", "code", "left"),
    [
        ("", 0, ("pending", 0, True)),
        ("release_delivery.before_commit=kill", -signal.SIGKILL, ("pending", 1, False)),
        ("release_delivery.after_commit=kill", -signal.SIGKILL, ("pending", 0, True)),
    ],
)
def test_a_receiver_that_hangs_gets_its_delivery_from_the_next_service(
    migrated: str, hanging: tuple[str, threading.Event], failpoint: str, code: int, left: tuple[object, ...]
) -> None:
    """Killed before it gave the delivery back, it leaves it under a lease, as every crash does."""
    url, called = hanging
    environment = {
        "NOISEFLOOR_WEBHOOK_ALLOW_PRIVATE": "true",
        "NOISEFLOOR_DELIVERY_TIMEOUT_S": "20",
        "NOISEFLOOR_FAILPOINTS": failpoint,
    }
    with LiveService(migrated, verb="serve", **environment) as service:
        project = "/v1/projects/default"
        made = service.http.put(f"{project}/webhooks/chat", json={"url": url})
        assert made.is_success, made.text
        pushed = {"job": job(), "results": [result("0").model_dump(mode="json")]}
        answer = service.http.post(f"{project}/results", json=pushed)
        assert answer.is_success, answer.text
        assert called.wait(STOP_S)
    assert service.process.returncode == code
    assert rows(migrated, "SELECT status, tries, lease_until IS NULL FROM deliveries") == [left]


def test_a_worker_that_stops_gives_its_cell_back_and_says_that_it_does(
    postgres_server: PostgresServer, postgres_template: str, tmp_path: Path
) -> None:
    database = postgres_server.create("stopping", template=postgres_template)
    gate = tmp_path / "gate"
    gate.touch()
    with (
        LiveService(database, verb="serve") as service,
        LiveWorker(database, "--metrics-port", "0", NOISEFLOOR_DRAIN_S="20") as worker,
    ):
        job_id = service.submit(misbehaving("lingering", path=str(gate)))["id"]
        wait_until_running(service, job_id, doing="onednn")
        with httpx.Client(base_url=worker.watched_at, timeout=60) as watched:
            counted = watched.get("/metrics").text
            assert "noisefloor_worker_claims_total 1.0" in counted
            assert "noisefloor_queue" not in counted
            assert watched.get("/readyz").status_code == 200
            worker.process.send_signal(signal.SIGTERM)
            until_not_ready(watched)
            while service.http.get(f"{JOBS}/{job_id}").json()["progress"]["running"]:
                time.sleep(0.05)
            assert watched.get("/readyz").status_code == 503  # it drains still: not only its end gave it back
        engine = open_engine(database)
        with engine.connect() as connection:
            found = connection.exec_driver_sql("SELECT status, tries, lease_until FROM shards").all()
        engine.dispose()
        assert [tuple(row) for row in found] == [("queued", 0, None)]
        worker.process.send_signal(signal.SIGINT)
        assert worker.process.wait(STOP_S) == HARD + signal.SIGINT


def test_what_up_measures_is_given_back_while_it_still_answers(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with LiveService(f"sqlite:///{tmp_path}/noisefloor.db", NOISEFLOOR_DRAIN_S="20") as service:
        job_id = service.submit(misbehaving("lingering", path=str(gate)))["id"]
        wait_until_running(service, job_id, doing="onednn")
        service.process.send_signal(signal.SIGTERM)
        while service.http.get(f"{JOBS}/{job_id}").json()["progress"]["running"]:
            time.sleep(0.05)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(STOP_S) == HARD + signal.SIGTERM
