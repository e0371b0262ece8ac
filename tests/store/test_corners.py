"""The corners that a settled job's losses ask for: entered where workers offer them, and what they decide."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from tests.ci.suites import WHSEC, suite, with_secrets
from tests.measuring import TAKES_ALL, claimed, measure
from tests.samples import ENVIRONMENT, imported, result

from noisefloor.contract.attribution import Attribution, Cause
from noisefloor.contract.delivery import Webhook
from noisefloor.contract.files import Files
from noisefloor.contract.gate import BaselineRequest
from noisefloor.contract.job import CellStatus, JobSpec, JobStatus
from noisefloor.contract.measurement import CellResult, Environment
from noisefloor.contract.suite import Suite
from noisefloor.contract.worker import Capabilities, WorkerState
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import ConflictError
from noisefloor.settings import Settings
from noisefloor.store import cells, commits, jobs, records, retention, series, tables, trends, workers
from noisefloor.store.session import writing
from noisefloor.store.trends import Window
from noisefloor.workflow.accept import mark
from noisefloor.workflow.attribute import attributions_of
from noisefloor.workflow.cancel import retry
from noisefloor.workflow.reasons import reasons
from noisefloor.workflow.record import record
from noisefloor.workflow.submit import submit
from noisefloor.workflow.suites import put_suite
from noisefloor.workflow.waiting import waiting_for
from noisefloor.workflow.webhooks import put_webhook

OLD, NEW = ENVIRONMENT, ENVIRONMENT.replace(torch="2.14.0")
HERE = Capabilities(
    engines=("x86",),
    isas=("native",),
    threads=2,
    memory_gib=8,
    machine="x86_64",
    torch="2.14.0",
    environments=[NEW],
    checks_out=True,
)
THERE = HERE.replace(torch="2.13.0", environments=[OLD])
SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true"}
POLICY = {"rules": {"max_drop_db": 0.5}}
START = datetime(2026, 1, 1, tzinfo=UTC)


def sha(commit: int) -> str:
    return f"{commit:040x}"


class Story:
    """A branch whose second commit loses four decibels, in another environment than the first."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self.session, self.settings = session, settings

    def workers(self, **there: Capabilities) -> None:
        for name, takes in there.items():
            workers.announce(
                self.session,
                name=name,
                capabilities=takes,
                slots=1,
                state=WorkerState.ACTIVE,
                started_at=START,
            )

    def spec(self, commit: int, **changes: object) -> JobSpec:
        git = {"branch": "main", "sha": sha(commit), "committed_at": START + timedelta(hours=commit)}
        document = imported("stacks:linear_stack", schemes=[SCHEME], policy=POLICY, git=git)
        return JobSpec.model_validate(document | changes)

    def measure(
        self,
        commit: int,
        environment: Environment,
        figure: float,
        failing: str | None = None,
        **changes: object,
    ) -> tables.Job:
        def answer(cell: str) -> CellResult:
            if self.session.get_one(tables.Cell, cell).engine == failing:
                return result(cell, status=CellStatus.FAILED, measurements=())
            return result(cell, figure, environment=environment, files=Files(commit=sha(commit)))

        spec = self.spec(commit, **changes)
        return measure(self.session, self.settings, LocalDispatch(), spec, answer)

    def lost(self, **changes: object) -> tables.Job:
        self.measure(1, OLD, 40, **changes)
        return self.measure(2, NEW, 36, **changes)

    def entered(self) -> list[tables.Job]:
        query = select(tables.Job).where(tables.Job.explains.is_not(None)).order_by(tables.Job.sha)
        return list(self.session.scalars(query))

    def work(self, takes: Capabilities, figure: float, **changes: object) -> str:
        """A worker measures the next shard that it may: the commit that it was told to have."""
        held = claimed(self.session, takes=takes)
        environment = {"environment": takes.environments[0]} if takes.environments else {}
        files = Files(commit=held.commit)
        for cell in held.cells:
            answer = result(cell.cell, figure, **{"files": files, **environment, **changes})
            record(self.session, shard_id=held.shard_id, attempt=held.attempt, result=answer)
        assert held.commit is not None
        return held.commit

    def split(self, job: tables.Job) -> Attribution:
        (view,) = attributions_of(self.session, job)
        return view.attribution


@pytest.fixture
def story(engine: Engine, settings: Settings) -> Story:
    with writing(engine, "test") as session:
        yield Story(session, settings)  # type: ignore[misc]  # a generator as fixtures are


def test_both_corners_are_entered_measured_and_split_the_loss(story: Story) -> None:
    story.workers(here=HERE, there=THERE)
    lost = story.lost()
    old, new = story.entered()
    assert [(job.sha, job.explains, job.name) for job in (old, new)] == [
        (sha(1), lost.id, f"attribution of {lost.id}"),
        (sha(2), lost.id, f"attribution of {lost.id}"),
    ]
    waiting = story.split(lost)
    assert waiting.cause is Cause.UNKNOWN
    assert f"the baseline's commit in this environment (being measured: job {old.id})" in waiting.message
    assert f"this commit in the baseline's environment (being measured: job {new.id})" in waiting.message

    assert story.work(HERE, 38.5) == sha(1)
    three = story.split(lost)
    assert (three.environment_db, three.code_db) == (1.5, 2.5)
    assert f"(being measured: job {new.id})" in three.message
    assert story.work(THERE, 38) == sha(2)
    found = story.split(lost)
    assert (found.environment_db, found.code_db, found.interaction_db) == (1.5, 2.0, 0.5)
    assert [corner.job_id for corner in (found.square.old_in_new, found.square.new_in_old)] == [
        old.id,
        new.id,
    ]


