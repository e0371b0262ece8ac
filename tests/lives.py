"""Lives of jobs, each in a process that a failpoint may end; forked from this one, which has imported all.

    python -m tests.lives DATABASE RECEIVER

A line on standard input is the life to live, its project, and failpoints. What is acknowledged is said on
standard output as it comes, and at last how the process ended.
"""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, update
from sqlalchemy.exc import OperationalError
from tests.ci.events import push, sha, signed
from tests.ci.suites import WHSEC, suite, with_secrets
from tests.measuring import TAKES_ALL
from tests.samples import job, result

from noisefloor.api.app import create_app
from noisefloor.cli.serve import dispatch_for
from noisefloor.contract.measurement import CellResult
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.failpoints import SENDS, arm
from noisefloor.settings import Settings
from noisefloor.store import deliveries, tables
from noisefloor.store.session import open_engine, writing
from noisefloor.workflow.courier import Courier
from noisefloor.workflow.keeper import Keeper
from noisefloor_workers import worker
from noisefloor_workers.runner.messages import ShardTask

POLL_S = 0.005
PATIENCE_S = 60
LEASE_S = 0.2
LOW_DB, HIGH_DB = 29.0, 41.5
REGRESSING = {"engine": ["x86"], "threads": [2]}
TWO = {"engine": ["x86", "onednn"]}
# no torch 1.0 is to be had: the worker refuses the shard
UNMET = {"torch": "1.0.*"}

# The transactions and sends that each life comes by, and what its jobs end with.
COMES_BY = {
    "measured": (
        *("webhook", "submit", "appear", "claim", "heartbeat", "record", "give_back", "leave"),
        *("claim_delivery", "conclude_delivery"),
    ),
    "replayed": ("replay",),
    "refused": ("end_shard",),
    "cancelled": ("cancel", "retry"),
    "bisected": ("bisect", "end_bisection", "cancel_step"),
    "judged": ("push", "accept", "gate", "import"),
    "hooked": ("suite", "hook", "expire_checks"),
    "kept": ("policy", "settings", "retention", "forget_suite", "forget_webhook", "prune", "tidy"),
}
POINTS = {
    **dict.fromkeys(SENDS, "measured"),
    **{
        f"{name}.{side}_commit": life
        for life, names in COMES_BY.items()
        for name in names
        for side in ("before", "after")
    },
}
VERDICTS = {
    "measured": {"measured": "pass"},
    "replayed": {"measured": "pass"},
    "refused": {"refused": "no_baseline"},
    "cancelled": {"cancelled": "pass"},
    "bisected": {"bisection of bisected: all layers": "error"},
    "judged": {"judged": "acknowledged"},
    "hooked": {"int8": "error"},
    "kept": {},
}


