"""Workers and what each may claim, on both databases."""

from datetime import UTC, datetime
from importlib.resources import files

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session
from tests.measuring import TAKES_ALL, claimed, finish, measure
from tests.samples import ENVIRONMENT, result, spec

from noisefloor.contract.job import JobStatus
from noisefloor.contract.measurement import Environment
from noisefloor.contract.worker import Capabilities, Wants, WorkerState
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.identity import environment_key
from noisefloor.settings import Settings
from noisefloor.store import jobs, schema, tables, workers
from noisefloor.store.session import reading, writing
from noisefloor.workflow.execute import claim, give_back
from noisefloor.workflow.submit import enter, submit
from noisefloor.workflow.waiting import waiting_for

NATIVE = Capabilities(
    engines=("x86", "onednn"), isas=("native",), threads=2, memory_gib=8, machine="x86_64", torch="2.13.0+cpu"
)
PHONE = NATIVE.replace(engines=("qnnpack",))
OLDER = NATIVE.replace(isas=("avx2",))


@pytest.fixture
def session(engine: Engine) -> Session:
    with writing(engine, "test") as session:
        yield session  # type: ignore[misc]  # a generator as fixtures are


def post(session: Session, settings: Settings, project: str = "demo", **changes: object) -> tables.Job:
    return submit(session, project=project, spec=spec(**changes), settings=settings, dispatch=LocalDispatch())


def appear(session: Session, name: str, takes: Capabilities, state: WorkerState = WorkerState.ACTIVE) -> None:
    workers.announce(
        session, name=name, capabilities=takes, slots=1, state=state, started_at=datetime.now(UTC)
    )


def test_a_worker_takes_the_cells_that_it_has_lanes_for_and_leaves_the_rest(
    session: Session, settings: Settings
) -> None:
    posted = post(session, settings, lanes={"engine": ["qnnpack", "x86", "onednn"]})
    held = claimed(session, takes=PHONE)
    assert [cell.lane.engine for cell in held.cells] == ["qnnpack"]
    assert claim(session, "other", NATIVE) is None
    finish(session, held)
    give_back(session, held, LocalDispatch())
    assert claim(session, "phone", PHONE) is None
    rest = claimed(session, takes=NATIVE)
    assert [cell.lane.engine for cell in rest.cells] == ["x86", "onednn"]
    finish(session, rest)
    assert posted.status == JobStatus.DONE


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"lanes": {"engine": ["fbgemm"]}}, "engine fbgemm"),
        ({"lanes": {"engine": ["x86"], "isa": ["sse41"]}}, "isa sse41"),
        ({"lanes": {"engine": ["x86"], "threads": [3]}}, "3 threads"),
        ({"torch": "2.12.*"}, "torch ==2.12.*"),
        ({"limits": {"memory_gib": 8.5}}, "8.5 GiB of memory a slot"),
        ({"lanes": {"engine": ["qnnpack"], "isa": ["avx2"]}}, "engine qnnpack with isa avx2"),
    ],
)
def test_what_no_worker_has_stays_queued_and_is_named(
    session: Session, settings: Settings, changes: dict[str, object], missing: str
) -> None:
    posted = post(session, settings, **changes)
    everyone = {"native": NATIVE, "phone": PHONE, "older": OLDER}
    for name, takes in everyone.items():
        appear(session, name, takes)
        assert claim(session, name, takes) is None
    said = waiting_for(session, [posted.id])[posted.id]
    assert said == f"a worker that has {missing}; 3 workers are there without it"


SHA = "a" * 40


def wanting(
    session: Session, settings: Settings, environment: Environment | None, commit: str | None = None
) -> tables.Job:
    """A job that wants an environment in which somebody has measured."""
    jobs.ensure_project(session, "demo", datetime.now(UTC))
    key = None
    if environment is not None:
        key = environment_key(environment)
        dispatch = LocalDispatch()
        measure(session, settings, dispatch, spec(), lambda cell: result(cell, environment=environment))
    return enter(session, project="demo", spec=spec(), wants=Wants(environment=key, commit=commit))[0]


@pytest.mark.parametrize(
    ("changes", "takes"),
    [
        ({}, True),
        ({"threads": 2}, True),
        ({"threads": 3}, False),
        ({"torch": "2.12.0"}, False),
        ({"isa_cap": "avx2"}, False),
        ({"plugins": {"acme": "1.0"}}, True),
        ({"plugins": {"acme": "2.0"}}, False),
        ({"plugins": {"other": "1.0"}}, False),
    ],
)
@pytest.mark.parametrize("takes_all", [False, True])
def test_a_shard_that_wants_an_environment_is_for_workers_of_it_alone(
    session: Session, settings: Settings, changes: dict[str, object], *, takes: bool, takes_all: bool
) -> None:
    posted = wanting(session, settings, ENVIRONMENT.replace(**changes))
    offered = ENVIRONMENT.replace(plugins={"acme": "1.0", "unused": "3.0"})
    worker = NATIVE.replace(environments=[offered], takes_all=takes_all)
    appear(session, "w", worker)
    assert (waiting_for(session, [posted.id]) == {}) is takes
    assert (claim(session, "w", worker) is not None) is takes


