"""Bisections on the real store: the test measures the steps."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from tests.measuring import TAKES_ALL, claimed, finish, measure
from tests.samples import ENVIRONMENT, job, result, spec

from noisefloor.contract.bisection import BisectionSpec, BisectionView
from noisefloor.contract.delivery import Webhook
from noisefloor.contract.figure import Figure
from noisefloor.contract.gate import BaselineRequest
from noisefloor.contract.job import CellStatus, JobStatus
from noisefloor.contract.layers import Layer, LayerReport
from noisefloor.contract.measurement import CellResult, Environment
from noisefloor.contract.project import Retention
from noisefloor.contract.worker import Capabilities, WorkerState
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import ConflictError
from noisefloor.settings import Settings
from noisefloor.store import bisections, jobs, projects, series, trends, workers
from noisefloor.store.session import reading, writing
from noisefloor.store.tables import Bisection, Delivery, Job, Series, Shard
from noisefloor.workflow.accept import mark
from noisefloor.workflow.bisections import end, start, view
from noisefloor.workflow.cancel import cancel, retry
from noisefloor.workflow.execute import Claim, claim
from noisefloor.workflow.keeper import Keeper
from noisefloor.workflow.webhooks import put_webhook

SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true"}
PLUGIN = {**SCHEME, "flow": "acme.lowbit"}
IMPORTED = {"import": "subjects_under_test.odd:build", "data": job()["subjects"][0]["data"]}
LAYERS = ("conv", "norm", "fc1", "fc2", "fc3")
COMMITS = [f"{number:040x}" for number in range(1, 9)]
MEASURED_ELSEWHERE = (
    "the workers measure 45.000 dB here, and the job had 25.000 dB: "
    "their files or environment are not the job's"
)
Answer = Callable[[Claim, str], CellResult]


class Bisecting:
    """A bisection, and the worker that measures its steps."""

    def __init__(self, engine: Engine, settings: Settings, **asked: Any) -> None:
        self.engine = engine
        with writing(engine, "test") as session:
            self.id = start(
                session,
                project="demo",
                asked=BisectionSpec.model_validate(asked),
                settings=settings,
                dispatch=LocalDispatch(),
            ).id

    @property
    def seen(self) -> BisectionView:
        with reading(self.engine) as session:
            found = bisections.find(session, "demo", self.id)
            assert found is not None
            return view(session, found)

    def run(self, answer: Answer, takes: Capabilities = TAKES_ALL) -> BisectionView:
        """Measure steps until none is queued."""
        while self.step(answer, takes):
            pass
        return self.seen

    def step(self, answer: Answer, takes: Capabilities = TAKES_ALL) -> bool:
        with writing(self.engine, "test") as session:
            held = claim(session, "w", takes)
            if held is not None:
                finish(session, held, lambda cell: answer(held, cell))
            return held is not None


def cells_of(session: Session) -> list[int]:
    """How many cells each step had, in order."""
    steps = session.scalars(select(Job).where(Job.bisection_id.is_not(None)).order_by(Job.id)).all()
    counts = jobs.cell_counts(session, [step.id for step in steps])
    return [sum(counts[step.id].values()) for step in steps]


def by_layers(first_bad: str) -> Answer:
    """A model whose figure is lost as soon as one layer is quantized."""

    def answer(held: Claim, cell: str) -> CellResult:
        (task,) = (task for task in held.cells if task.cell == cell)
        figure = 45.0 if first_bad in task.scheme.float_layers else 20.0
        reports = [Layer(name=name, kind="Linear", cumulative=DB, local=DB, share=0.2) for name in LAYERS]
        layers = (LayerReport(edge="float32->true", layers=tuple(reports)),) if held.analysis.layers else ()
        return result(cell, figure, layers=layers)

    return answer


DB = Figure.finite(40.0)


def wanted_commit(session: Session, held: Claim) -> str:
    sha = session.scalar(select(Shard.wants_commit).where(Shard.id == held.shard_id))
    assert sha is not None
    return sha


@pytest.mark.parametrize("first_bad", ["conv", "fc3"])
def test_the_layer_is_found_in_few_steps_of_one_cell(
    engine: Engine, settings: Settings, first_bad: str
) -> None:
    bisecting = Bisecting(
        engine,
        settings,
        over="layers",
        below_db=30,
        job=job(schemes=[SCHEME], lanes={"engine": ["x86", "onednn"]}),
    )
    assert bisecting.seen.message == "measuring all layers"
    seen = bisecting.run(by_layers(first_bad))
    assert (seen.status.value, seen.message) == ("done", f"first bad: {first_bad}")
    assert seen.found is not None
    assert seen.found.first_bad is not None
    assert seen.found.first_bad.name == first_bad
    assert [step.bad for step in seen.steps] == sorted(bool(step.bad) for step in seen.steps)
    assert all(step.job for step in seen.steps if step.name)
    with reading(engine) as session:
        of_steps = cells_of(session)
    assert of_steps[0] == 2  # both engines, until it is known which of them loses more
    assert set(of_steps[1:]) <= {1}
    assert len(of_steps) <= 4


def announce(session: Session, name: str = "w", **changes: Any) -> Capabilities:
    takes = Capabilities.model_validate(
        {
            "engines": ("x86", "onednn"),
            "isas": ("native", "avx512_core", "avx2", "sse41"),
            "threads": 2,
            "memory_gib": 8,
            "machine": "x86_64",
            "torch": "2.13.0",
            **changes,
        }
    )
    workers.announce(
        session,
        name=name,
        capabilities=takes,
        slots=1,
        state=WorkerState.ACTIVE,
        started_at=datetime.now(UTC),
    )
    return takes


def test_over_isa_the_caps_are_those_of_the_workers(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        announce(session)
        announce(session, "arm", isas=("native",), machine="aarch64")
    seen = Bisecting(engine, settings, over="isa", job=job()).run(
        lambda held, cell: result(cell, 20.0 if held.isa in {"avx2", "sse41"} else 40.0)
    )
    assert seen.message == "first bad: avx2"
    assert [step.name for step in seen.steps] == ["native", "avx512_core", "avx2", "sse41"]


def test_over_isa_a_cap_that_is_not_supported_is_no_end(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        announce(session)
    reason = "engine x86 rests on FBGEMM, which has no code below AVX2"

    def answer(held: Claim, cell: str) -> CellResult:
        if held.isa == "sse41":
            return CellResult(cell=cell, status=CellStatus.UNSUPPORTED, reason=reason)
        return result(cell, 40.0 if held.isa == "native" else 20.0)

    asked = job(lanes={"engine": ["x86", "onednn"]})
    seen = Bisecting(engine, settings, over="isa", job=asked).run(answer)
    assert seen.message == "first bad: avx512_core"
    assert [(step.name, step.bad, step.note) for step in seen.steps[2:]] == [
        ("avx2", True, None),
        ("sse41", None, f"unsupported: {reason}"),
    ]
    with reading(engine) as session:
        assert cells_of(session) == [2, 2, 2, 1]  # the ends, and then what lost most between them


def test_over_isa_without_a_cap_to_try_is_a_conflict(engine: Engine, settings: Settings) -> None:
    with pytest.raises(ConflictError, match="offer no lane of the job"):
        Bisecting(engine, settings, over="isa", job=job())
    with writing(engine, "test") as session:
        announce(session, isas=("native",))
    with pytest.raises(ConflictError, match="only the cap native"):
        Bisecting(engine, settings, over="isa", job=job())


@pytest.mark.parametrize(
    "changed", [{"subjects": [IMPORTED]}, {"schemes": [PLUGIN]}], ids=["model", "plugin"]
)
def test_over_commits_each_step_wants_its_commit(
    engine: Engine, settings: Settings, changed: dict[str, object]
) -> None:
    with writing(engine, "test") as session:
        takes = announce(session, checks_out=True)
    bisecting = Bisecting(engine, settings, over="commits", commits=COMMITS, job=job(**changed))

    def answer(held: Claim, cell: str) -> CellResult:
        with reading(engine) as session:
            sha = wanted_commit(session, held)
        if sha == COMMITS[3]:
            return CellResult(cell=cell, status=CellStatus.FAILED, reason="does not build")
        return result(cell, 20.0 if sha >= COMMITS[5] else 40.0)

    seen = bisecting.run(answer, takes)
    assert seen.message == f"first bad: {COMMITS[5]}"
    notes = {step.name: step.note for step in seen.steps if step.note}
    assert notes == {COMMITS[3]: "failed: does not build"}


def test_commits_that_no_worker_has_are_passed_over(engine: Engine, settings: Settings) -> None:
    there = (COMMITS[0], COMMITS[2], COMMITS[7])
    offering = {}
    with writing(engine, "test") as session:
        for sha in there:
            offering[sha] = announce(session, sha, commit=sha)
    bisecting = Bisecting(engine, settings, over="commits", commits=COMMITS, job=job(subjects=[IMPORTED]))
    for sha in (COMMITS[7], COMMITS[0], COMMITS[2]):
        figure = 20.0 if sha == COMMITS[7] else 40.0
        assert bisecting.step(lambda _held, cell, figure=figure: result(cell, figure), offering[sha])
    seen = bisecting.seen
    assert seen.status.value == "done"
    assert seen.found is not None
    assert seen.found.candidates == tuple(COMMITS[3:])
    command = f"noisefloor bisect job.yaml --good {COMMITS[0]} -- git checkout -q {{sha}}"
    said = f"start `noisefloor worker --checkout …`, or run `{command}` in a checkout"
    assert {step.note for step in seen.steps} == {None, f"no worker that is there has this commit: {said}"}


def test_without_a_worker_that_checks_out_the_bisection_says_what_to_do(
    engine: Engine, settings: Settings
) -> None:
    with writing(engine, "test") as session:
        announce(session)
    seen = Bisecting(engine, settings, over="commits", commits=COMMITS, job=job(subjects=[IMPORTED])).seen
    assert seen.status.value == "failed"
    assert "no worker that is there has this commit: start `noisefloor worker --checkout …`" in seen.message


def two_environments(session: Session) -> tuple[Capabilities, Capabilities]:
    newer, older = ENVIRONMENT.replace(isa="AVX512"), ENVIRONMENT
    return (
        announce(session, "newer", environments=(newer,)),
        announce(session, "older", environments=(older,)),
    )


def test_environments_are_all_measured_and_told_apart(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        newer, older = two_environments(session)
    bisecting = Bisecting(engine, settings, over="environments", job=job())
    assert len(bisecting.seen.steps) == 2
    for takes in (older, newer):
        (environment,) = takes.environments
        assert bisecting.step(answered(environment), takes)
        assert not bisecting.step(answered(environment), takes)
    seen = bisecting.seen
    assert seen.message == "bad where isa = AVX2"
    assert [(step.title, step.bad) for step in seen.steps] == [("isa AVX2", True), ("isa AVX512", False)]


def answered(environment: Environment) -> Answer:
    figure = 20.0 if environment.isa == "AVX2" else 40.0
    return lambda _held, cell: result(cell, figure, environment=environment)


def test_one_environment_is_nothing_to_compare(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        announce(session, environments=(ENVIRONMENT,))
        announce(session, "twin", environments=(ENVIRONMENT,))
    with pytest.raises(ConflictError, match="offer one environment"):
        Bisecting(engine, settings, over="environments", job=job())


def lost(engine: Engine, settings: Settings, **changes: Any) -> Job:
    """A job of two cells, of which one lost 15 dB."""
    figures = {"x86": 40.0, "onednn": 40.0}

    def answer(cell: str) -> CellResult:
        return result(cell, figures[engines.pop(0)])

    policy = {"rules": {"max_drop_db": 0.5}}
    for figures["onednn"], sha in ((40.0, COMMITS[0]), (25.0, COMMITS[7])):
        engines = ["x86", "onednn"]
        git = {"branch": "main", "sha": sha, "ancestors": COMMITS[6::-1] if sha == COMMITS[7] else []}
        lanes = {"engine": ["x86", "onednn"]}
        posted = spec(**{"name": "nightly", "lanes": lanes, "policy": policy, "git": git, **changes})
        with writing(engine, "test") as session:
            measured = measure(session, settings, LocalDispatch(), posted, answer)
    return measured


def test_of_a_job_its_worst_loss_is_looked_for(engine: Engine, settings: Settings) -> None:
    of = lost(engine, settings, schemes=[SCHEME])
    bisecting = Bisecting(engine, settings, over="layers", of=of.id)
    seen = bisecting.run(by_layers("fc1"))
    assert seen.message == "first bad: fc1"
    assert seen.found is not None
    assert "onednn" in seen.found.series
    with reading(engine) as session:
        assert set(cells_of(session)) == {1}
        names = set(session.scalars(select(Job.name).where(Job.bisection_id.is_not(None))))
    assert names == {f"bisection of nightly: {step}" for step in ("all layers", "norm", "fc1")}


@pytest.mark.parametrize(
    ("below_db", "said"),
    [
        (None, f"with all layers quantized {MEASURED_ELSEWHERE}"),
        (24.0, "with all layers quantized the figure is not bad: 45.000 dB"),
    ],
)
def test_workers_whose_files_are_not_the_jobs_are_told_from_a_loss(
    engine: Engine, settings: Settings, below_db: float | None, said: str
) -> None:
    of = lost(engine, settings, schemes=[SCHEME])
    bisecting = Bisecting(engine, settings, over="layers", of=of.id, below_db=below_db)

    def answer(held: Claim, cell: str) -> CellResult:
        return by_layers("conv")(held, cell).replace(measurements=result(cell, 45.0).measurements)

    seen = bisecting.run(answer)
    assert (seen.status.value, seen.message) == ("failed", said)


def test_of_a_job_its_ancestors_since_the_baseline_are_the_commits(
    engine: Engine, settings: Settings
) -> None:
    of = lost(engine, settings, subjects=[IMPORTED])
    with writing(engine, "test") as session:
        takes = announce(session, checks_out=True)
    bisecting = Bisecting(engine, settings, over="commits", of=of.id)

    def answer(held: Claim, cell: str) -> CellResult:
        with reading(engine) as session:
            return result(cell, 25.0 if wanted_commit(session, held) >= COMMITS[4] else 40.0)

    assert bisecting.run(answer, takes).message == f"first bad: {COMMITS[4]}"


def test_a_step_that_is_settled_twice_enters_one_next_step(engine: Engine, settings: Settings) -> None:
    """The process dies before the settling commits: its lease runs out, and the step is measured again."""
    bisecting = Bisecting(engine, settings, over="layers", below_db=30, job=job(schemes=[SCHEME]))
    answer = by_layers("fc1")
    with writing(engine, "test") as session:
        held = claimed(session)
    with pytest.raises(ZeroDivisionError), writing(engine, "test") as session:
        finish(session, held, lambda cell: answer(held, cell))
        session.flush()
        assert len(session.scalars(select(Job)).all()) == 2
        raise ZeroDivisionError  # nothing of this transaction is left
    assert len(bisecting.seen.steps) == 1
    with writing(engine, "test") as session:
        finish(session, held, lambda cell: answer(held, cell))
        # and a result that is recorded once more changes nothing
        with pytest.raises(Exception, match="does not hold"):
            finish(session, held, lambda cell: answer(held, cell))
    with reading(engine) as session:
        assert len(session.scalars(select(Job)).all()) == 2
    assert bisecting.run(answer).message == "first bad: fc1"


def test_a_cancelled_bisection_enters_no_step_any_more(engine: Engine, settings: Settings) -> None:
    bisecting = Bisecting(engine, settings, over="layers", below_db=30, job=job(schemes=[SCHEME]))
    with writing(engine, "test") as session:
        held = claimed(session)
    with writing(engine, "test") as session:
        row = bisections.find(session, "demo", bisecting.id)
        assert row is not None
        (open_step,) = end(session, row)
    with writing(engine, "test") as session:
        finish(session, held, lambda cell: by_layers("fc1")(held, cell))
    with writing(engine, "test") as session:
        found = jobs.find(session, "demo", open_step)
        assert found is not None
        assert cancel(session, found).status == JobStatus.DONE
    seen = bisecting.seen
    assert (seen.status.value, seen.message) == ("cancelled", "cancelled")
    assert seen.finished_at is not None
    with reading(engine) as session:
        assert len(session.scalars(select(Job)).all()) == 1


def test_a_step_whose_job_is_cancelled_is_passed_over(engine: Engine, settings: Settings) -> None:
    bisecting = Bisecting(engine, settings, over="layers", below_db=30, job=job(schemes=[SCHEME]))
    answer = by_layers("fc2")
    assert bisecting.step(answer)
    (measuring,) = [step for step in bisecting.seen.steps if step.note]
    with writing(engine, "test") as session:
        row = jobs.find(session, "demo", measuring.job or "")
        assert row is not None
        cancel(session, row)
    seen = bisecting.run(answer)
    assert [(step.name, step.bad) for step in seen.steps if step.note] == [(measuring.name, None)]
    assert seen.message == "first bad: fc2"


def test_an_end_that_cannot_be_measured_ends_the_bisection(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        announce(session)
    seen = Bisecting(engine, settings, over="isa", job=job()).run(
        lambda _held, cell: CellResult(cell=cell, status=CellStatus.UNSUPPORTED, reason="not built")
    )
    assert seen.status.value == "failed"
    assert seen.message == "it takes two caps, and avx512_core, avx2, sse41: unsupported: not built"
    assert len(seen.steps) == 3


def test_a_flow_without_layers_ends_the_bisection(engine: Engine, settings: Settings) -> None:
    seen = Bisecting(engine, settings, over="layers", below_db=30, job=job(schemes=[SCHEME])).run(
        lambda _held, cell: result(cell)
    )
    assert (seen.status.value, seen.message) == (
        "failed",
        "the layers of this flow are not known, so none can be left out",
    )


def isa_steps(engine: Engine, settings: Settings) -> BisectionView:
    with writing(engine, "test") as session:
        announce(session)
    asked = job(policy={"rules": {"max_drop_db": 0.5}})
    return Bisecting(engine, settings, over="isa", job=asked).run(
        lambda held, cell: result(cell, 20.0 if held.isa == "sse41" else 50.0)
    )


def test_steps_are_no_baseline_and_on_no_line(engine: Engine, settings: Settings) -> None:
    assert isa_steps(engine, settings).status.value == "done"
    posted = spec(policy={"rules": {"max_drop_db": 0.5}})
    with writing(engine, "test") as session:
        measured = measure(session, settings, LocalDispatch(), posted, lambda cell: result(cell, 40.0))
        assert measured.verdict == "no_baseline"  # not a drop from 50 dB
    with reading(engine) as session:
        lines = [
            trends.measured(session, key, trends.Window(), limit=10)
            for key in session.scalars(select(Series.key))
        ]
        listed = series.page(session, "demo", filters={}, limit=9, after=None)
    assert [point.job_id for line in lines for point in line] == [measured.id]
    assert len(lines) > len(listed)
    assert [row.isa for row in listed] == ["native"]


def test_a_step_is_neither_retried_nor_pinned(engine: Engine, settings: Settings) -> None:
    step = isa_steps(engine, settings).steps[0]
    assert step.job is not None
    pin = BaselineRequest(kind="pin", job=step.job, reason="release")
    with pytest.raises(ConflictError, match="is a step of bisection"), writing(engine, "test") as session:
        mark(session, "demo", pin)
    with pytest.raises(ConflictError, match="is a step of bisection"), writing(engine, "test") as session:
        row = jobs.find(session, "demo", step.job)
        assert row is not None
        retry(session, row, settings, LocalDispatch())


def test_steps_go_with_the_other_jobs_and_the_answer_stays(engine: Engine, settings: Settings) -> None:
    before = isa_steps(engine, settings)
    with writing(engine, "test") as session:
        projects.write_retention(session, "demo", Retention(jobs_days=1))
    Keeper(engine).sweep(datetime.now(UTC) + timedelta(days=2))
    with reading(engine) as session:
        assert session.scalars(select(Job)).all() == []
        (row,) = session.scalars(select(Bisection))
        assert view(session, row) == before


def test_steps_are_announced_to_nobody(engine: Engine, settings: Settings) -> None:
    hears = settings.model_copy(update={"webhook_allow_private": True})
    webhook = Webhook(url="http://127.0.0.1:9/hook")
    with writing(engine, "test") as session:
        jobs.ensure_project(session, "demo", datetime.now(UTC))
        put_webhook(session, project="demo", name="chat", webhook=webhook, settings=hears)
    assert isa_steps(engine, settings).status.value == "done"
    with reading(engine) as session:
        assert session.scalars(select(Delivery)).all() == []
    with writing(engine, "test") as session:
        measure(session, settings, LocalDispatch(), spec())
        assert len(session.scalars(select(Delivery)).all()) == 1


def test_a_good_end_that_is_bad_already_ends_the_bisection(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        announce(session)
    seen = Bisecting(engine, settings, over="isa", job=job(), below_db=60).run(
        lambda held, cell: result(cell, 20.0 if held.isa == "sse41" else 50.0)
    )
    assert (seen.status.value, seen.message) == ("failed", "native is bad already: 50.000 dB")