class Canned:
    """Stands where the runners are: results without torch, low where a shard has two threads."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        pass

    def take(self, _isa: str, _threads: int) -> Self:
        return self

    def start(self, _on_tick: Callable[[str], bool]) -> None:
        pass

    def run(self, task: ShardTask, on_tick: Callable[[str], bool]) -> Iterator[CellResult]:
        for cell in task.cells:
            if not on_tick("at it"):
                return
            yield result(cell.cell, LOW_DB if task.threads > 1 else HIGH_DB)


class Life:
    """A user, a worker and a courier in one process, each doing the same again after a crash."""

    def __init__(self, client: TestClient, given: Settings, project: str) -> None:
        self.http, self.given, self.project = client, given, project
        service = client.app.state.service  # type: ignore[attr-defined]  # the application that we made
        self.engine, self.dispatch = service.engine, service.dispatch
        self.path = f"/v1/projects/{project}"

    def measured(self) -> None:
        self.told_at("hook")

    def replayed(self) -> None:
        self.told_at("dead")
        for dead in self.ask("GET", "deliveries", params={"status": "dead"})["items"]:
            self.ask("POST", f"deliveries/{dead['id']}/replay", refused=409)
        self.deliver()

    def told_at(self, name: str) -> None:
        url = f"{self.given.github_api}/{name}/{self.project}"
        self.ask("PUT", f"webhooks/{name}", json={"url": url, "secret": WHSEC})
        self.work(self.submit("measured", lanes=TWO))
        self.deliver()

    def refused(self) -> None:
        self.work(self.submit("refused", **UNMET))

    def cancelled(self) -> None:
        job_id = self.submit("cancelled", lanes=TWO)
        if self.ask("GET", f"jobs/{job_id}")["verdict"] != "pass":  # or it was retried before the crash
            self.ask("POST", f"jobs/{job_id}/cancel")
            self.ask("POST", f"jobs/{job_id}/retry", refused=409)
        self.work(job_id)

    def bisected(self) -> None:
        asked = {"over": "layers", "below_db": 30, "job": job(name="bisected")}
        key = {"Idempotency-Key": "bisected"}
        posted = self.ask("POST", "bisections", json=asked, headers=key)
        assert self.ask("POST", f"bisections/{posted['id']}/cancel")["status"] == "cancelled"
        (step,) = posted["steps"]
        assert self.ask("GET", f"jobs/{step['job']}")["status"] == "cancelled"

    def judged(self) -> None:
        document = {
            "job": job(name="judged", lanes=REGRESSING),
            "results": [result("0", LOW_DB).model_dump(mode="json")],
        }
        pushed = self.ask("POST", "results", json=document, headers={"Idempotency-Key": "push"})["id"]
        say(answered=f"{self.project} push", job=pushed)
        self.ask("POST", "baselines", refused=409, json={"kind": "accept", "job": pushed, "reason": "known"})
        self.ask("POST", "gates", json={"sha": sha(1), "timeout_s": 60})
        rows = self.http.get(f"{self.path}/export").text
        copy = f"/v1/projects/{self.project}-copy/import"
        self.ask("POST", copy, content=rows, headers={"Content-Type": "text/csv"})

    def hooked(self) -> None:
        repository = f"owner/{self.project}"
        self.ask("PUT", "suites/int8", json=suite(repository=repository))
        event = push()
        event["repository"] = {**event["repository"], "full_name": repository}
        answer = self.ask("POST", "/v1/hooks/github", **signed("push", event, delivery=self.project))
        for started in answer["suites"]:
            say(answered=f"{self.project} hook", job=started["job"])
        with writing(self.engine, "test") as session:
            mine = tables.Check.project == self.project
            session.execute(update(tables.Check).where(mine).values(deadline=0))
        self.deliver()

    def kept(self) -> None:
        self.ask("PUT", "policies/int8", json={"rules": {"floor_db": 20}})
        self.ask("PUT", "settings", json={"default_branch": "trunk"})
        self.ask("PUT", "retention", json={"jobs_days": 30})
        for path, document in (
            ("suites/old", suite()),
            ("webhooks/old", {"url": self.given.github_api, "secret": WHSEC}),
        ):
            self.ask("PUT", path, json=document)
            self.ask("DELETE", path, refused=404)
        again(lambda: Keeper(self.engine).sweep(datetime.now(UTC)))

    def submit(self, name: str, **changes: Any) -> str:
        key = {"Idempotency-Key": name}
        posted: str = self.ask("POST", "jobs", json=job(name=name, **changes), headers=key)["id"]
        say(answered=f"{self.project} {name}", job=posted)
        return posted

    def work(self, job_id: str) -> None:
        """Be a worker until the job is settled."""
        news = self.dispatch if isinstance(self.dispatch, LocalDispatch) else LocalDispatch()
        deadline_s = time.monotonic() + PATIENCE_S
        with worker.Worker(
            engine=self.engine,
            dispatch=self.dispatch,
            news=news,
            settings=self.given,
            ask=lambda: TAKES_ALL,
            runners=Canned,  # type: ignore[arg-type]
            lease_s=LEASE_S,
        ):
            while self.ask("GET", f"jobs/{job_id}")["status"] not in {"done", "cancelled"}:
                assert time.monotonic() < deadline_s, "the job is stuck"
                time.sleep(POLL_S)

    def deliver(self) -> None:
        """Be a courier until nothing is left to send."""
        courier = Courier(engine=self.engine, settings=self.given)
        while again(courier.step) or self.ask("GET", "deliveries", params={"status": "pending"})["items"]:
            time.sleep(POLL_S)

    def ask(self, method: str, path: str, *, refused: int | None = None, **request: Any) -> Any:
        """Ask as a client does: again, for as long as the service says that it is not there."""
        while True:
            url = path if path.startswith("/") else f"{self.path}/{path}"
            answer = self.http.request(method, url, **request)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            assert answer.json()["type"] == "urn:noisefloor:problem:unavailable", answer.text
            assert answer.headers["Retry-After"] == "1"
        assert answer.is_success or answer.status_code == refused, answer.text
        return answer.json() if answer.content else None


def again(act: Callable[[], Any]) -> Any:
    """Do what a thread of the service does in a loop, past its failures."""
    while True:
        try:
            return act()
        except OperationalError:
            continue


def say(**what: Any) -> None:
    """One line to whoever started this process."""
    os.write(1, json.dumps(what).encode() + b"\n")


def main(database: str, receiver: str) -> None:
    """Fork for each line, and say how what was forked ended."""
    worker.IDLE_S = POLL_S
    # as long as the only worker of a database can have it, a short lease is as good as a long one
    deliveries.LEASE_S = LEASE_S
    given = with_secrets(Settings(database=database, github_api=receiver))
    engine = open_engine(database)
    app = create_app(settings=given, engine=engine, dispatch=dispatch_for(engine))
    _warm_up(Life(client_of(app), given, "warm"), engine)
    say(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _live(app, given, asked)
        _, status = os.waitpid(pid, 0)
        say(ended=os.waitstatus_to_exitcode(status))


def _warm_up(life: Life, engine: Engine) -> None:
    """Compile what every life would, and leave neither a connection nor a thread to fork with."""
    for name in COMES_BY:
        getattr(life, name)()
    engine.dispose()
    assert threading.active_count() == 1, threading.enumerate()


def client_of(app: FastAPI) -> TestClient:
    """Requests to the application in this process."""
    return TestClient(app, base_url="http://127.0.0.1")


def _live(app: FastAPI, given: Settings, asked: dict[str, str]) -> None:
    code = 1
    try:
        arm(asked["failpoints"])
        getattr(Life(client_of(app), given, asked["project"]), asked["life"])()
        code = 0
    except BaseException:  # noqa: BLE001 - the last frame of the process: it is told, and the code says so
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
