"""What nobody asks for any more goes, and what is young or needed stays, on both databases."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select, text, update
from sqlalchemy.orm import Session
from tests.measuring import TAKES_ALL, measure
from tests.samples import ENVIRONMENT, result, spec

from noisefloor.contract.delivery import DeliveryStatus
from noisefloor.contract.gate import GateRequest
from noisefloor.contract.worker import WorkerState
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import ConflictError
from noisefloor.settings import Settings
from noisefloor.store import housekeeping, retention, tables, workers
from noisefloor.store.jobs import ensure_project
from noisefloor.store.session import database_now, new_id, reading, writing
from noisefloor.store.upsert import insert_missing
from noisefloor.workflow import retain
from noisefloor.workflow.deliver import replay
from noisefloor.workflow.gates import open_gate
from noisefloor.workflow.keeper import Keeper
from noisefloor.workflow.retain import tidy, untidy
from noisefloor.workflow.submit import submit

NOW = datetime.now(UTC)
SHA = "a" * 40
Left = Callable[[float], list[Any]]


def left(engine: Engine, days: float, column: Any) -> list[Any]:
    """The values of a column after the keeper has swept, so many days from now, as a dry run said."""
    now = NOW + timedelta(days=days)
    with reading(engine) as session:
        before = len(session.scalars(select(column)).all())
        expected = sum(untidy(session, now).values())
    Keeper(engine).sweep(now)
    with reading(engine) as session:
        found = list(session.scalars(select(column).order_by(column)))
        assert sum(untidy(session, now).values()) == 0
    assert (before == len(found)) == (expected == 0)
    return found


def test_idempotency_keys_are_kept_a_week(engine: Engine, settings: Settings) -> None:
    def post(session: Session) -> str:
        return submit(
            session,
            project="demo",
            spec=spec(),
            settings=settings,
            dispatch=LocalDispatch(),
            idempotency_key="once",
        ).id

    with writing(engine, "test") as session:
        first = post(session)
    assert left(engine, housekeeping.IDEMPOTENCY_DAYS - 1, tables.IdempotencyKey.key) == ["once"]
    with writing(engine, "test") as session:
        assert post(session) == first
    assert left(engine, housekeeping.IDEMPOTENCY_DAYS + 1, tables.IdempotencyKey.key) == []
    with reading(engine) as session:
        assert session.scalars(select(tables.Job.id)).all() == [first]


def test_receipts_outlast_what_providers_deliver_again(engine: Engine) -> None:
    with writing(engine, "test") as session:
        receipt = tables.HookReceipt(provider="github", delivery="d", digest="0" * 32, received_at=NOW)
        session.add(receipt)
    assert left(engine, 31, tables.HookReceipt.delivery) == ["d"]
    assert left(engine, housekeeping.RECEIPT_DAYS + 1, tables.HookReceipt.delivery) == []


def test_gates_are_answered_for_a_while_after_their_deadline(engine: Engine) -> None:
    with writing(engine, "test") as session:
        gate = open_gate(session, "demo", GateRequest(sha=SHA)).id
    assert left(engine, housekeeping.GATE_DAYS - 1, tables.Gate.id) == [gate]
    assert left(engine, housekeeping.GATE_DAYS + 1, tables.Gate.id) == []


def delivery(session: Session, sequence: int, status: DeliveryStatus, topic: str = "t", **more: Any) -> str:
    ended = None if status is DeliveryStatus.PENDING else NOW
    row = tables.Delivery(
        **{
            "id": new_id(),
            "project": "demo",
            "kind": "webhook",
            "target": "chat",
            "topic": topic,
            "sequence": sequence,
            "announcement": {},
            "status": status,
            "tries": 1,
            "attempt": 1,
            "due_at": 0.0,
            "created_at": NOW,
            "ended_at": ended,
            **more,
        }
    )
    session.add(row)
    session.flush()
    return row.id


def test_ended_deliveries_go_before_dead_letters_and_what_is_to_be_sent_stays(engine: Engine) -> None:
    with writing(engine, "test") as session:
        ensure_project(session, "demo", NOW)
        waits = delivery(session, 1, DeliveryStatus.PENDING, "a")
        delivery(session, 1, DeliveryStatus.DELIVERED, "b")
        delivery(session, 1, DeliveryStatus.SUPERSEDED, "c", ended_at=None)
        dead = delivery(session, 1, DeliveryStatus.DEAD, "d")
    assert len(left(engine, housekeeping.DELIVERED_DAYS - 1, tables.Delivery.id)) == 4
    assert left(engine, housekeeping.DELIVERED_DAYS + 1, tables.Delivery.id) == [waits, dead]
    assert left(engine, housekeeping.DEAD_LETTER_DAYS - 1, tables.Delivery.id) == [waits, dead]
    assert left(engine, housekeeping.DEAD_LETTER_DAYS + 1, tables.Delivery.id) == [waits]


def test_a_dead_letter_is_not_replayed_over_what_was_told_later(engine: Engine) -> None:
    with writing(engine, "test") as session:
        ensure_project(session, "demo", NOW)
        told_before = delivery(session, 1, DeliveryStatus.DELIVERED)
        dead = delivery(session, 2, DeliveryStatus.DEAD)
        told_later = delivery(session, 3, DeliveryStatus.DELIVERED)
    assert told_before not in left(engine, housekeeping.DELIVERED_DAYS + 1, tables.Delivery.id)
    with writing(engine, "test") as session, pytest.raises(ConflictError, match="something newer"):
        replay(session, "demo", dead)
    assert left(engine, housekeeping.DELIVERED_DAYS + 1, tables.Delivery.id) == [dead, told_later]
    assert left(engine, housekeeping.DEAD_LETTER_DAYS + 1, tables.Delivery.id) == []


def test_checks_go_after_their_job_and_what_is_told_of_them(engine: Engine, settings: Settings) -> None:
    def check(sha: str, **more: Any) -> str:
        row = tables.Check(
            **{
                "id": new_id(),
                "project": "demo",
                "suite": "quick",
                "provider": "github",
                "repository": "a/b",
                "sha": sha,
                "context": "noisefloor/quick",
                "open": False,
                "deadline": 0.0,
                "created_at": NOW,
                **more,
            }
        )
        session.add(row)
        session.flush()
        return row.id

    with writing(engine, "test") as session:
        job = measure(session, settings, LocalDispatch(), spec())
        kept = [check("a", open=True), check("b", job_id=job.id), check("c")]
        delivery(session, 1, DeliveryStatus.PENDING, check_id=kept[-1])
        check("d")
    assert len(left(engine, housekeeping.CHECK_DAYS - 1, tables.Check.id)) == 4
    assert left(engine, housekeeping.CHECK_DAYS + 1, tables.Check.id) == kept
    with writing(engine, "test") as session:
        retention.delete_jobs(session, [job.id])
    assert left(engine, housekeeping.CHECK_DAYS + 1, tables.Check.id) == [kept[0], kept[2]]


def test_bisections_go_after_their_steps(engine: Engine, settings: Settings) -> None:
    def bisection(**more: Any) -> str:
        row = tables.Bisection(
            **{
                "id": new_id(),
                "project": "demo",
                "spec": {},
                "status": "found",
                "message": "",
                "state": {},
                "request_digest": "0" * 32,
                "created_at": NOW,
                "finished_at": NOW,
                **more,
            }
        )
        session.add(row)
        session.flush()
        return row.id

    with writing(engine, "test") as session:
        step = measure(session, settings, LocalDispatch(), spec())
        kept = [bisection(status="running", finished_at=None), bisection()]
        step.bisection_id = kept[1]
        bisection()
    assert len(left(engine, housekeeping.BISECTION_DAYS - 1, tables.Bisection.id)) == 3
    assert left(engine, housekeeping.BISECTION_DAYS + 1, tables.Bisection.id) == kept
    with writing(engine, "test") as session:
        retention.delete_jobs(session, [step.id])
    assert left(engine, housekeeping.BISECTION_DAYS + 1, tables.Bisection.id) == kept[:1]


def test_workers_that_fell_silent_are_forgotten_without_another_to_notice(engine: Engine) -> None:
    with writing(engine, "test") as session:
        for name in ("alive", "dead"):
            workers.announce(
                session,
                name=name,
                capabilities=TAKES_ALL,
                slots=1,
                state=WorkerState.ACTIVE,
                started_at=NOW,
            )
        silent = database_now() - workers.FORGOTTEN_S - 1
        session.execute(update(tables.Worker).where(tables.Worker.name == "dead").values(seen_at=silent))
    assert left(engine, 0, tables.Worker.name) == ["alive"]


def test_an_environment_goes_with_its_last_cell(engine: Engine, settings: Settings) -> None:
    older, newer = ENVIRONMENT, ENVIRONMENT.replace(torch="2.14.0")
    keys = {}
    for environment in (older, newer):
        with writing(engine, "test") as session:
            dispatch = LocalDispatch()
            job = measure(session, settings, dispatch, spec(), lambda c: result(c, environment=environment))  # noqa: B023 - called at once
            cell = select(tables.Cell.environment_key).where(tables.Cell.job_id == job.id)
            keys[job.id] = session.scalars(cell).one()
    first, second = keys
    assert left(engine, 9, tables.Environment.key) == sorted(keys.values())
    with writing(engine, "test") as session:
        retention.delete_jobs(session, [first])
    assert len(left(engine, 0, tables.Environment.key)) == 2  # as young as that, its cell may be on its way
    assert left(engine, 9, tables.Environment.key) == [keys[second]]


def test_an_environment_that_a_shard_waits_for_stays(engine: Engine, settings: Settings) -> None:
    row = {"key": "e" * 32, "document": {}, "first_seen_at": NOW}
    with writing(engine, "test") as session:
        insert_missing(session, tables.Environment, [row])
        submit(session, project="demo", spec=spec(), settings=settings, dispatch=LocalDispatch())
        session.execute(update(tables.Shard).values(wants_environment=row["key"]))
    assert left(engine, 9, tables.Environment.key) == [row["key"]]


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_an_environment_that_somebody_has_just_found_stays(engine: Engine) -> None:
    row = {"key": "e" * 32, "document": {}, "first_seen_at": NOW}
    with writing(engine, "test") as session:
        insert_missing(session, tables.Environment, [row])
    with writing(engine, "test") as finding:
        insert_missing(finding, tables.Environment, [row])  # there already; its cell comes next
        with writing(engine, "test") as session:
            assert tidy(session, NOW + timedelta(days=9)) == {}
    with writing(engine, "test") as session:
        assert tidy(session, NOW + timedelta(days=9)) == {"environments that nothing names": 1}


def test_a_batch_is_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retain, "TIDIED_AT_ONCE", 2)
    rows = [
        {"provider": "github", "delivery": str(n), "digest": f"{n:032}", "received_at": NOW} for n in range(5)
    ]
    with writing(engine, "test") as session:
        insert_missing(session, tables.HookReceipt, rows)
    batches = []
    while not batches or batches[-1]:
        with writing(engine, "test") as session:
            batches.append(tidy(session, NOW + timedelta(days=99)).get("receipts of hooks", 0))
    assert batches == [2, 2, 1, 0]


TAKEN_BY_A_WORKER = """
WITH worker AS (
    INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - CAST(:silent AS interval))
    RETURNING id)
INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, worker_id)
SELECT 'cpu', 'noisefloor.shard', jsonb_build_object('shard', CAST(:shard AS text)), 'doing', id FROM worker
"""


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_only_news_of_shards_that_wait_is_kept(engine: Engine, settings: Settings) -> None:
    from noisefloor.dispatch.procrastinate import ProcrastinateDispatch

    with writing(engine, "test") as session:
        measure(session, settings, ProcrastinateDispatch(), spec())  # news that nobody heard
        submit(session, project="demo", spec=spec(), settings=settings, dispatch=ProcrastinateDispatch())
        waits = session.scalars(select(tables.Shard.id).where(tables.Shard.status == "queued")).one()
        for name, silent in (("died", "1 hour"), ("at work", "0")):
            session.execute(text(TAKEN_BY_A_WORKER), {"shard": name, "silent": silent})
    Keeper(engine).sweep(NOW)
    with reading(engine) as session:
        told = text("SELECT args ->> 'shard' FROM procrastinate_jobs")
        assert set(session.scalars(told)) == {waits, "at work"}
        assert session.scalar(text("SELECT count(*) FROM procrastinate_workers")) == 1
        assert session.scalar(text("SELECT count(DISTINCT job_id) FROM procrastinate_events")) == 1
