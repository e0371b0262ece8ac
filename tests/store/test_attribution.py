"""What a job's losses are put down to, read from both databases."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from tests.measuring import measure
from tests.samples import ENVIRONMENT, imported, job, result

from noisefloor.contract.attribution import Attribution, Cause
from noisefloor.contract.job import JobSpec
from noisefloor.contract.measurement import CellResult, Environment
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.gate.attribution import NOTHING_MOVED
from noisefloor.settings import Settings
from noisefloor.store import tables
from noisefloor.store.session import writing
from noisefloor.workflow.attribute import attributions_of
from noisefloor.workflow.reasons import reasons

OLD, NEW = ENVIRONMENT, ENVIRONMENT.replace(torch="2.14.0")
SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true"}
DROP = {"rules": {"max_drop_db": 0.5}}
PLUGIN = job(schemes=[{**SCHEME, "flow": "acme.lowbit"}], policy=DROP)
OURS = imported("stacks:linear_stack", schemes=[SCHEME], policy=DROP)
ZOO = job(schemes=[SCHEME], policy=DROP)


class History:
    """Commits of a branch, measured in one environment or another."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self.session, self.settings = session, settings

    def measure(
        self, document: dict[str, object], commit: int, environment: Environment, figure: float
    ) -> tables.Job:
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=commit)
        git = {"branch": "main", "sha": f"{commit:040x}", "committed_at": at}

        def answer(cell: str) -> CellResult:
            return result(cell, figure, environment=environment)

        spec = JobSpec.model_validate({**document, "git": git})
        return measure(self.session, self.settings, LocalDispatch(), spec, answer)


@pytest.fixture
def history(engine: Engine, settings: Settings) -> History:
    with writing(engine, "test") as session:
        yield History(session, settings)  # type: ignore[misc]  # a generator as fixtures are


def only(history: History, lost: tables.Job) -> Attribution:
    (view,) = attributions_of(history.session, lost)
    return view.attribution


def test_in_one_environment_it_is_the_code(history: History) -> None:
    history.measure(OURS, 1, OLD, 40)
    found = only(history, history.measure(OURS, 2, OLD, 37))
    assert (found.cause, found.code_db, found.environment_db) == (Cause.CODE, 3.0, 0.0)
    assert found.message.endswith("; the environment is the same")


def test_a_plugin_is_code_that_a_commit_may_change(history: History) -> None:
    history.measure(PLUGIN, 1, OLD, 40)
    assert only(history, history.measure(PLUGIN, 2, OLD, 37)).cause is Cause.CODE
    assert only(history, history.measure(PLUGIN, 3, NEW, 37)).cause is Cause.UNKNOWN


def test_what_lost_nothing_has_no_cause(history: History) -> None:
    history.measure(OURS, 1, OLD, 40)
    below_a_floor = {**OURS, "policy": {"rules": {"floor_db": 50, "max_drop_db": 0.5}}}
    for commit, figure in ((2, 40), (3, 41)):
        lost = history.measure(below_a_floor, commit, OLD, figure)
        assert (lost.verdict, list(attributions_of(history.session, lost))) == ("regressed", [])
        (told,) = reasons(history.session, lost.project, lost.id).losses
        assert told.cause is None


def test_where_neither_moved_neither_is_blamed(history: History) -> None:
    history.measure(ZOO, 1, OLD, 40)
    found = only(history, history.measure(ZOO, 2, OLD, 37))
    assert (found.cause, found.code_db, found.environment_db) == (Cause.UNKNOWN, None, None)
    assert found.message == NOTHING_MOVED


def test_a_model_that_comes_with_the_environment_has_no_code_to_blame(history: History) -> None:
    history.measure(ZOO, 1, OLD, 56.37)
    found = only(history, history.measure(ZOO, 2, NEW, 15.44))
    assert (found.cause, found.code_db) == (Cause.ENVIRONMENT, 0.0)
    assert found.environment_db == pytest.approx(40.93)
    assert "same code" in found.message


def test_code_of_the_repository_in_another_environment_is_not_guessed_at(history: History) -> None:
    history.measure(OURS, 1, OLD, 40)
    found = only(history, history.measure(OURS, 2, NEW, 37))
    assert found.cause is Cause.UNKNOWN
    assert "nobody has measured the baseline's commit in this environment" in found.message


def test_the_baselines_commit_measured_here_tells_code_from_environment(history: History) -> None:
    history.measure(OURS, 1, OLD, 40)
    lost = history.measure(OURS, 2, NEW, 36)
    history.measure(OURS, 1, NEW, 38.5)
    found = only(history, lost)
    assert (found.cause, found.environment_db, found.code_db) == (Cause.BOTH, 1.5, 2.5)
    history.measure(OURS, 2, OLD, 38)
    found = only(history, lost)
    assert (found.environment_db, found.code_db, found.interaction_db) == (1.5, 2.0, 0.5)
    (told,) = reasons(history.session, lost.project, lost.id).losses
    assert told.cause == found.message