def test_each_is_entered_once_also_when_the_job_is_retried(story: Story) -> None:
    engines = ("x86", "onednn")
    story.workers(here=HERE.replace(engines=engines), there=THERE.replace(engines=engines))
    lanes = {"engine": list(engines)}
    story.measure(1, OLD, 40, lanes=lanes)
    lost = story.measure(2, NEW, 36, failing="x86", lanes=lanes)
    assert _engines(story) == [("onednn",), ("onednn",)]
    retry(story.session, lost, story.settings, LocalDispatch())
    story.work(TAKES_ALL, 36, environment=NEW)
    assert lost.status == JobStatus.DONE
    assert sorted(_engines(story)) == [("onednn",), ("onednn",), ("x86",), ("x86",)]


def _engines(story: Story) -> list[tuple[str, ...]]:
    return [tuple(job.spec["lanes"]["engine"]) for job in story.entered()]


def test_what_explains_a_loss_asks_for_no_explanation_of_its_own(story: Story) -> None:
    """Without branches the second commit in the new environment is held against the first, and loses too."""
    story.workers(here=HERE)
    for commit, environment, figure in ((1, OLD, 40), (2, OLD, 40), (3, NEW, 36)):
        story.measure(commit, environment, figure, git={"sha": sha(commit)})
    assert story.work(HERE, 38.5) == sha(2)
    (entered,) = story.entered()
    assert entered.verdict == "regressed"


def test_only_what_a_worker_offers_is_entered_and_what_nobody_has_is_named(story: Story) -> None:
    story.workers(here=HERE)
    lost = story.lost()
    (entered,) = story.entered()
    assert entered.sha == sha(1)
    key = story.split(lost).square.new_in_old.environment or ""
    said = f"no worker has environment {key[:7]} (torch 2.13.0, AVX2)"
    said += "; the nearest differs in torch 2.13.0 → 2.14.0"
    assert story.split(lost).square.new_in_old.note == said
    assert said in story.split(lost).message
    story.work(HERE, 38.5)
    assert f"this commit was not run in the old environment ({said})" in story.split(lost).message


@pytest.mark.parametrize(
    ("here", "note"),
    [
        ({}, "no worker is there"),
        ({"here": HERE.replace(checks_out=False)}, "no worker has commit 0000000"),
        ({"here": HERE.replace(checks_out=False, commit=sha(7))}, "no worker has commit 0000000"),
        ({"here": HERE.replace(engines=("onednn",))}, "no worker has engine x86"),
    ],
)
def test_nothing_is_entered_where_nobody_can(story: Story, here: dict[str, Capabilities], note: str) -> None:
    story.workers(**here)
    lost = story.lost()
    assert story.entered() == []
    assert story.split(lost).square.old_in_new.note == note


def test_a_policy_that_decides_on_a_changed_environment_itself_enters_nothing(story: Story) -> None:
    story.workers(here=HERE, there=THERE)
    lost = story.lost(policy=POLICY | {"on": {"environment_changed": "fail"}})
    assert story.entered() == []
    assert story.split(lost).square.old_in_new.note == "a worker could measure it"


def test_what_is_no_loss_asks_for_nothing(story: Story) -> None:
    story.workers(here=HERE, there=THERE)
    story.measure(1, OLD, 40)
    story.measure(2, NEW, 41, policy=POLICY | {"on_improvement": "require_rebaseline"})
    assert story.entered() == []


def test_an_ended_waiver_does_not_keep_the_verdict_from_being_written(story: Story) -> None:
    story.workers(here=HERE, there=THERE)
    until = (datetime.now(UTC) + timedelta(days=1)).date()
    waiver = {"match": {"engine": "onednn"}, "until": str(until), "reason": "a fault"}
    story.measure(1, OLD, 40)
    posted = submit(
        story.session,
        project="demo",
        spec=story.spec(2, policy=POLICY | {"waivers": [waiver]}),
        settings=story.settings,
        dispatch=LocalDispatch(),
    )
    policy = posted.policy or {}
    (waived,) = policy["policy"]["waivers"]
    posted.policy = {**policy, "policy": {**policy["policy"], "waivers": [{**waived, "until": "2026-01-01"}]}}
    story.work(TAKES_ALL, 36, environment=NEW)
    assert posted.status == JobStatus.DONE
    assert len(story.entered()) == 2


