"""Two commits on the real store."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from tests.measuring import measure
from tests.samples import ENVIRONMENT, result, small_data, spec

from noisefloor.contract.comparison import Comparison, Move
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus
from noisefloor.contract.layers import Layer, LayerReport
from noisefloor.contract.measurement import CellResult
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import AmbiguousCommitError, NotFoundError
from noisefloor.settings import Settings
from noisefloor.store.session import reading, writing
from noisefloor.workflow.compare import compare

OLD, NEW = "a1" * 20, "b2" * 20
NEWER = ENVIRONMENT.replace(torch="2.14.0")
Commits = Callable[..., None]
Answer = Callable[[str], CellResult]


@pytest.fixture
def measured(engine: Engine, settings: Settings) -> Commits:
    """Measures a commit with an answer for each seed of the model."""

    def add(sha: str, answers: dict[int, float | Answer | None], **changes: Any) -> None:
        for seed, answer in answers.items():
            subject = {"zoo": "multiple-ops", "seeds": {"stream": seed}, "data": small_data()}
            given = (
                answer if callable(answer) else (lambda cell, figure=answer: result(cell, figure, **changes))
            )
            with writing(engine, "test") as session:
                job = spec(subjects=[subject], git={"branch": "main", "sha": sha})
                measure(session, settings, LocalDispatch(), job, given)

    return add


def compared(engine: Engine, base: str = OLD, head: str = NEW, **changes: Any) -> Comparison:
    options: dict[str, Any] = {"filters": {}, "limit": 100, **changes}
    with reading(engine) as session:
        return compare(session, project="demo", base=base, head=head, **options)


def test_the_largest_loss_stands_first_and_kinds_are_typed(engine: Engine, measured: Commits) -> None:
    measured(OLD, {1: 40.0, 2: 40.0, 3: None, 4: 40.0, 5: 40.0})
    measured(NEW, {1: 39.0, 2: 37.0, 3: 70.0, 4: 41.0, 5: 40.0})
    found = compared(engine)
    assert [(str(item.base.figure), str(item.head.figure), item.delta) for item in found.items] == [
        ("exact", "70.000", None),
        ("40.000", "37.000", -3.0),
        ("40.000", "39.000", -1.0),
        ("40.000", "41.000", 1.0),
        ("40.000", "40.000", 0.0),
    ]
    assert found.moves == {Move.WORSE: 3, Move.BETTER: 1, Move.SAME: 1}


def test_pages_follow_each_other(engine: Engine, measured: Commits) -> None:
    measured(OLD, {1: 40.0, 2: 40.0, 3: 40.0})
    measured(NEW, {1: 39.0, 2: 37.0, 3: 38.0})
    first = compared(engine, limit=2)
    second = compared(engine, limit=2, after=first.next_cursor)
    assert [item.delta for item in (*first.items, *second.items)] == [-3.0, -2.0, -1.0]
    assert second.next_cursor is None


def test_series_of_one_commit_alone_are_named_with_what_became_of_them(
    engine: Engine, measured: Commits
) -> None:
    def crashed(cell: str) -> CellResult:
        return CellResult(cell=cell, status=CellStatus.CRASHED, reason="signal 11")

    measured(OLD, {1: 40.0, 2: 40.0})
    measured(NEW, {1: crashed, 3: 40.0, 4: 40.0})
    coverage = compared(engine).coverage
    assert (coverage.common, coverage.only_base, coverage.only_head) == (0, 2, 2)
    assert {(one.status, one.reason) for one in coverage.missing} == {
        (CellStatus.CRASHED, "signal 11"),
        (None, None),
    }
    assert [one.status for one in coverage.added] == [None, None]


def test_environments_are_compared_where_they_differ(engine: Engine, measured: Commits) -> None:
    measured(OLD, {1: 40.0, 2: 40.0})
    measured(NEW, {1: 40.0, 2: 40.0}, environment=NEWER)
    (change,) = compared(engine).environments
    assert (change.series, [str(field) for field in change.fields]) == (2, ["torch 2.13.0 → 2.14.0"])


def test_the_layers_that_lost_most_are_named_where_a_figure_got_worse(
    engine: Engine, measured: Commits
) -> None:
    def layered(figure: float, **own_db: float) -> Answer:
        layers = tuple(
            Layer(name=name, kind="Linear", cumulative=Figure.finite(db), local=Figure.finite(db))
            for name, db in own_db.items()
        )
        return lambda cell: result(cell, figure, layers=(LayerReport(edge="float32->true", layers=layers),))

    measured(OLD, {1: layered(40.0, a=50, b=50, c=50, d=50, e=50), 2: layered(40.0, a=50)})
    measured(NEW, {1: layered(39.0, a=49, b=47, c=50, d=48, e=49.5), 2: layered(41.0, a=40)})
    worse, better = compared(engine).items
    assert [(layer.name, layer.drop_db) for layer in worse.layers] == [("b", 3.0), ("d", 2.0), ("a", 1.0)]
    assert better.layers == ()


def test_the_newest_measurement_of_a_commit_counts(engine: Engine, measured: Commits) -> None:
    measured(OLD, {1: 40.0})
    measured(NEW, {1: 20.0})
    measured(NEW, {1: 40.0})
    (item,) = compared(engine).items
    assert item.move is Move.SAME


def test_commits_may_be_abbreviated(engine: Engine, measured: Commits) -> None:
    measured(OLD, {1: 40.0})
    measured(NEW, {1: 40.0})
    found = compared(engine, OLD[:7], NEW[:12])
    assert (found.base.sha, found.head.sha) == (OLD, NEW)


def test_an_unknown_commit_is_not_found(engine: Engine, measured: Commits) -> None:
    measured(OLD, {1: 40.0})
    with pytest.raises(NotFoundError, match="b2b2b2b2"):
        compared(engine)


def test_an_abbreviation_of_several_commits_names_them(engine: Engine, measured: Commits) -> None:
    measured(OLD, {1: 40.0})
    measured(OLD[:8] + "0" * 32, {1: 40.0})
    with pytest.raises(AmbiguousCommitError) as raised:
        compared(engine, OLD[:7], OLD)
    (error,) = raised.value.errors
    assert (error.field, error.value) == ("path.base", OLD[:7])
    assert sorted(error.accepted or []) == sorted([OLD, OLD[:8] + "0" * 32])
    measured(OLD[:8], {1: 40.0})  # a sha of its own that is the beginning of others
    assert compared(engine, OLD[:8], OLD).base.sha == OLD[:8]
