"""A worker's slots, on both databases: what goes wrong in one does not end it."""

import time
from functools import partial

from sqlalchemy import Engine
from tests.samples import spec
from tests.soak.plain import CAPABILITIES, PlainRunner

from noisefloor.contract.job import JobStatus
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store import jobs
from noisefloor.store.session import reading, writing
from noisefloor.workflow.submit import submit
from noisefloor_workers.runner.pool import Runners
from noisefloor_workers.runner.supervisor import OnTick
from noisefloor_workers.worker import Worker

PATIENCE_S = 60.0


class NotWarmed(PlainRunner):
    """Cannot be started ahead: the machine has no process or descriptor to spare just then."""

    def start(self, on_tick: OnTick = lambda _progress: True) -> None:
        del on_tick
        raise OSError(24, "Too many open files")


def test_a_slot_whose_runner_cannot_be_warmed_measures_all_the_same(
    engine: Engine, settings: Settings
) -> None:
    dispatch = LocalDispatch()
    with writing(engine, "test") as session:
        job_id = submit(session, project="demo", spec=spec(), settings=settings, dispatch=dispatch).id
    with Worker(
        engine=engine,
        dispatch=dispatch,
        news=dispatch,
        settings=settings,
        ask=lambda: CAPABILITIES,
        runners=partial(Runners, NotWarmed),
    ):
        deadline_s = time.monotonic() + PATIENCE_S
        while not ended(engine, job_id):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)


def ended(engine: Engine, job_id: str) -> bool:
    with reading(engine) as session:
        job = jobs.find(session, "demo", job_id)
        return job is not None and JobStatus(job.status).settled
