"""Baselines on real git repositories, on both databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session
from tests.commits import MERGE_BASE, NEAREST, SCHEME, Project
from tests.measuring import measure
from tests.samples import ENVIRONMENT, result, spec

from noisefloor.contract.measurement import CellResult
from noisefloor.contract.policy import Policy
from noisefloor.contract.verdict import Verdict
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import ConflictError
from noisefloor.settings import Settings
from noisefloor.store import tables
from noisefloor.store.session import writing
from noisefloor.workflow.evaluate import evaluate


@pytest.fixture
def project(engine: Engine, settings: Settings, tmp_path: Path) -> Iterator[Project]:
    with writing(engine, "test") as session:
        folder = tmp_path / "repository"
        folder.mkdir()
        yield Project(session, settings, folder)


def test_the_merge_base_is_the_baseline_whatever_main_did_since(project: Project) -> None:
    fork = project.measure(40.0)
    project.repository.commit("topic")
    project.repository.on("main")
    project.measure(45.0)
    finding = project.finding(project.measure(39.8, "topic", baseline=MERGE_BASE))
    assert finding.verdict is Verdict.PASS
    assert finding.baseline is not None
    assert (finding.baseline.sha, finding.baseline.distance) == (fork.sha, 2)
    assert (finding.baseline.source, finding.baseline.fell_back) == ("merge_base", None)


def test_a_branchs_own_earlier_commits_do_not_hide_what_it_loses(project: Project) -> None:
    project.measure(40.0)
    assert project.measure(39.7, "topic", baseline=NEAREST).verdict == Verdict.PASS
    second = project.finding(project.measure(39.4, "topic", baseline=NEAREST))
    assert second.verdict is Verdict.REGRESSED
    assert second.drop_db == pytest.approx(0.6)


def test_a_merge_base_that_was_not_measured_falls_back_to_the_nearest_before_it(project: Project) -> None:
    measured = project.measure(40.0)
    fork = project.repository.commit()
    project.repository.on("topic")
    project.repository.on("main")
    project.measure(50.0)
    alone = project.measure(39.9, "topic", baseline=MERGE_BASE)
    assert alone.verdict == Verdict.NO_BASELINE
    assert f"the merge base with main, {fork[:10]}, 1 commit back" in project.finding(alone).message
    finding = project.finding(project.measure(39.9, "topic", baseline=NEAREST))
    assert finding.baseline is not None
    assert (finding.baseline.sha, finding.baseline.distance) == (measured.sha, 3)
    assert finding.baseline.source == "nearest_ancestor"
    assert "merge base" in (finding.baseline.fell_back or "")


def test_a_baseline_further_than_the_policy_allows_is_none(project: Project) -> None:
    project.measure(40.0)
    for _ in range(3):
        project.repository.commit()
    near = {**NEAREST, "max_age_commits": 3}
    job = project.measure(40.0, "topic", baseline=near)
    assert job.verdict == Verdict.NO_BASELINE
    assert project.measure(40.0, "topic", baseline={**near, "max_age_commits": 5}).verdict == Verdict.PASS


def test_a_rebase_keeps_its_baseline_on_main(project: Project) -> None:
    project.measure(40.0)
    before = project.measure(39.8, "topic", baseline=MERGE_BASE)
    project.repository.on("main")
    moved = project.measure(40.2)
    project.repository.on("topic")
    project.repository.commits += 1
    project.repository.git("rebase", "--quiet", "main")
    sha = project.repository.git("rev-parse", "HEAD")
    assert sha != before.sha
    finding = project.finding(project.measure(39.8, "topic", sha, baseline=MERGE_BASE))
    assert finding.verdict is Verdict.PASS
    assert finding.baseline is not None
    assert (finding.baseline.sha, finding.baseline.distance) == (moved.sha, 1)


@pytest.mark.parametrize("depth", [0, 1])
def test_a_shallow_clone_has_no_merge_base_and_never_passes_for_it(project: Project, depth: int) -> None:
    project.measure(40.0)
    for _ in range(2):
        project.repository.commit("topic")
    job = project.measure(20.0, "topic", baseline=NEAREST, ancestors=depth)
    assert job.verdict == Verdict.NO_BASELINE
    said = project.finding(job).message
    assert (
        "either this is the first commit" if depth == 0 else "no merge base: of 1 ancestors sent none"
    ) in said
    fallback = {**MERGE_BASE, "fallback": "previous"}
    lost = project.finding(project.measure(20.0, "topic", baseline=fallback, ancestors=depth))
    assert lost.verdict is Verdict.REGRESSED
    assert lost.baseline is not None
    assert (lost.baseline.source, lost.baseline.distance) == ("previous", None)


def test_a_history_that_shares_nothing_with_main_has_no_merge_base(project: Project) -> None:
    project.measure(40.0)
    project.repository.git("switch", "--quiet", "--orphan", "apart")
    project.repository.commit("apart")
    job = project.measure(40.0, "apart", baseline=NEAREST)
    assert job.verdict == Verdict.NO_BASELINE
    assert "no merge base" in project.finding(job).message


def test_the_first_run_has_no_baseline_and_becomes_one(project: Project) -> None:
    assert project.measure(40.0, baseline=NEAREST).verdict == Verdict.NO_BASELINE
    assert project.measure(39.9, baseline=NEAREST).verdict == Verdict.PASS
    assert project.measure(30.0, "topic", baseline=NEAREST).verdict == Verdict.REGRESSED


def test_the_first_run_becomes_a_baseline_where_having_none_is_an_error(project: Project) -> None:
    strict = {"baseline": NEAREST, "on": {"no_baseline": "error"}}
    assert project.measure(40.0, **strict).verdict == Verdict.ERROR
    assert project.measure(39.9, **strict).verdict == Verdict.PASS


def test_a_merge_commit_is_held_against_its_first_parent(project: Project) -> None:
    project.measure(40.0)
    project.measure(42.0, "topic", baseline=MERGE_BASE)
    project.repository.on("main")
    first_parent = project.measure(40.1, baseline=MERGE_BASE)
    merged = project.repository.merge("topic")
    finding = project.finding(project.measure(40.0, sha=merged, baseline=MERGE_BASE))
    assert finding.baseline is not None
    assert (finding.baseline.sha, finding.baseline.distance) == (first_parent.sha, 1)


def test_a_criss_cross_of_merges_follows_first_parents(project: Project) -> None:
    project.measure(40.0)
    project.repository.commit("topic")
    project.repository.on("main")
    crossed = project.measure(41.0)
    project.repository.merge("topic")
    project.repository.on("topic")
    project.repository.merge(crossed.sha or "")
    finding = project.finding(project.measure(39.9, "topic", baseline=MERGE_BASE))
    assert finding.baseline is not None
    # topic's own line left main before the crossing: main's 41 dB are no part of it
    assert (finding.baseline.figure.value, finding.baseline.distance) == (40.0, 3)


def test_a_commit_on_main_is_held_against_the_last_one_measured_there(project: Project) -> None:
    measured = project.measure(40.0, baseline=MERGE_BASE)
    project.repository.commit()
    sha = project.repository.commit()
    project.measure(39.9, baseline=MERGE_BASE)  # a later one, which has all of them as its ancestors
    finding = project.finding(project.measure(39.9, sha=sha, baseline=MERGE_BASE))
    assert finding.baseline is not None
    assert (finding.baseline.sha, finding.baseline.distance) == (measured.sha, 2)


def test_a_refused_result_is_no_baseline(project: Project) -> None:
    project.measure(40.0, baseline=NEAREST)
    assert project.measure(38.0, baseline=NEAREST).verdict == Verdict.REGRESSED
    finding = project.finding(project.measure(38.0, "topic", baseline=NEAREST))
    assert finding.verdict is Verdict.REGRESSED
    assert finding.baseline is not None
    assert (finding.baseline.figure.value, finding.baseline.distance) == (40.0, 2)


@pytest.mark.parametrize("baseline", [NEAREST, {"source": "previous"}])
@pytest.mark.parametrize("on", [{}, {"no_baseline": "warn"}])
def test_the_first_commit_measured_again_in_another_environment_does_not_become_the_norm(
    project: Project, baseline: dict[str, str], on: dict[str, str]
) -> None:
    newer = ENVIRONMENT.replace(torch="2.14.0")
    first = project.measure(40.0, baseline=baseline, on=on)
    again = project.finding(project.measure(30.0, sha=first.sha, baseline=baseline, on=on, environment=newer))
    assert again.rule == "on.no_baseline"
    finding = project.finding(project.measure(30.0, baseline=baseline, on=on, environment=newer))
    assert finding.verdict is Verdict.REGRESSED
    assert finding.baseline is not None
    assert finding.baseline.figure.value == 40.0


def test_nan_is_no_baseline_even_where_it_only_warns(project: Project) -> None:
    mild = {"on": {"nonfinite": "warn", "no_baseline": "warn"}}
    sha = project.repository.commit()
    nan = spec(
        name="nightly",
        git=project.repository.facts(sha, "main"),
        schemes=[SCHEME],
        policy={"rules": {"max_drop_db": 0.5}, **mild},
    )

    def answer(cell: str) -> CellResult:
        good = result(cell)
        broken = good.measurements[0].replace(figure={"kind": "nonfinite"}, sums=None)
        return good.replace(measurements=(broken,))

    job = measure(project.session, project.settings, LocalDispatch(), nan, answer)
    assert job.verdict == Verdict.WARN
    finding = project.finding(project.measure(39.0, **mild))
    assert (finding.verdict, finding.rule) == (Verdict.WARN, "on.no_baseline")


def test_a_change_of_the_environment_is_disclosed(project: Project) -> None:
    project.measure(40.0)
    finding = project.finding(project.measure(38.0, environment=ENVIRONMENT.replace(torch="2.14.0")))
    assert finding.baseline is not None
    assert finding.baseline.environment_changed
    assert finding.message.endswith("the environment changed as well")


def test_a_pin_holds_until_its_last_day_and_then_says_so(project: Project) -> None:
    pinned = project.measure(40.0)
    project.measure(39.7)
    fixed = {"source": "pinned"}
    assert project.measure(39.4, baseline=fixed).verdict == Verdict.NO_BASELINE
    project.accept(kind="pin", job=pinned.id, reason="the release")
    finding = project.finding(project.measure(39.4, baseline=fixed))
    assert finding.verdict is Verdict.REGRESSED
    assert finding.baseline is not None
    assert (finding.baseline.sha, finding.baseline.source) == (pinned.sha, "pinned")
    row = project.session.scalars(select(tables.Mark)).one()
    row.until = datetime(2026, 1, 1, tzinfo=UTC).date()
    project.session.flush()
    ended = project.measure(39.4, baseline=fixed)
    assert ended.verdict == Verdict.NO_BASELINE
    assert "that of ann ended on 2026-01-01" in project.finding(ended).message


def test_what_is_measured_at_a_pinned_commit_later_moves_no_pin(project: Project) -> None:
    pinned = project.measure(40.0)
    project.accept(kind="pin", sha=pinned.sha, reason="the release")
    project.measure(39.6, sha=pinned.sha, baseline={"source": "pinned"})
    finding = project.finding(project.measure(39.4, baseline={"source": "pinned"}))
    assert finding.baseline is not None
    assert finding.baseline.figure.value == 40.0
    policy = Policy.model_validate({"rules": {"max_drop_db": 0.5}, "baseline": {"source": "pinned"}})
    # asked again of the pinned job itself: a commit is not its own baseline
    again = evaluate(project.session, pinned, policy, date(2026, 6, 1)).judgement
    assert again.verdict is Verdict.NO_BASELINE


def test_a_refused_result_cannot_be_pinned(project: Project) -> None:
    project.measure(40.0)
    refused = project.measure(30.0)
    with pytest.raises(ConflictError, match="accept it first"):
        project.accept(kind="pin", job=refused.id)
    project.accept(job=refused.id)
    project.accept(kind="pin", job=refused.id)
    assert project.measure(30.2, baseline={"source": "pinned"}).verdict == Verdict.PASS
    assert project.measure(30.2, baseline={"source": "accepted"}).verdict == Verdict.PASS


@contextmanager
def counted(session: Session) -> Iterator[list[str]]:
    """The statements that are sent to the database."""
    sent: list[str] = []

    def heard(*said: Any) -> None:
        sent.append(said[2])

    engine = session.get_bind()
    event.listen(engine, "before_cursor_execute", heard)
    yield sent
    event.remove(engine, "before_cursor_execute", heard)


def test_a_pin_of_other_series_costs_no_statement(project: Project) -> None:
    policy = Policy.model_validate(
        {"baseline": {**MERGE_BASE, "fallback": "pinned"}, "rules": {"max_drop_db": 0.5}}
    )
    pinned = project.measure(40.0)
    project.accept(kind="pin", job=pinned.id, reason="the release")
    both = project.measure(39.9, engines=("x86", "onednn"))
    counts = []
    for _ in range(2):
        with counted(project.session) as sent:
            found = evaluate(project.session, both, policy, date(2026, 6, 1)).judgement
        assert found.verdict is Verdict.NO_BASELINE  # of onednn alone
        counts.append(len(sent))
        for n in range(6):
            project.accept(kind="pin", job=pinned.id, reason=f"again {n}")
    assert counts[0] == counts[1]


def test_small_losses_add_up_since_the_release(project: Project) -> None:
    """Five losses of 0.3 dB: none is too large by itself, all together are."""
    creeping = {"max_drop_db": 0.5, "creep_db": {"max": 1.0}}
    release = project.measure(40.0, tag="v1")
    jobs = [project.measure(40.0 - 0.3 * n, rules=creeping) for n in range(1, 6)]
    assert [job.verdict for job in jobs[:4]] == ["pass", "pass", "pass", "regressed"]
    finding = project.finding(jobs[3])
    assert (finding.rule, finding.creep_db) == ("creep_db", pytest.approx(1.2))
    assert finding.drop_db == pytest.approx(0.3)
    assert finding.anchor is not None
    assert (finding.anchor.sha, finding.anchor.source) == (release.sha, "release")
    assert jobs[4].verdict == Verdict.REGRESSED
    named = {**creeping, "creep_db": {"max": 2.0, "since": "v1"}}
    assert project.measure(39.0, rules=named).verdict == Verdict.PASS
    unknown = {**creeping, "creep_db": {"max": 2.0, "since": "v2"}}
    assert project.measure(39.0, rules=unknown).verdict == Verdict.NO_BASELINE


def test_an_accepted_loss_is_where_creep_starts_anew(project: Project) -> None:
    creeping = {"max_drop_db": 0.5, "creep_db": {"max": 1.0}}
    project.measure(40.0, tag="v1")
    lost = project.measure(37.0, rules=creeping)
    project.accept(job=lost.id)
    assert lost.verdict == Verdict.ACKNOWLEDGED
    finding = project.finding(project.measure(36.8, rules=creeping))
    assert finding.verdict is Verdict.PASS
    assert finding.anchor is not None
    assert (finding.anchor.sha, finding.anchor.source) == (lost.sha, "accepted")


def test_no_commit_before_the_accepted_one_is_let_through_with_it(project: Project) -> None:
    project.measure(40.0)
    before = project.measure(37.3)
    project.repository.commits -= 1  # as a rebase makes them, in one second
    lost = project.measure(37.0)
    assert before.measured_at == lost.measured_at
    assert project.accept(job=lost.id) == [lost.id]
    assert before.verdict == Verdict.REGRESSED


@pytest.mark.parametrize("since", ["v2", "pinned"])
def test_creep_has_nothing_to_start_from_where_a_loss_was_accepted_alone(
    project: Project, since: str
) -> None:
    project.measure(40.0, tag="v1")
    project.accept(job=project.measure(37.0, rules={"max_drop_db": 0.5}).id)
    again = project.measure(36.8, rules={"creep_db": {"max": 1.0, "since": since}})
    assert again.verdict == Verdict.NO_BASELINE


def test_creep_is_measured_from_a_pin(project: Project) -> None:
    pinned = project.measure(40.0)
    project.accept(kind="pin", sha=pinned.sha, reason="the release")
    creeping = {"creep_db": {"max": 0.5, "since": "pinned"}}
    assert project.measure(39.7, rules=creeping).verdict == Verdict.PASS
    assert project.measure(39.4, rules=creeping).verdict == Verdict.REGRESSED
