"""Who is served next, how much may wait, and what a cancel meets, on both databases."""

import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session
from tests.measuring import TAKES_ALL, claimed, finish
from tests.samples import result, spec

from noisefloor.contract.job import CellStatus, JobStatus
from noisefloor.contract.verdict import Verdict
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import QueueFullError, StaleTokenError
from noisefloor.settings import Settings
from noisefloor.store import jobs, shards, tables
from noisefloor.store.session import open_engine, reading, writing
from noisefloor.workflow.cancel import cancel, retry
from noisefloor.workflow.execute import Claim, claim, give_back, heartbeat, sweep
from noisefloor.workflow.submit import submit

on_postgres = pytest.mark.parametrize("database", ["postgres"], indirect=True)


def post(session: Session, settings: Settings, project: str = "demo", **changes: Any) -> tables.Job:
    return submit(session, project=project, spec=spec(**changes), settings=settings, dispatch=LocalDispatch())


def many(number: int) -> dict[str, Any]:
    """Lanes that make so many shards of a cell each."""
    return {"engine": ["x86"], "threads": list(range(1, number + 1))}


def posted_before(engine: Engine, settings: Settings, **changes: Any) -> str:
    """The id of a job that is posted and committed."""
    with writing(engine, "test") as session:
        return post(session, settings, **changes).id


def status_of(engine: Engine, job_id: str) -> tuple[str, str]:
    with reading(engine) as session:
        found = jobs.find(session, "demo", job_id)
        assert found is not None
        return found.status, found.verdict


def found(session: Session, job_id: str) -> tables.Job:
    job = jobs.find(session, "demo", job_id)
    assert job is not None
    return job


