"""Each guard taken out: the same scenario that kept every promise breaks one, and the ledger says which."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from sqlalchemy import Engine, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from tests.ci.events import REPOSITORY, sha
from tests.ci.suites import suite, with_secrets
from tests.ledger import Ledger
from tests.measuring import claimed, finish
from tests.samples import result, spec

from noisefloor.ci.event import Again, Event, Head
from noisefloor.contract.suite import Suite
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import StaleTokenError
from noisefloor.settings import Settings
from noisefloor.store import checks, shards, tables
from noisefloor.store import session as sessions
from noisefloor.store.session import reading, writing
from noisefloor.workflow import record as recording
from noisefloor.workflow import submit as submitting
from noisefloor.workflow.execute import Claim
from noisefloor.workflow.hook import receive
from noisefloor.workflow.suites import put_suite

DISPATCH = LocalDispatch()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def broken(engine: Engine, ledger: Ledger) -> str:
    """What the ledger says."""
    with reading(engine) as session:
        return "\n".join(ledger.violations(session))


def post(engine: Engine, settings: Settings, key: str | None = None) -> str:
    with writing(engine, "test") as session:
        return submitting.submit(
            session,
            project="demo",
            spec=spec(lanes={"engine": ["x86", "onednn"]}),
            settings=settings,
            dispatch=DISPATCH,
            idempotency_key=key,
        ).id


def held(engine: Engine, worker: str = "w") -> Claim:
    with writing(engine, "test") as session:
        return claimed(session, worker)


def report(engine: Engine, claim: Claim) -> None:
    with writing(engine, "test") as session:
        finish(session, claim)


def test_the_fence(
    engine: Engine, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that lost its shard to another reports what it measured."""
    post(engine, settings)
    late = held(engine, "late")
    with writing(engine, "test") as session:
        session.execute(update(tables.Shard).values(lease_until=0))
    held(engine, "quick")
    assert broken(engine, ledger) == ""
    with pytest.raises(StaleTokenError):
        report(engine, late)
    assert broken(engine, ledger) == ""

    def unfenced(session: Session, shard_id: str, _attempt: int) -> tables.Shard | None:
        return session.get(tables.Shard, shard_id)

    monkeypatch.setattr(shards, "fenced", unfenced)
    report(engine, late)
    assert "was recorded under attempt 1, and 2 holds its shard" in broken(engine, ledger)


def test_the_lease(
    engine: Engine, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second worker comes while the first has the shard."""
    post(engine, settings)
    held(engine, "first")
    assert broken(engine, ledger) == ""
    with pytest.raises(AssertionError):  # there is nothing to claim
        held(engine, "second")
    assert broken(engine, ledger) == ""
    monkeypatch.setattr(shards, "database_now", lambda: sessions.database_now() + 3600.0)
    held(engine, "second")
    assert "was taken from first, who holds it" in broken(engine, ledger)


def test_the_constraint(engine: Engine, settings: Settings, ledger: Ledger) -> None:
    """A result is written again, past the fence and past the question whether its cell has ended."""
    post(engine, settings)
    report(engine, held(engine))

    def write_again() -> None:
        with writing(engine, "test") as session:
            cell = session.scalars(select(tables.Cell).limit(1)).one()
            recording.write(session, "demo", cell, result(cell.id))

    with pytest.raises(IntegrityError):
        write_again()
    assert broken(engine, ledger) == ""
    drop_constraint(engine)
    write_again()
    assert "was measured 2 times" in broken(engine, ledger)


def drop_constraint(engine: Engine) -> None:
    """Let measurements be unique by nothing; SQLite can only make the table anew."""
    if engine.dialect.name == "postgresql":
        steps = ["ALTER TABLE measurements DROP CONSTRAINT uq_measurements_cell_id_edge_place_metric"]
    else:
        steps = ["PRAGMA foreign_keys = OFF", "CREATE TABLE copied AS SELECT * FROM measurements"]
        steps += ["DROP TABLE measurements", "ALTER TABLE copied RENAME TO measurements"]
    with each_alone(engine) as session:
        for step in steps:
            session.execute(text(step))


def test_the_transaction(
    engine: Engine, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows from the last cell of a job fails."""
    post(engine, settings)
    claim = held(engine)

    def fail(_session: Session, _job_id: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(recording, "settle_if_ended", fail)

    def report_within(transaction: Callable[[Engine], AbstractContextManager[Session]]) -> None:
        with pytest.raises(ZeroDivisionError), transaction(engine) as session:
            finish(session, claim)

    report_within(lambda engine: writing(engine, "test"))
    assert broken(engine, ledger) == ""
    report_within(each_alone)
    assert "cells have ended: True, settled: False" in broken(engine, ledger)


@contextmanager
def each_alone(engine: Engine) -> Iterator[Session]:
    """Without a transaction: each statement commits as it is sent."""
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        Session(bind=connection, expire_on_commit=False) as session,
    ):
        driver = session.connection().connection.driver_connection
        assert driver is not None
        if engine.dialect.name == "sqlite":
            driver.execute("COMMIT")  # of the BEGIN that every SQLite transaction of ours starts with
        yield session
        session.flush()


def test_the_idempotency_key(
    engine: Engine, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client posts once more: it did not hear the answer."""

    def post_twice() -> None:
        for _ in range(2):
            ledger.answered("the request", post(engine, settings, key="key"))

    post_twice()
    assert broken(engine, ledger) == ""
    monkeypatch.setattr(submitting, "once", lambda *_, act, **__: act())
    post_twice()
    assert "the request was answered with" in broken(engine, ledger)


def test_the_receipts_of_hooks(
    engine: Engine, settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider sends a delivery once more, after what it started has ended."""
    given = with_secrets(settings)
    with writing(engine, "test") as session:
        put_suite(session, project="demo", name="int8", suite=Suite.model_validate(suite()), settings=given)

    def deliver(event: Event, delivery: str) -> None:
        with writing(engine, "test") as session:
            answer = receive(
                session, event, delivery=delivery, digest=delivery, settings=given, dispatch=DISPATCH
            )
        for started in answer.suites:
            ledger.answered(delivery, started.job or "")
            report(engine, held(engine))

    of = {"provider": "github", "repository": REPOSITORY, "sha": sha(1)}
    deliver(Head.model_validate({**of, "event": "push", "branch": "topic", "into": "topic"}), "head")
    for _ in range(2):
        deliver(Again.model_validate(of), "again")
    assert broken(engine, ledger) == ""
    monkeypatch.setattr(checks, "receive_once", lambda *_, **__: True)
    deliver(Again.model_validate(of), "again")
    assert "again was answered with" in broken(engine, ledger)
