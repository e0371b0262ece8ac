"""What cells say of the files that they were measured from: kept, judged and shown."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Engine
from tests.measuring import claimed, measure
from tests.samples import imported, job, result

from noisefloor.contract.files import Files
from noisefloor.contract.gate import DryRunRequest
from noisefloor.contract.job import CellStatus, Git, JobSpec
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.policy import Policy
from noisefloor.contract.resources import CellView
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store import cells, tables
from noisefloor.store.session import reading, writing
from noisefloor.workflow.cancel import retry
from noisefloor.workflow.policies import dry_run, put
from noisefloor.workflow.record import record
from noisefloor.workflow.submit import submit
from noisefloor.workflow.views import cell_views

JOBS, OTHER, MERGE = "a" * 40, "b" * 40, "c" * 40
DROP = {"rules": {"max_drop_db": 0.5}}
WHERE = "is not tracked"
PLUGIN = {"flow": "acme.lowbit", "mode": "static", "edge": "float32->true", "floor_db": 30}


class Story:
    """Jobs on a model that is imported, each measured from some files."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings

    def measured(
        self,
        files: Files | None,
        *,
        sha: str | None = JOBS,
        document: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> tables.Job:
        """A settled job whose cell says this of its files."""
        git = {"branch": "main", "sha": sha} if sha is not None else {}
        model = imported("stacks:linear") if document is None else document
        spec = JobSpec.model_validate({**model, "git": git, **changes})

        def answer(cell: str) -> CellResult:
            return result(cell, files=files)

        with writing(self.engine, "test") as session:
            return measure(session, self.settings, LocalDispatch(), spec, answer)

    def cell(self, job: tables.Job) -> CellView:
        """Its cell as it is shown."""
        with reading(self.engine) as session:
            (view,) = cell_views(session, job, cells.page(session, job.id))
        return view


@pytest.fixture
def story(engine: Engine, settings: Settings) -> Story:
    return Story(engine, settings)


@pytest.mark.parametrize(
    ("files", "verdict", "said"),
    [
        (Files(commit=JOBS), "pass", "1 pass"),
        (Files(commit=JOBS, dirty=True), "warn", "the files differed from commit aaaaaaaaaaaa"),
        (Files(reason=WHERE), "warn", f"the files were those of commit aaaaaaaaaaaa: {WHERE}"),
        (Files(commit=OTHER), "error", "measured from files of bbbbbbbbbbbb, not of the job's aaaaaaaaaaaa"),
        (None, "warn", "whoever measured them does not say"),
    ],
)
def test_the_verdict_says_whose_files_were_measured(
    story: Story, files: Files | None, verdict: str, said: str
) -> None:
    job = story.measured(files)
    assert job.verdict == verdict
    assert said in job.verdict_message
    assert story.cell(job).files == files


def test_a_job_without_a_commit_asks_for_none(story: Story) -> None:
    assert story.measured(None, sha=None).verdict == "pass"


def test_a_policy_decides_what_unknown_files_lead_to(story: Story) -> None:
    def verdict(consequence: str) -> str:
        return story.measured(Files(reason=WHERE), policy={"on": {"unknown_files": consequence}}).verdict

    assert [verdict(one) for one in ("warn", "fail", "error")] == ["warn", "regressed", "error"]


def test_what_is_of_other_files_is_no_baseline(story: Story) -> None:
    changed = {"policy": DROP | {"on": {"no_baseline": "warn"}}}
    assert story.measured(Files(commit=OTHER), **changed).verdict == "error"
    job = story.measured(Files(commit=OTHER), sha=OTHER, policy=DROP)
    assert job.verdict == "no_baseline"


def test_what_is_of_other_files_without_any_rule_is_no_baseline(story: Story) -> None:
    scheme = {"flow": "eager", "mode": "static", "edge": "float32->true"}
    assert story.measured(Files(commit=OTHER), schemes=[scheme]).verdict == "error"
    job = story.measured(Files(commit=OTHER), sha=OTHER, schemes=[scheme], policy=DROP)
    assert job.verdict == "no_baseline"


def test_a_claim_has_the_commit_and_its_merge_where_files_are_the_workers_own(story: Story) -> None:
    named = {"sha": JOBS, "merge": MERGE, "ancestors": [OTHER], "repository": "org/repo"}
    with writing(story.engine, "test") as session:
        for document in (
            imported("stacks:linear", git=named),
            job(git=named, schemes=[PLUGIN]),
            job(git=named),
        ):
            spec = JobSpec.model_validate(document)
            submit(session, project="demo", spec=spec, settings=story.settings, dispatch=LocalDispatch())
        own, plugin, zoo = (claimed(session) for _ in range(3))
    assert (own.git, own.commit) == (Git.model_validate(named), JOBS)
    assert plugin.git == own.git
    assert (zoo.git, zoo.commit) == (Git(), None)


@pytest.mark.parametrize(
    ("files", "verdict"), [(Files(commit=JOBS), "pass"), (Files(commit=OTHER), "error"), (None, "pass")]
)
def test_a_plugins_files_are_judged_where_anything_is_said_of_them(
    story: Story, files: Files | None, verdict: str
) -> None:
    assert story.measured(files, document=job(schemes=[PLUGIN])).verdict == verdict


def test_a_retry_forgets_of_which_commit_the_files_were(story: Story) -> None:
    spec = JobSpec.model_validate(imported("stacks:linear", git={"sha": JOBS}))

    def refused(cell: str) -> CellResult:
        return CellResult(cell=cell, status=CellStatus.FAILED, reason="other", files=Files(commit=OTHER))

    with writing(story.engine, "test") as session:
        row = measure(session, story.settings, LocalDispatch(), spec, refused)
        assert row.verdict == "error"
        retry(session, row, story.settings, LocalDispatch())
    assert story.cell(row).files is None
    with writing(story.engine, "test") as session:
        held = claimed(session)
        right = result(held.cells[0].cell, files=Files(commit=JOBS))
        record(session, shard_id=held.shard_id, attempt=held.attempt, result=right)
        assert session.get_one(tables.Job, row.id).verdict == "pass"


def test_results_from_before_files_were_looked_at_can_be_judged_again(story: Story) -> None:
    """Their policy does not name the outcome, their cells do not say it."""
    story.measured(None)
    with writing(story.engine, "test") as session:
        put(session, "demo", "int8", Policy.model_validate({"rules": {"floor_db": 30}}))
        row = dry_run(session, "demo", "int8", DryRunRequest()).jobs[0]
    assert row.would_be == "warn"