def test_a_gate_goes_before_a_nightly_that_was_queued_long_before(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        posted = {
            word: post(session, settings, project=word, priority=word, lanes=many(2)).id
            for word in ("bisect", "nightly", "gate")
        }
        plain = post(session, settings, lanes=many(2)).id
        taken = [claimed(session).job_id for _ in range(8)]
    order = [posted["gate"], plain, posted["nightly"], posted["bisect"]]
    assert taken == [job_id for job_id in order for _ in range(2)]


def test_a_project_whose_shards_take_long_gets_no_more_workers_for_it(
    engine: Engine, settings: Settings
) -> None:
    with writing(engine, "test") as session:
        slow, quick = (post(session, settings, project=name, lanes=many(9)).id for name in ("slow", "quick"))
        taken = []
        for _ in range(6):
            held = claimed(session)
            taken.append(held.job_id)
            if held.job_id == quick:
                finish(session, held)
        assert taken.count(slow) == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_a_small_project_is_not_held_up_by_a_large_one(
    engine: Engine, settings: Settings, workers: int
) -> None:
    with writing(engine, "test") as session:
        post(session, settings, project="crowd", lanes=many(500))
        in_hand = deque(claimed(session, f"w{number}") for number in range(workers))
        small = post(session, settings, project="small", lanes=many(3))
        served = []
        while len(served) < 8:
            finish(session, in_hand.popleft())
            in_hand.append(claimed(session))
            served.append(in_hand[-1].job_id == small.id)
        assert sum(served) == 3
        assert sum(served[:6]) == 3, "its three are among the next six"


def test_projects_that_were_not_served_for_longest_go_first(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        posted = {post(session, settings, project=name, lanes=many(9)).id: name for name in ("a", "b", "c")}
        served = []
        for _ in range(6):
            held = claimed(session)
            finish(session, held)
            served.append(posted[held.job_id])
        assert sorted(served[:3]) == ["a", "b", "c"]
        assert served[3:] == served[:3]


def test_the_bound_holds_for_services_that_are_asked_at_once(
    engine: Engine, settings: Settings, database: str
) -> None:
    bounded = settings.model_copy(update={"max_queued_cells": 7})
    engines = [engine, open_engine(database)]
    answers: list[str] = []
    barrier = threading.Barrier(8)

    def ask(number: int) -> None:
        barrier.wait()
        try:
            with writing(engines[number % 2], "test") as session:
                post(session, bounded, project=f"p{number}", lanes=many(2))
        except QueueFullError:
            answers.append("full")
        else:
            answers.append("accepted")

    together([lambda number=number: ask(number) for number in range(8)])  # type: ignore[misc]
    engines[1].dispose()
    assert sorted(answers) == ["accepted"] * 3 + ["full"] * 5
    with reading(engine) as session:
        assert session.scalar(select(func.count()).select_from(tables.Cell)) == 6


def test_a_retry_that_the_queue_has_no_room_for_is_refused(engine: Engine, settings: Settings) -> None:
    bounded = settings.model_copy(update={"max_queued_cells": 3})
    with writing(engine, "test") as session:
        job = cancel(session, post(session, bounded, lanes=many(2)))
        post(session, bounded, lanes=many(2))
        with pytest.raises(QueueFullError, match="2 cells wait already"):
            retry(session, job, bounded, LocalDispatch())


def test_a_second_cancel_changes_nothing(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        job = post(session, settings, lanes=many(2))
        held = claimed(session)
        for _ in range(2):
            assert cancel(session, job).status == JobStatus.RUNNING
        assert heartbeat(session, held, "") is True
        give_back(session, held, LocalDispatch())
        assert cancel(session, job).status == JobStatus.CANCELLED


@on_postgres
def test_a_cancel_does_not_wait_for_a_claim_which_hears_of_it(engine: Engine, settings: Settings) -> None:
    job_id = posted_before(engine, settings)
    with writing(engine, "test") as worker:
        assert shards.claim_next(worker, "w", TAKES_ALL) is not None
        with writing(engine, "test") as user:
            user.connection().exec_driver_sql("SET LOCAL lock_timeout = '10s'")  # it would be for ever
            assert cancel(user, found(user, job_id)).status == JobStatus.QUEUED
        jobs.mark_running(worker, job_id)
        assert jobs.conditions(worker, job_id).cancel_requested


@on_postgres
def test_what_a_cancel_could_not_take_ends_when_it_is_claimed_again(
    engine: Engine, settings: Settings
) -> None:
    job_id = posted_before(engine, settings)
    with suppress(RuntimeError), writing(engine, "test") as worker:
        shards.claim_next(worker, "dies", TAKES_ALL)
        with writing(engine, "test") as user:
            cancel(user, found(user, job_id))
        raise RuntimeError
    with writing(engine, "test") as worker:
        assert claim(worker, "w", TAKES_ALL) is None
    assert status_of(engine, job_id) == (JobStatus.CANCELLED, Verdict.ERROR)


def test_what_is_given_back_after_a_cancel_waits_for_nobody(engine: Engine, settings: Settings) -> None:
    """Another worker may never come for what this one has no lane for."""
    with writing(engine, "test") as session:
        job = post(session, settings, lanes={"engine": ["x86", "onednn"]})
        held = claimed(session)
        finish(session, held.replace(cells=held.cells[:1]))
        cancel(session, job)
        give_back(session, held, LocalDispatch())
        assert (job.status, job.verdict) == (JobStatus.CANCELLED, Verdict.ERROR)
        ended = session.scalars(select(tables.Cell.status).order_by(tables.Cell.ordinal)).all()
        assert ended == [CellStatus.DONE, CellStatus.CANCELLED]


def test_what_a_worker_lost_after_a_cancel_waits_for_nobody(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        job = post(session, settings)
        claimed(session)
        cancel(session, job)
        session.execute(update(tables.Shard).values(lease_until=0))
        sweep(session)
        assert job.status == JobStatus.CANCELLED


def test_a_lost_shard_is_queued_again_and_what_it_waits_for_is_named(
    engine: Engine, settings: Settings
) -> None:
    with writing(engine, "test") as session:
        post(session, settings)
        claimed(session)
        session.execute(update(tables.Shard).values(lease_until=0))
        sweep(session)
        assert session.scalars(select(tables.Shard.status)).all() == [shards.QUEUED]


def test_cancels_among_claims_and_results_leave_no_job_unsettled(engine: Engine, settings: Settings) -> None:
    """Four workers, and a user who cancels what they work on: nothing deadlocks, nothing is left."""
    posted = [posted_before(engine, settings, lanes=many(3)) for _ in range(10)]
    failures: list[BaseException] = []
    draw = random.Random(7)

    def work(name: str) -> None:
        while True:
            with writing(engine, "test") as session:
                held = claim(session, name, TAKES_ALL)
            if held is None:
                return
            with suppress(StaleTokenError):
                _one_of_the_ends(engine, held, draw.random())

    def cancels() -> None:
        for job_id in posted[::2]:
            with writing(engine, "test") as session:
                cancel(session, found(session, job_id))

    def caught(act: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - told by the assertion
                failures.append(error)

        return run

    together([caught(lambda name=f"w{n}": work(name)) for n in range(4)] + [caught(cancels)])  # type: ignore[misc]
    work("last")
    assert failures == []
    states = {job_id: status_of(engine, job_id)[0] for job_id in posted}
    assert {states[job_id] for job_id in posted[1::2]} == {JobStatus.DONE}
    assert set(states.values()) <= {JobStatus.DONE, JobStatus.CANCELLED}


def _one_of_the_ends(engine: Engine, held: Claim, chance: float) -> None:
    """A worker gives the shard back, or hears of the cancel, or records a result."""
    with writing(engine, "test") as session:
        if chance < 0.3 or heartbeat(session, held, ""):
            give_back(session, held, LocalDispatch())
        else:
            finish(session, held, result)


def together(acts: list[Callable[[], None]]) -> None:
    """Run each in a thread of its own, to the end."""
    threads = [threading.Thread(target=act) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
