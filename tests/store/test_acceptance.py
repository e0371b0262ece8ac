"""Accepted losses, waivers and missing series over the life of branches, on both databases."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from tests.commits import MERGE_BASE, NEAREST, Project

from noisefloor.contract.job import Git
from noisefloor.contract.verdict import Verdict
from noisefloor.errors import ConflictError, InvalidRequestError, NotFoundError
from noisefloor.settings import Settings
from noisefloor.store import tables
from noisefloor.store.session import writing
from noisefloor.workflow.reasons import reasons

BOTH = ("x86", "onednn")
TODAY = datetime.now(UTC).date()
YEARS = timedelta(days=3650)


@pytest.fixture
def project(engine: Engine, settings: Settings, tmp_path: Path) -> Iterator[Project]:
    with writing(engine, "test") as session:
        folder = tmp_path / "repository"
        folder.mkdir()
        yield Project(session, settings, folder)


def lost_on_topic(project: Project) -> tables.Job:
    """A pull request that costs 3 dB against main."""
    project.measure(40.0)
    return project.measure(37.0, "topic", baseline=NEAREST)


def test_an_accepted_loss_is_acknowledged_at_once_and_says_by_whom(project: Project) -> None:
    job = lost_on_topic(project)
    assert job.verdict == Verdict.REGRESSED
    assert project.accept(sha=job.sha, until=TODAY) == [job.id]
    assert job.verdict == Verdict.ACKNOWLEDGED
    assert "37.000 dB against 40.000 dB: a drop of 3.000 dB" in job.verdict_message
    finding = project.finding(job)
    assert finding.acknowledged is not None
    assert (finding.acknowledged.by, finding.acknowledged.until) == ("ann", TODAY)
    assert finding.acknowledged.id == project.session.scalars(select(tables.Mark.id)).one()


def test_whoever_follows_verdicts_hears_of_an_acceptance(project: Project) -> None:
    job = lost_on_topic(project)
    hook = {"project": "demo", "name": "w", "url": "https://example.org/w", "secret": "whsec_AAAA"}
    project.session.add(tables.Webhook(**hook, verdicts=[], enabled=True))
    project.session.flush()
    project.accept(sha=job.sha)
    (told,) = project.session.scalars(select(tables.Delivery.announcement)).all()
    assert (told["job"], told["verdict"]) == (job.id, "acknowledged")


def test_what_follows_on_the_branch_is_let_through_down_to_there(project: Project) -> None:
    project.accept(sha=lost_on_topic(project).sha)
    assert project.measure(36.8, "topic", baseline=NEAREST).verdict == Verdict.ACKNOWLEDGED
    assert project.measure(36.2, "topic", baseline=NEAREST).verdict == Verdict.REGRESSED


def test_a_floor_that_is_set_or_raised_afterwards_is_not_what_was_accepted(project: Project) -> None:
    def under(**rules: float) -> tables.Job:
        return project.measure(36.9, rules={"max_drop_db": 0.5, **rules})

    project.measure(40.0)
    project.accept(job=project.measure(37.0).id)
    assert under(floor_db=36.0).verdict == Verdict.PASS
    broken = under(floor_db=38.0)
    assert broken.verdict == Verdict.REGRESSED
    project.accept(job=broken.id)
    assert broken.verdict == Verdict.ACKNOWLEDGED
    verdicts = [under(floor_db=floor_db).verdict for floor_db in (37.5, 38.0, 38.5)]
    assert verdicts == [Verdict.ACKNOWLEDGED, Verdict.ACKNOWLEDGED, Verdict.REGRESSED]


def test_a_floor_that_an_older_version_judged_can_be_accepted(project: Project) -> None:
    rules = {"max_drop_db": 0.5, "floor_db": 38.0}
    project.measure(40.0)
    broken = project.measure(37.0, rules=rules)
    for row in project.session.scalars(select(tables.Finding).where(tables.Finding.job_id == broken.id)):
        also = [{**one, "limit": None} for one in row.document["also"]]
        row.document = {**row.document, "limit": None, "also": also}
    assert project.accept(job=broken.id) == [broken.id]
    assert broken.verdict == Verdict.ACKNOWLEDGED
    assert project.measure(36.9, rules=rules).verdict == Verdict.ACKNOWLEDGED


def test_another_branch_may_not_lose_what_was_accepted_here(project: Project) -> None:
    project.accept(sha=lost_on_topic(project).sha)
    project.repository.on("main")
    assert project.measure(37.1, "other", baseline=NEAREST).verdict == Verdict.REGRESSED


def test_nor_where_each_branch_is_held_against_itself(project: Project) -> None:
    project.repository.commit()
    project.measure(40.0, "one")
    lost = project.measure(37.0, "one")
    project.repository.on("main")
    project.measure(40.0, "two")
    refused = project.measure(37.2, "two")
    assert project.accept(job=lost.id) == [lost.id]
    assert (lost.verdict, refused.verdict) == (Verdict.ACKNOWLEDGED, Verdict.REGRESSED)
    assert project.measure(37.3, "two").verdict == Verdict.REGRESSED


@pytest.mark.parametrize("how", ["merge", "squash"])
def test_after_the_merge_the_new_level_is_the_baseline_on_main(project: Project, how: str) -> None:
    project.accept(sha=lost_on_topic(project).sha)
    project.repository.on("main")
    project.measure(40.0, baseline=NEAREST)
    # a squash is a commit of its own that knows of no branch
    merged = project.repository.merge("topic") if how == "merge" else project.repository.commit()
    job = project.measure(37.0, sha=merged, baseline=NEAREST)
    assert job.verdict == Verdict.ACKNOWLEDGED
    later = project.finding(project.measure(36.9, baseline=NEAREST))
    assert later.verdict is Verdict.PASS
    assert later.baseline is not None
    assert (later.baseline.sha, later.baseline.figure.value) == (merged, 37.0)
    fresh = project.finding(project.measure(36.8, "fresh", baseline=MERGE_BASE))
    assert fresh.verdict is Verdict.PASS


def test_a_loss_that_was_won_back_is_not_accepted_a_second_time(project: Project) -> None:
    project.accept(sha=lost_on_topic(project).sha)
    project.repository.on("main")
    merged = project.repository.merge("topic")
    assert project.measure(37.0, sha=merged, baseline=NEAREST).verdict == Verdict.ACKNOWLEDGED
    assert project.measure(40.0, baseline=NEAREST).verdict == Verdict.PASS
    assert project.measure(37.0, baseline=NEAREST).verdict == Verdict.REGRESSED


def test_a_rebase_keeps_what_was_accepted(project: Project) -> None:
    accepted = lost_on_topic(project)
    project.accept(sha=accepted.sha)
    project.repository.on("main")
    project.measure(40.1)
    project.repository.on("topic")
    project.repository.commits += 1
    project.repository.git("rebase", "--quiet", "main")
    rebased = project.repository.git("rev-parse", "HEAD")
    assert rebased != accepted.sha
    assert project.measure(37.0, "topic", rebased, baseline=NEAREST).verdict == Verdict.ACKNOWLEDGED


def test_what_was_never_lost_is_not_accepted_with_the_rest(project: Project) -> None:
    """The 40 dB of onednn stood when a loss of x86 was accepted: later it may not fall from 45 to there."""
    project.measure(40.0, engines=BOTH)
    project.accept(job=project.measure({"x86": 37.0, "onednn": 40.0}, engines=BOTH).id)
    project.measure({"x86": 37.0, "onednn": 45.0}, engines=BOTH)
    job = project.measure({"x86": 37.0, "onednn": 40.0}, engines=BOTH)
    assert job.verdict == Verdict.REGRESSED
    assert "onednn" in job.verdict_message


def test_later_jobs_that_were_refused_for_it_are_let_through_too(project: Project) -> None:
    project.measure(40.0)
    earlier = project.measure(36.0)
    project.measure(40.0)
    first, second = project.measure(37.0), project.measure(36.9)
    assert project.accept(job=first.id) == [first.id, second.id]
    assert [job.verdict for job in (earlier, first, second)] == ["regressed", "acknowledged", "acknowledged"]


def test_nothing_else_changes_when_a_job_is_judged_anew(project: Project) -> None:
    project.measure(40.0, engines=BOTH)
    job = project.measure(37.0, engines=BOTH)
    project.accept(job=job.id, match={"engine": "x86"})
    assert job.verdict == Verdict.REGRESSED
    assert job.verdict_message.startswith("1 regressed, 1 acknowledged; multiple-ops")
    project.accept(job=job.id, match={"engine": "onednn"})
    assert job.verdict == Verdict.ACKNOWLEDGED


def test_only_a_regression_of_a_settled_job_can_be_accepted(project: Project) -> None:
    passing = project.measure(40.0, on={"no_baseline": "warn"})
    with pytest.raises(ConflictError, match="nothing to accept"):
        project.accept(job=passing.id)
    with pytest.raises(NotFoundError, match="no settled job of commit"):
        project.accept(sha="f" * 40)
    with pytest.raises(NotFoundError, match="has no job"):
        project.accept(job="0" * 26)
    with pytest.raises(InvalidRequestError, match="until: that day is past"):
        project.accept(job=passing.id, until=date(2020, 1, 1))
    assert project.session.scalars(select(tables.AcceptedLevel)).all() == []


def test_an_acceptance_that_ended_counts_no_more_and_is_said_so(project: Project) -> None:
    project.accept(sha=lost_on_topic(project).sha)
    row = project.session.scalars(select(tables.Mark)).one()
    row.until = date(2026, 1, 1)
    project.session.flush()
    job = project.measure(37.0, "topic", baseline=NEAREST)
    assert job.verdict == Verdict.REGRESSED
    assert project.finding(job).message.endswith("the acceptance of ann ended on 2026-01-01")


def test_a_waiver_lets_through_and_its_level_never_becomes_the_baseline(project: Project) -> None:
    waiver = {"match": {"engine": "x86"}, "until": str(TODAY + YEARS), "reason": "known"}
    project.measure(40.0)
    for _ in range(2):
        job = project.measure(37.0, waivers=[waiver])
        finding = project.finding(job)
        assert (job.verdict, finding.drop_db) == (Verdict.ACKNOWLEDGED, 3.0)
    assert project.measure(37.0).verdict == Verdict.REGRESSED


def test_an_acceptance_takes_the_place_of_a_waiver(project: Project) -> None:
    waiver = {"match": {"engine": "x86"}, "until": str(TODAY + YEARS), "reason": "known"}
    project.measure(40.0)
    job = project.measure(37.0, waivers=[waiver])
    assert project.accept(job=job.id) == [job.id]
    acknowledged = project.finding(job).acknowledged
    assert acknowledged is not None
    assert acknowledged.kind == "acceptance"
    assert project.measure(36.9).verdict == Verdict.PASS


def test_an_improvement_that_wants_a_new_baseline_is_none_until_it_is_accepted(project: Project) -> None:
    strict = {"on_improvement": "require_rebaseline"}
    project.measure(40.0, **strict)
    better = project.measure(45.0, **strict)
    assert (better.verdict, project.finding(better).rule) == (Verdict.NO_BASELINE, "on_improvement")
    assert project.measure(45.0, **strict).verdict == Verdict.NO_BASELINE
    project.accept(job=better.id)
    assert better.verdict == Verdict.ACKNOWLEDGED
    assert project.measure(44.8, **strict).verdict == Verdict.PASS


def test_a_lane_that_left_the_job_is_missing(project: Project) -> None:
    project.measure(40.0, engines=BOTH)
    job = project.measure(40.0, engines=("x86",))
    assert job.verdict == Verdict.REGRESSED
    (absent,) = project.missing(job)
    assert absent.label == "multiple-ops · eager static per_tensor · onednn · float32->true"
    assert absent.finding.baseline is not None
    assert absent.finding.baseline.figure.value == 40.0
    # run twice, it is missing still
    assert project.measure(40.0, engines=("x86",)).verdict == Verdict.REGRESSED


def test_another_jobs_lanes_are_not_missing(project: Project) -> None:
    project.measure(40.0, engines=BOTH, name="wide")
    project.measure(40.0, engines=("x86",), name="narrow")
    assert project.measure(40.0, engines=("x86",), name="narrow").verdict == Verdict.PASS


def test_a_lane_whose_last_result_was_refused_may_not_leave_either(project: Project) -> None:
    project.measure(40.0, engines=BOTH)
    refused = project.measure(37.0, engines=BOTH)
    assert refused.verdict == Verdict.REGRESSED
    job = project.measure(40.0, engines=("x86",))
    assert [absent.finding.verdict for absent in project.missing(job)] == [Verdict.REGRESSED]


def test_a_lane_that_was_refused_from_the_start_may_not_leave_either(project: Project) -> None:
    floor = {"rules": {"max_drop_db": 0.5, "floor_db": 30}}
    project.measure({"x86": 40.0, "onednn": 20.0}, engines=BOTH, **floor)
    job = project.measure(40.0, engines=("x86",), **floor)
    assert job.verdict == Verdict.REGRESSED
    (absent,) = project.missing(job)
    assert absent.finding.message.startswith("missing: the baseline had a result that was refused")


def test_checks_are_told_of_what_is_missing_before_what_is_less_grave(project: Project) -> None:
    project.measure(40.0, engines=BOTH)
    job = project.measure(40.0, engines=("qnnpack",))
    told = reasons(project.session, "demo", job.id)
    missing = project.missing(job)
    assert [loss.where for loss in told.losses[:2]] == [absence.label for absence in missing]
    assert [(loss.verdict.value, loss.repro is None) for loss in told.losses] == [
        ("regressed", True),
        ("regressed", True),
        ("no_baseline", False),
    ]
    assert told.more == 0


@pytest.mark.parametrize("name", ["nightly", ""])
def test_an_engine_that_is_unsupported_now_is_missing(project: Project, name: str) -> None:
    project.measure(40.0, engines=BOTH, name=name)
    job = project.measure(40.0, engines=BOTH, unsupported=("onednn",), name=name)
    assert job.verdict == Verdict.REGRESSED
    (absent,) = project.missing(job)
    assert absent.finding.message == "missing: the baseline had 40.000 dB, the cell is unsupported"
    assert project.session.get(tables.Job, job.id).judgement["compared"] == {  # type: ignore[union-attr,index]
        "common": 1,
        "missing": 1,
        "without_baseline": 0,
    }


def test_an_accepted_absence_is_let_through_and_then_forgotten(project: Project) -> None:
    project.measure(40.0, engines=BOTH)
    job = project.measure(40.0, engines=BOTH, unsupported=("onednn",))
    assert project.accept(job=job.id) == [job.id]
    # the cell itself says `unsupported`, which warns
    assert job.verdict == Verdict.WARN
    assert project.missing(job)[0].finding.verdict is Verdict.ACKNOWLEDGED
    assert project.missing(project.measure(40.0, engines=BOTH, unsupported=("onednn",))) == []
    assert project.measure(40.0, engines=("x86",)).verdict == Verdict.PASS


def test_floors_alone_ask_for_no_baseline_and_miss_nothing(project: Project) -> None:
    project.measure(40.0, engines=BOTH, rules={"floor_db": 30})
    job = project.measure(40.0, engines=BOTH, unsupported=("onednn",), rules={"floor_db": 30})
    assert job.verdict == Verdict.WARN
    assert project.missing(job) == []


def test_jobs_without_commits_are_held_against_each_other(project: Project) -> None:
    nowhere = Git().model_dump(mode="json")
    project.measure(40.0, sha="-", git=nowhere)
    lost = project.measure(37.0, sha="-", git=nowhere)
    assert lost.verdict == Verdict.REGRESSED
    project.accept(job=lost.id)
    assert project.measure(36.9, sha="-", git=nowhere).verdict == Verdict.PASS
    needs_commits = project.measure(37.0, sha="-", git=nowhere, baseline=MERGE_BASE)
    assert needs_commits.verdict == Verdict.NO_BASELINE
    assert "names no commit" in project.finding(needs_commits).message
