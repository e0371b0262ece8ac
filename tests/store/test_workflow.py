"""The verbs on a real store, on both databases."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from tests.measuring import TAKES_ALL, claimed, finish, measure
from tests.samples import imported, job, result, small_data, spec

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus, JobSpec, JobStatus
from noisefloor.contract.layers import Layer, LayerReport, LayerView, Sensitivity
from noisefloor.contract.verdict import Finding, Verdict
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import (
    ConflictError,
    IdempotencyConflictError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    StaleTokenError,
    TooManyCellsError,
)
from noisefloor.settings import Settings
from noisefloor.store import cells, jobs, shards, tables
from noisefloor.store.session import reading, writing
from noisefloor.workflow.cancel import cancel, retry
from noisefloor.workflow.execute import Claim, claim, give_back, heartbeat, sweep
from noisefloor.workflow.record import end_shard, record
from noisefloor.workflow.submit import submit
from noisefloor.workflow.views import layer_view

ENGINES = ["qnnpack", "onednn", "x86", "fbgemm"]
DB = Figure.finite(40.0)
SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true"}


@pytest.fixture
def dispatch() -> LocalDispatch:
    return LocalDispatch()


def post(session: Session, settings: Settings, job_spec: JobSpec, key: str | None = None) -> tables.Job:
    return submit(
        session,
        project="demo",
        spec=job_spec,
        settings=settings,
        dispatch=LocalDispatch(),
        idempotency_key=key,
    )


def count(session: Session, table: type[tables.Base]) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def expire(session: Session) -> None:
    """Let every lease run out, as if its worker had died."""
    session.execute(update(tables.Shard).values(lease_until=0))


def test_a_job_is_stored_with_its_cells_and_shards(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        posted = post(session, settings, spec(lanes={"engine": ENGINES, "threads": [1, 2]}))
    with reading(engine) as session:
        assert count(session, tables.Cell) == 8
        assert count(session, tables.Shard) == 2
        found = jobs.find(session, "demo", posted.id)
        assert found is not None
        assert (found.status, found.verdict) == (JobStatus.QUEUED, Verdict.PENDING)


def test_the_same_key_and_body_give_the_first_job(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        first = post(session, settings, spec(), "key")
    with writing(engine, "test") as session:
        assert post(session, settings, spec(), "key").id == first.id
        assert count(session, tables.Job) == 1


def test_the_same_key_with_another_body_is_refused(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        post(session, settings, spec(), "key")
    with pytest.raises(IdempotencyConflictError), writing(engine, "test") as session:
        post(session, settings, spec(name="other"), "key")


@pytest.mark.parametrize(
    ("document", "error", "field"),
    [
        (job(schemes=[]), InvalidRequestError, "schemes"),
        (job(project="other"), InvalidRequestError, "project"),
        (
            job(
                lanes={"engine": ["x86"], "threads": list(range(1, 1025)), "isa": ["native", "avx2"]},
                schemes=[
                    {**SCHEME, "granularity": g, "reduce_range": r}
                    for g in ("per_tensor", "per_channel")
                    for r in (True, False)
                ],
                subjects=[
                    {"zoo": "multiple-ops", "seeds": {"model": n}, "data": small_data()} for n in range(123)
                ],
            ),
            TooManyCellsError,
            "lanes",
        ),
        (imported("../etc:passwd".replace("../", "")), NotAllowedError, "subjects.0.import"),
        (
            job(
                subjects=[
                    {
                        "zoo": "multiple-ops",
                        "data": {**small_data(), "calibration": {"shape": [10**6, 3, 512, 512]}},
                    }
                ]
            ),
            InvalidRequestError,
            "subjects.0.data.calibration.shape",
        ),
    ],
    ids=["no cells", "another project", "a million cells", "import not allowed", "data larger than memory"],
)
def test_a_job_that_cannot_be_is_refused_by_field(
    engine: Engine, settings: Settings, document: dict[str, object], error: type[Exception], field: str
) -> None:
    strict = settings.model_copy(update={"import_allow": ("other_package",)})
    with pytest.raises(error) as caught, writing(engine, "test") as session:
        post(session, strict, JobSpec.model_validate(document))
    assert [e.field for e in caught.value.errors] == [field]  # type: ignore[attr-defined]
    with reading(engine) as session:
        assert count(session, tables.Job) == 0


def test_the_last_cell_settles_the_job(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        posted = post(session, settings, spec(lanes={"engine": ["x86", "onednn"]}))
        held = claimed(session)
        record(session, shard_id=held.shard_id, attempt=held.attempt, result=result(held.cells[0].cell))
        assert posted.status == JobStatus.RUNNING
        record(session, shard_id=held.shard_id, attempt=held.attempt, result=result(held.cells[1].cell, 29.0))
        assert (posted.status, posted.verdict) == (JobStatus.DONE, Verdict.REGRESSED)
        assert claim(session, "w", TAKES_ALL) is None


def test_a_result_is_recorded_once(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        post(session, settings, spec(lanes={"engine": ["x86", "onednn"]}))
        held = claimed(session)
        for figure in (41.0, 12.0):
            record(
                session,
                shard_id=held.shard_id,
                attempt=held.attempt,
                result=result(held.cells[0].cell, figure),
            )
        assert session.scalars(select(tables.Measurement.value)).all() == [41.0]


def test_the_constraint_stands_behind_the_fence(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        measure(session, settings, LocalDispatch(), spec())
    with pytest.raises(IntegrityError), writing(engine, "test") as session:
        row = session.scalars(select(tables.Measurement)).one()
        columns = {c.key: getattr(row, c.key) for c in tables.Measurement.__table__.columns}
        session.add(tables.Measurement(**{**columns, "id": "another"}))
        session.flush()


def test_a_worker_whose_lease_was_taken_over_writes_nothing(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        post(session, settings, spec())
        late = claimed(session, "late")
        expire(session)
        quick = claimed(session, "quick")
        assert quick.attempt == late.attempt + 1
        assert heartbeat(session, late, "still here") is None
    with pytest.raises(StaleTokenError), writing(engine, "test") as session:
        finish(session, late)
    with pytest.raises(StaleTokenError), writing(engine, "test") as session:
        end_shard(session, shard_id=late.shard_id, attempt=late.attempt, status=CellStatus.CRASHED, reason="")
    with writing(engine, "test") as session:
        give_back(session, late, LocalDispatch())
        finish(session, quick)
        assert session.scalars(select(tables.Cell.attempt)).all() == [quick.attempt]


def test_a_cell_of_another_shard_is_refused(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        post(session, settings, spec(lanes={"engine": ["x86"], "threads": [1, 2]}))
        one, other = claimed(session), claimed(session)
        with pytest.raises(NotFoundError):
            record(session, shard_id=one.shard_id, attempt=one.attempt, result=result(other.cells[0].cell))


def test_only_what_has_not_ended_is_given_to_the_next_worker(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        post(session, settings, spec(lanes={"engine": ENGINES}))
        first = claimed(session)
        record(session, shard_id=first.shard_id, attempt=first.attempt, result=result(first.cells[0].cell))
        expire(session)
        assert claimed(session).cells == first.cells[1:]


def test_a_shard_that_loses_every_worker_ends_as_crashed(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        posted = post(session, settings, spec())
        for _ in range(shards.MAX_TRIES):
            sweep(session)
            claimed(session)
            expire(session)
        assert claim(session, "w", TAKES_ALL) is None
        sweep(session)
        assert (posted.status, posted.verdict) == (JobStatus.DONE, Verdict.ERROR)
        assert session.scalars(select(tables.Cell.status)).all() == [CellStatus.CRASHED]


def lose(session: Session, times: int) -> None:
    """Let so many workers die with the next shard in hand."""
    for _ in range(times):
        sweep(session)
        claimed(session)
        expire(session)


def test_a_cell_that_kills_workers_costs_none_of_the_others(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        posted = post(session, settings, spec(lanes={"engine": ENGINES}))
        first = claimed(session)
        record(session, shard_id=first.shard_id, attempt=first.attempt, result=result(first.cells[0].cell))
        expire(session)
        lose(session, shards.MAX_TRIES - 1)
        sweep(session)
        rest = claimed(session)
        assert rest.cells == first.cells[2:]
        finish(session, rest)
        found = {cell.status: cell.reason for cell in cells.page(session, posted.id)}
        assert found.keys() == {CellStatus.DONE, CellStatus.CRASHED}
        assert str(found[CellStatus.CRASHED]).startswith("the worker was lost 3 times in a row")
        assert (posted.status, posted.verdict) == (JobStatus.DONE, Verdict.ERROR)


def test_the_cell_at_which_a_worker_was_lost_is_one_that_it_could_run(
    engine: Engine, settings: Settings
) -> None:
    last = TAKES_ALL.replace(engines=("fbgemm",), devices=("cpu",), takes_all=False)
    with writing(engine, "test") as session:
        post(session, settings, spec(lanes={"engine": ENGINES}))
        for _ in range(shards.MAX_TRIES):
            claimed(session, takes=last)
            expire(session)
        sweep(session)
        ended = select(tables.Cell.engine).where(tables.Cell.status == CellStatus.CRASHED)
        assert session.scalars(ended).all() == ["fbgemm"]


def test_a_subject_that_kills_every_worker_ends_within_a_try_for_each_cell(
    engine: Engine, settings: Settings
) -> None:
    with writing(engine, "test") as session:
        posted = post(session, settings, spec(lanes={"engine": ENGINES}))
        lose(session, shards.MAX_TRIES + len(ENGINES) - 1)
        sweep(session)
        assert claim(session, "w", TAKES_ALL) is None
        assert (posted.status, posted.verdict) == (JobStatus.DONE, Verdict.ERROR)


def test_a_shard_that_gets_on_is_not_ended_for_the_workers_it_lost(
    engine: Engine, settings: Settings
) -> None:
    with writing(engine, "test") as session:
        posted = post(session, settings, spec(lanes={"engine": ENGINES}))
        for _ in ENGINES:
            lose(session, shards.MAX_TRIES - 2)  # and the one that recorded is lost as well
            sweep(session)
            held = claimed(session)
            record(session, shard_id=held.shard_id, attempt=held.attempt, result=result(held.cells[0].cell))
            expire(session)
        assert (posted.status, posted.verdict) == (JobStatus.DONE, Verdict.PASS)


def test_a_shard_given_back_does_not_count_as_lost(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        post(session, settings, spec())
        attempts = []
        for _ in range(shards.MAX_TRIES + 2):
            held = claimed(session)
            attempts.append(held.attempt)
            give_back(session, held, LocalDispatch())
        assert attempts == [1, 2, 3, 4, 5]


def test_urgent_jobs_go_first_and_equal_ones_in_turn(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        ordered = [post(session, settings, spec(priority=p)).id for p in (10, 90, 50, 90)]
        taken = [claimed(session).job_id for _ in ordered]
        assert taken == [ordered[1], ordered[3], ordered[2], ordered[0]]


def test_a_queued_job_is_cancelled_at_once(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        posted = cancel(session, post(session, settings, spec()))
        assert (posted.status, posted.verdict) == (JobStatus.CANCELLED, Verdict.ERROR)
        assert claim(session, "w", TAKES_ALL) is None


def test_a_running_job_hears_of_the_cancel_by_its_heartbeat(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        posted = post(session, settings, spec())
        held = claimed(session)
        assert heartbeat(session, held, "calibrating") is False
        cancel(session, posted)
        assert posted.status == JobStatus.RUNNING
        assert heartbeat(session, held, "calibrating") is True
        end_shard(
            session,
            shard_id=held.shard_id,
            attempt=held.attempt,
            status=CellStatus.CANCELLED,
            reason="cancelled",
        )
        assert posted.status == JobStatus.CANCELLED


def test_a_settled_job_stays_what_it_is_when_cancelled(
    engine: Engine, settings: Settings, dispatch: LocalDispatch
) -> None:
    with writing(engine, "test") as session:
        done = measure(session, settings, dispatch, spec())
        assert cancel(session, done).status == JobStatus.DONE


def test_retry_measures_again_only_what_failed(
    engine: Engine, settings: Settings, dispatch: LocalDispatch
) -> None:
    with writing(engine, "test") as session:
        posted = post(session, settings, spec(lanes={"engine": ["x86", "onednn"]}))
        held = claimed(session)
        good, bad = (cell.cell for cell in held.cells)
        failed = result(bad, status=CellStatus.FAILED, reason="why", traceback="where", measurements=())
        for answer in (result(good), failed):
            record(session, shard_id=held.shard_id, attempt=held.attempt, result=answer)
        assert posted.verdict == Verdict.ERROR
        retry(session, posted, settings, dispatch)
        again = claimed(session)
        assert [cell.cell for cell in again.cells] == [bad]
        finish(session, again)
        assert (posted.status, posted.verdict) == (JobStatus.DONE, Verdict.PASS)
        assert [c.reason for c in cells.page(session, posted.id)] == [None, None]


def test_retry_of_a_running_job_or_of_one_without_failures_is_a_conflict(
    engine: Engine, settings: Settings, dispatch: LocalDispatch
) -> None:
    with writing(engine, "test") as session:
        posted = post(session, settings, spec())
        with pytest.raises(ConflictError, match="queued"):
            retry(session, posted, settings, dispatch)
        finish(session, claimed(session))
        with pytest.raises(ConflictError, match="no cell that failed"):
            retry(session, posted, settings, dispatch)


class Branch:
    """Commits on a branch, measured one after another under a largest drop of 0.5 dB."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session, self._settings = session, settings
        self._commits = 0

    def measure(self, figure: float | None, branch: str | None = "main", sha: str | None = None) -> Finding:
        self._commits += 1
        committed_at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self._commits)
        git = {"branch": branch, "sha": sha or f"{self._commits:040x}", "committed_at": committed_at}
        job_spec = spec(git=git, schemes=[SCHEME], policy={"rules": {"max_drop_db": 0.5}})
        done = measure(
            self._session, self._settings, LocalDispatch(), job_spec, lambda cell: result(cell, figure)
        )
        row = self._session.scalars(select(tables.Finding).where(tables.Finding.job_id == done.id)).one()
        return Finding.model_validate(row.document)


