"""How many statements a job costs: the real API, the real worker and real kernels, on both databases."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, Engine, event
from tests.acceptance.test_faults import STATIC
from tests.conftest import serving
from tests.measuring import TAKES_ALL
from tests.samples import job
from tests.service import ROOT

from noisefloor.cli.serve import dispatch_for
from noisefloor.settings import Settings
from noisefloor_workers.worker import Worker, news_for

SMALL, LARGE = 3, 12  # subjects, each a shard of four cells
ENGINES = ["qnnpack", "onednn", "x86", "fbgemm"]


@dataclass
class Statements:
    """Those of each transaction, by the thread that made it."""

    of_threads: dict[str, list[list[str]]] = field(default_factory=lambda: defaultdict(list))

    def of(self, thread: str) -> list[list[str]]:
        """Transactions of threads of this name that said something, so far."""
        names = [name for name in list(self.of_threads) if name.startswith(thread)]
        return [done for name in names for done in self.of_threads[name] if done]


def _heartbeat(statements: list[str]) -> bool:
    return statements[0].startswith("UPDATE shards SET lease_until")


def _idle(statements: list[str]) -> bool:
    return all(statement.startswith("SELECT") for statement in statements)


@contextmanager
def counted(engine: Engine) -> Iterator[Statements]:
    """All statements that the engine's connections execute meanwhile."""
    found = Statements()

    def begin(_connection: Connection) -> None:
        found.of_threads[threading.current_thread().name].append([])

    def execute(_connection: Connection, _cursor: object, statement: str, *_: Any) -> None:
        transactions = found.of_threads[threading.current_thread().name]
        if transactions and not statement.startswith(("BEGIN", "PRAGMA")):
            transactions[-1].append(statement)

    event.listen(engine, "begin", begin, insert=True)
    event.listen(engine, "before_cursor_execute", execute)
    yield found
    event.remove(engine, "begin", begin)
    event.remove(engine, "before_cursor_execute", execute)


def document(subjects: int) -> dict[str, Any]:
    """A job of so many shards of four cells, of a model that costs nothing."""
    data = {"calibration": {"shape": [8, 4]}, "evaluation": {"shape": [2, 4]}}
    model = {"import": "subjects_under_test.misbehaving:build", "args": {"deed": "raises", "engine": "none"}}
    return job(
        subjects=[{**model, "data": data, "seeds": {"model": seed}} for seed in range(subjects)],
        schemes=[STATIC],
        lanes={"engine": ENGINES},
        analysis={"layers": False},
    )


def measured(api: httpx.Client, statements: Statements, subjects: int) -> tuple[int, list[list[str]]]:
    """How many statements the job's POST took; and the worker's transactions that work on it."""
    asked, worked = sum(map(len, statements.of("AnyIO"))), len(statements.of("slot-0"))
    posted = api.post("/v1/projects/default/jobs", json=document(subjects))
    assert posted.status_code == 202, posted.text
    post = sum(map(len, statements.of("AnyIO"))) - asked
    while api.get(f"{posted.headers['Location']}?wait=30").json()["status"] != "done":
        pass
    work = statements.of("slot-0")[worked:]
    return post, [done for done in work if not _heartbeat(done) and not _idle(done)]


def test_a_cell_costs_as_many_statements_in_a_large_job_as_in_a_small_one(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    dispatch = dispatch_for(engine)
    news = news_for(engine, dispatch, ["cpu"])
    worker = Worker(engine=engine, dispatch=dispatch, news=news, settings=settings, ask=lambda: TAKES_ALL)
    with serving(settings, engine) as api, counted(engine) as statements, worker:
        (small_post, small), (large_post, large) = (measured(api, statements, n) for n in (SMALL, LARGE))
    assert small_post == large_post
    assert max(map(len, small)) == max(map(len, large)), "the transaction that settles the job is the largest"
    per_cell = [sum(map(len, work)) / (n * len(ENGINES)) for work, n in ((small, SMALL), (large, LARGE))]
    print(f"statements: {small_post} a POST, {per_cell[0]:.1f} and {per_cell[1]:.1f} a cell")  # noqa: T201
    assert per_cell[1] <= per_cell[0]
    assert per_cell[1] < 11, "eight to record it, and its part of a claim and of the verdict"
