"""What is stamped is stamped by the database's clock, whatever the machine's says; on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from sqlalchemy import Engine, select
from tests.measuring import TAKES_ALL, claimed, finish
from tests.samples import spec

from noisefloor.contract.worker import WorkerState
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store import clock, workers
from noisefloor.store.session import database_now, new_id, open_engine, reading, writing
from noisefloor.workflow.execute import claim, heartbeat
from noisefloor.workflow.submit import submit

HOUR = timedelta(hours=1)


@pytest.fixture(params=[HOUR, -HOUR], ids=["ahead", "behind"])
def skewed(request: pytest.FixtureRequest, database: str) -> Iterator[Engine]:
    """The database as a process sees it whose clock is wrong."""
    with time_machine.travel(datetime.now(UTC) + request.param, tick=True):
        engine = open_engine(database)
        with engine.connect():
            pass
        yield engine
        engine.dispose()


def about(moment: datetime, now_s: float) -> bool:
    return abs(moment.timestamp() - now_s) < 60


def test_ids_and_moments_are_by_the_databases_clock(skewed: Engine, settings: Settings) -> None:
    with writing(skewed, "test") as session:
        now_s = session.scalars(select(database_now())).one()
        job = submit(session, project="demo", spec=spec(), settings=settings, dispatch=LocalDispatch())
        finish(session, claimed(session))
        for moment in (job.created_at, job.measured_at, job.finished_at, clock.now()):
            assert moment is not None
            assert about(moment, now_s)
        assert about(datetime.fromtimestamp(int(new_id()[:14], 16) / 1e6, UTC), now_s)
        assert abs(abs(clock.off_s()) - HOUR.total_seconds()) < 60


def test_a_lease_holds_and_a_worker_is_there_by_the_databases_clock(
    skewed: Engine, settings: Settings
) -> None:
    with writing(skewed, "test") as session:
        submit(session, project="demo", spec=spec(), settings=settings, dispatch=LocalDispatch())
        held = claimed(session)
        workers.announce(
            session,
            name="w",
            capabilities=TAKES_ALL,
            slots=1,
            state=WorkerState.ACTIVE,
            started_at=clock.now(),
        )
    with reading(skewed) as session:
        assert [row.name for row, _ in workers.live(session)] == ["w"]
    with writing(skewed, "test") as session:
        assert claim(session, "other", TAKES_ALL) is None
        assert heartbeat(session, held, "still here") is False