@pytest.fixture
def on_branch(engine: Engine, settings: Settings) -> Branch:
    with writing(engine, "test") as session:
        yield Branch(session, settings)  # type: ignore[misc]  # a generator as fixtures are


def test_the_first_result_has_no_baseline_and_becomes_one(on_branch: Branch) -> None:
    assert on_branch.measure(40.0).verdict is Verdict.NO_BASELINE
    second = on_branch.measure(39.8)
    assert second.verdict is Verdict.PASS
    assert second.baseline is not None
    assert second.baseline.figure.value == 40.0
    assert second.drop_db == pytest.approx(0.2)


def test_a_regression_is_no_baseline_for_its_repetition(on_branch: Branch) -> None:
    on_branch.measure(40.0)
    assert on_branch.measure(38.0).verdict is Verdict.REGRESSED
    assert on_branch.measure(38.0).verdict is Verdict.REGRESSED
    assert on_branch.measure(40.1).verdict is Verdict.PASS


def test_a_commit_is_not_its_own_baseline(on_branch: Branch) -> None:
    on_branch.measure(40.0)
    on_branch.measure(39.7, sha="a" * 40)
    again = on_branch.measure(39.4, sha="a" * 40)
    assert again.baseline is not None
    assert again.baseline.figure.value == 40.0
    assert again.verdict is Verdict.REGRESSED