def test_a_corner_that_could_not_be_measured_says_why(story: Story) -> None:
    story.workers(here=HERE)
    lost = story.lost()
    (entered,) = story.entered()
    story.work(HERE, 0, status=CellStatus.FAILED, reason="no such commit", measurements=())
    said = f"(job {entered.id} ended it as failed: no such commit)"
    assert said in story.split(lost).message


def test_what_vanished_workers_leave_waits_and_is_named(story: Story) -> None:
    story.workers(here=HERE)
    story.lost()
    (entered,) = story.entered()
    workers.leave(story.session, "here")
    story.workers(other=HERE.replace(environments=[OLD]))
    waiting = waiting_for(story.session, [entered.id])[entered.id]
    assert "a worker that has environment" in waiting
    assert "(torch 2.14.0, AVX2)" in waiting


def test_the_check_hears_of_what_became_known(story: Story) -> None:
    story.workers(here=HERE)
    settings = with_secrets(story.settings)
    put_suite(story.session, project="demo", name="int8", suite=Suite(**suite()), settings=settings)
    story.measure(1, OLD, 40)
    lost = story.measure(2, NEW, 36, suite="int8")
    query = select(tables.Delivery).order_by(tables.Delivery.sequence)
    before = story.session.scalars(query).all()
    assert "being measured" in (reasons(story.session, "demo", lost.id).losses[0].cause or "")
    story.work(HERE, 38.5)
    *same, again = story.session.scalars(query)
    assert same == before
    assert (again.topic, again.announcement["verdict"]) == (before[-1].topic, "regressed")
    assert (reasons(story.session, "demo", lost.id).losses[0].cause or "").startswith("code and environment")


def explained(story: Story) -> tables.Job:
    """A loss of which both corners were measured."""
    story.workers(here=HERE, there=THERE)
    lost = story.lost()
    story.work(HERE, 39.8)
    story.work(THERE, 39.9)
    assert {job.status for job in story.entered()} == {JobStatus.DONE}
    return lost


def test_they_count_at_no_gate_and_in_no_list_of_results(story: Story) -> None:
    lost, session = explained(story), story.session
    for commit in (1, 2):
        for listed in (jobs.at_commit, jobs.settled_at, partial(commits.jobs_at, limit=9)):
            assert [job.explains for job in listed(session, "demo", sha(commit))] == [None]
        found = commits.figures(session, "demo", sha(commit), filters={}, limit=9)
        assert [one.value for one in found.values()] == [{1: 40, 2: 36}[commit]]
    assert [job.explains for job in jobs.settled_page(session, "demo", since=None)] == [None, None]
    (view,) = attributions_of(session, lost)
    line = trends.measured(session, view.series, Window(), limit=9)
    assert [point.value for point in line] == [40, 36]
    assert len(series.points(session, view.series, limit=9)) == 2
    whole = records.page(session, "demo", filters={}, window=Window(), after=("", ""), limit=9)
    assert [one.job.explains for one in whole] == [None, None]


def test_one_that_failed_is_no_gap_in_a_line(story: Story) -> None:
    story.workers(here=HERE)
    lost = story.lost()
    story.work(HERE, 0, status=CellStatus.FAILED, measurements=())
    (cell,) = cells.page(story.session, lost.id)
    assert cell.lineage is not None
    assert trends.unmeasured(story.session, cell.lineage, Window(), limit=9) == []
    assert commits.unmeasured(story.session, "demo", sha(1), [cell.lineage]) == {}


def test_they_keep_nothing_from_being_kept(story: Story) -> None:
    explained(story)
    later = datetime.now(UTC) + timedelta(days=1)
    side = retention.Side(project="demo", default_branch="main", pull_requests=False, before=later)
    due = retention.due_jobs(story.session, side, limit=9)
    assert sorted(due) == sorted(job.id for job in story.entered())


def test_they_are_told_to_no_webhook_and_cannot_be_accepted(story: Story) -> None:
    story.workers(here=HERE)
    lost = story.lost()
    webhook = Webhook(url="https://example.org/hook", secret=WHSEC)
    put_webhook(story.session, project="demo", name="all", webhook=webhook, settings=story.settings)
    story.work(HERE, 39.8)
    (entered,) = story.entered()
    assert story.session.scalars(select(tables.Delivery)).all() == []
    with pytest.raises(ConflictError, match=f"only explains job {lost.id}"):
        mark(story.session, "demo", BaselineRequest(kind="accept", job=entered.id, reason="why not"))


def test_they_are_no_baseline_also_where_they_would_pass(story: Story) -> None:
    """Without branches what was measured last is the baseline, and one in the old environment passes."""
    story.workers(there=THERE)
    for commit, environment, figure in ((1, OLD, 40), (2, NEW, 36)):
        story.measure(commit, environment, figure, git={"sha": sha(commit)})
    assert story.work(THERE, 39.9) == sha(2)
    (entered,) = story.entered()
    assert entered.verdict == "pass"
    after = story.measure(3, NEW, 39.7, git={"sha": sha(3)})
    (finding,) = story.session.scalars(select(tables.Finding).where(tables.Finding.job_id == after.id))
    assert finding.document["baseline"]["figure"]["value"] == 40