@pytest.mark.parametrize(
    ("changes", "takes"),
    [
        ({}, False),
        ({"commit": "b" * 40}, False),
        ({"commit": SHA}, True),
        ({"checks_out": True}, True),
        ({"takes_all": True}, False),
    ],
)
def test_a_shard_that_wants_a_commit_is_for_workers_that_have_it(
    session: Session, settings: Settings, changes: dict[str, object], *, takes: bool
) -> None:
    posted = wanting(session, settings, None, SHA)
    worker = NATIVE.replace(**changes)
    appear(session, "w", worker)
    assert (waiting_for(session, [posted.id]) == {}) is takes
    assert (claim(session, "w", worker) is not None) is takes


def test_what_is_wanted_and_not_offered_is_named(session: Session, settings: Settings) -> None:
    other = ENVIRONMENT.replace(torch="2.12.0")
    posted = wanting(session, settings, other, SHA)
    appear(session, "w", NATIVE.replace(environments=[ENVIRONMENT]))
    said = waiting_for(session, [posted.id])[posted.id]
    key = environment_key(other)[:7]
    assert said.startswith(f"a worker that has environment {key} (torch 2.12.0, AVX2); 1 worker")
    session.execute(update(tables.Worker).values(capabilities=_offering(other)))
    assert "a worker that has commit aaaaaaa;" in waiting_for(session, [posted.id])[posted.id]


def _offering(environment: Environment) -> dict[str, object]:
    return NATIVE.replace(environments=[environment]).model_dump(mode="json")


def test_slots_share_the_memory(session: Session, settings: Settings) -> None:
    post(session, settings, limits={"memory_gib": 5})
    assert claim(session, "two slots", NATIVE.shared(2)) is None
    assert claim(session, "one slot", NATIVE.shared(1)) is not None


def test_where_there_is_no_worker_that_is_what_is_waited_for(session: Session, settings: Settings) -> None:
    posted = post(session, settings)
    assert "none is there" in waiting_for(session, [posted.id])[posted.id]
    appear(session, "leaving", NATIVE, WorkerState.DRAINING)
    assert "none is there" in waiting_for(session, [posted.id])[posted.id]
    appear(session, "staying", NATIVE)
    assert waiting_for(session, [posted.id]) == {}


def test_a_silent_worker_is_not_there(session: Session) -> None:
    appear(session, "silent", NATIVE)
    session.execute(update(tables.Worker).values(seen_at=tables.Worker.seen_at - workers.ALIVE_S - 1))
    assert workers.live(session) == []
    session.execute(update(tables.Worker).values(seen_at=tables.Worker.seen_at - workers.FORGOTTEN_S))
    appear(session, "other", NATIVE)
    session.expire_all()
    assert session.get(tables.Worker, "silent") is None


def test_projects_share_the_workers(session: Session, settings: Settings) -> None:
    threads = {"engine": ["x86"], "threads": [1, 2, 3]}
    crowd = post(session, settings, project="crowd", lanes=threads)
    small = post(session, settings, project="small")
    taken = [claimed(session).job_id for _ in range(4)]
    assert taken == [crowd.id, small.id, crowd.id, crowd.id]


def test_urgency_outweighs_the_share(session: Session, settings: Settings) -> None:
    urgent = post(
        session, settings, project="crowd", lanes={"engine": ["x86"], "threads": [1, 2]}, priority=90
    )
    post(session, settings, project="small")
    assert [claimed(session).job_id for _ in range(2)] == [urgent.id, urgent.id]


def test_the_only_worker_takes_what_it_has_no_lane_for(session: Session, settings: Settings) -> None:
    post(session, settings, lanes={"engine": ["fbgemm"], "isa": ["sse41"], "threads": [64]}, torch="1.0")
    held = claimed(session, takes=TAKES_ALL)
    assert held.torch == "==1.0"


def test_the_migration_has_the_schema_that_procrastinate_brings() -> None:
    ours = schema.migrations() / "sql" / "procrastinate-3.10.0.sql"
    assert ours.read_text() == (files("procrastinate.sql") / "schema.sql").read_text()


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_rollback_leaves_no_message(engine: Engine, settings: Settings) -> None:
    from noisefloor.dispatch.procrastinate import ProcrastinateDispatch

    def submitted(session: Session) -> None:
        threads = {"engine": ["x86"], "threads": [1, 2]}
        submit(
            session,
            project="demo",
            spec=spec(lanes=threads),
            settings=settings,
            dispatch=ProcrastinateDispatch(),
        )

    count = "SELECT count(*), min(queue_name), min(priority) FROM procrastinate_jobs"
    with pytest.raises(RuntimeError), writing(engine, "test") as session:
        submitted(session)
        raise RuntimeError
    with reading(engine) as session:
        assert tuple(session.connection().exec_driver_sql(count).one()) == (0, None, None)
        assert jobs.projects(session) == []
    with writing(engine, "test") as session:
        submitted(session)
    with reading(engine) as session:
        assert tuple(session.connection().exec_driver_sql(count).one()) == (2, "cpu", 50)