def test_another_branch_is_no_baseline(on_branch: Branch) -> None:
    on_branch.measure(40.0)
    assert on_branch.measure(40.0, branch="topic").verdict is Verdict.NO_BASELINE


def test_exact_figures_take_part(on_branch: Branch) -> None:
    on_branch.measure(None)
    assert on_branch.measure(None).verdict is Verdict.PASS
    assert on_branch.measure(150.0).verdict is Verdict.REGRESSED


def test_shards_that_end_at_the_same_moment_settle_their_job_once(engine: Engine, settings: Settings) -> None:
    for _ in range(10):
        with writing(engine, "test") as session:
            posted = post(session, settings, spec(lanes={"engine": ["x86"], "threads": [1, 2, 3, 4]}))
            held = [claimed(session) for _ in range(4)]
        barrier = threading.Barrier(len(held))

        def end(shard: Claim, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            with writing(engine, "test") as session:
                finish(session, shard)

        threads = [threading.Thread(target=end, args=(shard,)) for shard in held]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with reading(engine) as session:
            found = jobs.find(session, "demo", posted.id)
            assert found is not None
            assert (found.status, found.verdict) == (JobStatus.DONE, Verdict.PASS)
            findings = select(func.count()).select_from(tables.Finding)
            assert session.scalar(findings.where(tables.Finding.job_id == posted.id)) == 4


def test_layers_are_kept_beside_the_cell(engine: Engine, settings: Settings, dispatch: LocalDispatch) -> None:
    layer = Layer(name="fc", kind="Linear", cumulative=DB, local=DB, share=1.0)
    report = LayerReport(edge="float32->true", layers=(layer,), matched_share=1.0)
    sensitivity = Sensitivity(edge="float32->true", target_db=50.0)
    with writing(engine, "test") as session:
        job_id = measure(
            session,
            settings,
            dispatch,
            spec(),
            lambda cell: result(cell, layers=(report,), sensitivity=sensitivity),
        ).id
    with reading(engine) as session:
        (cell,) = cells.page(session, job_id)
        found = layer_view(session, cell)
        assert (found.cell, found.reports, found.sensitivity) == (cell.id, (report,), sensitivity)


def test_cell_without_layers_has_none(engine: Engine, settings: Settings, dispatch: LocalDispatch) -> None:
    with writing(engine, "test") as session:
        job_id = measure(session, settings, dispatch, spec()).id
        (cell,) = cells.page(session, job_id)
        assert layer_view(session, cell) == LayerView(cell=cell.id)
        assert session.scalar(select(func.count()).select_from(tables.Analysis)) == 0


def test_worker_is_told_how_closely_to_look(
    engine: Engine, settings: Settings, dispatch: LocalDispatch
) -> None:
    asked = Analysis(layers=False, repeats=3, threads=(2,), target_db=40.0)
    with writing(engine, "test") as session:
        submit(session, project="demo", spec=spec(analysis=asked), settings=settings, dispatch=dispatch)
        assert claimed(session).analysis == asked
        # a job that was posted before there was a choice
        session.execute(update(tables.Job).values(spec={"limits": {}}))
        session.expire_all()
        (job_row,) = session.scalars(select(tables.Job))
        assert jobs.conditions(session, job_row.id).analysis == Analysis()
