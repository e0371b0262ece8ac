"""What is kept, and what goes, on the real store."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from tests.measuring import measure
from tests.samples import found, operators, result, small_data, spec

from noisefloor.contract.figure import Figure
from noisefloor.contract.gate import BaselineRequest
from noisefloor.contract.job import JobSpec
from noisefloor.contract.layers import Layer, LayerReport
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.project import ProjectSettings, Pruned, Retention
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store import conformance, projects, retention
from noisefloor.store.session import reading, writing
from noisefloor.store.tables import Analysis, Base, Job
from noisefloor.workflow import retain
from noisefloor.workflow.accept import mark
from noisefloor.workflow.keeper import Keeper
from noisefloor.workflow.retain import due, prune
from noisefloor.workflow.submit import enter, submit

DB = Figure.finite(40.0)
LAYER = Layer(name="fc", kind="Linear", cumulative=DB, local=DB, share=1.0)
EVERYTHING = Retention(
    layers_of_pull_requests_days=1, layers_days=1, jobs_of_pull_requests_days=1, jobs_days=1
)
Measure = Callable[..., str]


def later(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


@pytest.fixture
def measured(engine: Engine, settings: Settings) -> Measure:
    """Measures a job with layers, and gives its id."""

    def add(branch: str | None, figure: float = 40.0, *, seed: int = 1, **changes: Any) -> str:
        def answer(cell: str) -> CellResult:
            return result(cell, figure, layers=(LayerReport(edge="float32->true", layers=(LAYER,)),))

        with writing(engine, "test") as session:
            subject = {"zoo": "multiple-ops", "seeds": {"stream": seed}, "data": small_data()}
            sha = f"{session.scalar(select(func.count()).select_from(Job)):040x}"
            job = spec(subjects=[subject], git={"branch": branch, "sha": sha}, **changes)
            return measure(session, settings, LocalDispatch(), job, answer).id

    return add


def keeping(engine: Engine, policy: Retention, **settings: Any) -> None:
    with writing(engine, "test") as session:
        projects.write_retention(session, "demo", policy)
        projects.write_settings(session, "demo", ProjectSettings(**settings))


def pruned(engine: Engine, now: datetime) -> Pruned:
    """All batches together; and a dry run says the same before, and nothing is left after."""
    with reading(engine) as session:
        expected = due(session, "demo", now)
    Keeper(engine).sweep(now)
    with reading(engine) as session:
        assert due(session, "demo", now) == Pruned()
    return expected


def left(engine: Engine) -> set[str]:
    with reading(engine) as session:
        return set(session.scalars(select(Job.id)))


def with_layers(engine: Engine) -> set[str]:
    with reading(engine) as session:
        query = select(Job.id).join(Base.metadata.tables["cells"]).join(Analysis)
        return set(session.scalars(query))


def test_layers_of_pull_requests_go_first(engine: Engine, measured: Measure) -> None:
    topic, main, newest = measured("topic"), measured("main"), measured("main")
    keeping(engine, Retention(layers_of_pull_requests_days=5, layers_days=50))
    assert pruned(engine, later(4)) == Pruned()
    assert pruned(engine, later(6)) == Pruned(layers=1)
    assert with_layers(engine) == {main, newest}
    assert pruned(engine, later(51)) == Pruned(layers=1)
    assert (with_layers(engine), left(engine)) == ({newest}, {topic, main, newest})


def test_a_job_goes_with_everything_that_is_its_own(engine: Engine, measured: Measure) -> None:
    stays = measured("main")
    goes = measured("topic")
    stays_too = measured("main")
    keeping(engine, Retention(jobs_of_pull_requests_days=5))
    assert pruned(engine, later(6)) == Pruned(jobs=1)
    assert left(engine) == {stays, stays_too}
    with reading(engine) as session:
        for table in Base.metadata.sorted_tables:
            if "job_id" in table.columns:
                assert goes not in set(session.scalars(select(table.c.job_id)))


def test_what_was_found_of_a_kernel_goes_with_its_job(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        asked = JobSpec.model_validate(operators("quantized::linear", git={"branch": "topic"}))
        goes, stays = (measure(session, settings, LocalDispatch(), asked, found).id for _ in range(2))
    keeping(engine, EVERYTHING)
    assert pruned(engine, later(9)) == Pruned(jobs=1)
    with reading(engine) as session:
        kept = [one.job.id for one in conformance.latest(session)]
    assert (kept, goes in left(engine)) == ([stays], False)


def test_the_newest_result_of_a_series_stays(engine: Engine, measured: Measure) -> None:
    measured("topic", seed=1)
    only = measured("topic", seed=2)
    newest = measured("topic", seed=1)
    keeping(engine, EVERYTHING)
    assert pruned(engine, later(9)) == Pruned(layers=1, jobs=1)
    assert left(engine) == with_layers(engine) == {only, newest}


def test_what_would_be_the_next_baseline_stays(engine: Engine, measured: Measure) -> None:
    measured("main")
    accepted = measured("main")
    refused = measured("main", 20.0)  # below its floor of 30 dB
    newest = measured("topic")
    keeping(engine, EVERYTHING)
    assert pruned(engine, later(9)) == Pruned(layers=2, jobs=2)
    assert refused not in left(engine)
    assert left(engine) == with_layers(engine) == {accepted, newest}


def test_what_is_the_baseline_of_a_result_stays_as_long_as_that(engine: Engine, measured: Measure) -> None:
    policy = {"rules": {"max_drop_db": 0.5}, "on": {"no_baseline": "warn"}}
    first, second, last = (measured("topic", policy=policy) for _ in range(3))
    newest = measured("main")
    keeping(engine, Retention(layers_of_pull_requests_days=1))
    assert pruned(engine, later(9)) == Pruned(layers=1)
    assert with_layers(engine) == {first, second, newest}
    with writing(engine, "test") as session:
        retention.delete_jobs(session, [last])
    assert pruned(engine, later(9)) == Pruned(layers=1)
    assert with_layers(engine) == {first, newest}


def test_the_default_branch_is_a_setting(engine: Engine, measured: Measure) -> None:
    trunk, _, main, newest = (measured(branch) for branch in ("trunk", "main", "main", None))
    keeping(engine, Retention(jobs_of_pull_requests_days=1), default_branch="trunk")
    pruned(engine, later(9))
    assert main not in left(engine)
    assert left(engine) == {trunk, newest}


def test_what_is_not_settled_stays(engine: Engine, measured: Measure, settings: Settings) -> None:
    measured("main")
    with writing(engine, "test") as session:
        waits = spec(git={"branch": "topic"})
        queued = submit(session, project="demo", spec=waits, settings=settings, dispatch=LocalDispatch()).id
    keeping(engine, EVERYTHING)
    assert pruned(engine, later(999)) == Pruned()
    assert queued in left(engine)


def test_without_a_policy_everything_stays(engine: Engine, measured: Measure) -> None:
    jobs = {measured("topic"), measured("topic")}
    assert pruned(engine, later(9999)) == Pruned()
    assert left(engine) == jobs


def test_a_batch_is_bounded(engine: Engine, measured: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(6):
        measured("topic")
    keeping(engine, Retention(layers_of_pull_requests_days=1, jobs_of_pull_requests_days=1))
    monkeypatch.setattr(retain, "LAYERS_AT_ONCE", 3)
    monkeypatch.setattr(retain, "JOBS_AT_ONCE", 4)
    batches = []
    while not batches or batches[-1] != Pruned():
        with writing(engine, "test") as session:
            batches.append(prune(session, "demo", later(9)))
    assert batches == [Pruned(layers=3), Pruned(layers=2), Pruned(jobs=4), Pruned(jobs=1), Pruned()]


def test_every_table_that_refers_to_a_job_goes_with_it_or_keeps_it() -> None:
    owned = {"jobs", "cells", "measurements", "analyses", "shards"}
    ends = (*retention.OF_A_CELL, *retention.OF_A_JOB, *retention.HOLDING_A_JOB)
    deleted = {table.__tablename__ for table in ends} | {"jobs"}
    for table in Base.metadata.sorted_tables:
        keys = (key for key in table.foreign_keys if key.ondelete is None)
        if any(key.column.table.name in owned for key in keys):
            assert table.name in deleted, f"{table.name}: add it to OF_A_CELL, OF_A_JOB or HOLDING_A_JOB"


def test_what_only_explains_a_job_goes_with_it(engine: Engine, measured: Measure) -> None:
    parent = measured("main")
    with writing(engine, "prune") as session:
        enter(session, project="demo", spec=spec(), explains=parent)
        retention.delete_jobs(session, [parent])
        assert session.scalars(select(Job.id)).all() == []


def test_what_somebody_pinned_and_what_was_released_stay(engine: Engine, measured: Measure) -> None:
    pinned, released, _gone, newest = (measured("main") for _ in range(4))
    keeping(engine, EVERYTHING)
    with writing(engine, "test") as session:
        asked = {"kind": "pin", "job": pinned, "reason": "what the customer has"}
        mark(session, "demo", BaselineRequest.model_validate(asked))
        job = session.get_one(Job, released)
        job.git = {**job.git, "tag": "v1"}
    pruned(engine, later(9))
    assert left(engine) == {pinned, released, newest}
