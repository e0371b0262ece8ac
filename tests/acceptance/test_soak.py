"""Short forms of `make soak` and `make stop`: random kills, stopped workers, wrong clocks; the count."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.orm import Session
from tests.measuring import measure
from tests.samples import result
from tests.service import ROOT
from tests.soak import audit
from tests.soak.plain import sums_of
from tests.soak.user import document

from noisefloor.contract.job import CellStatus, JobSpec
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.subject import Subject
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store import clock
from noisefloor.store.session import new_id, reading, writing
from noisefloor.store.tables import Cell, Finding, Job, Measurement, Shard

SEED = 2
DATABASES = pytest.mark.parametrize("kind", ["sqlite", "postgres"])


def soaked(*arguments: str) -> str:
    """What a soak printed that found nothing wrong."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.soak", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "0 lost, 0 doubled, 0 stuck: clean" in ran.stdout
    return ran.stdout


@DATABASES
def test_nothing_is_lost_doubled_or_stuck_under_random_kills(kind: str) -> None:
    assert "kills of" in soaked("200", "--database", kind, "--lease", "3")


@DATABASES
def test_a_worker_that_was_stopped_past_its_lease_writes_nothing(kind: str) -> None:
    said = soaked("20", "--database", kind, "--lease", "2", "--stop")
    assert "stale writes  0" in said


def test_clocks_that_are_an_hour_off_change_nothing() -> None:
    said = soaked("60", "--database", "postgres", "--lease", "3", "--gap", "3", "--skew", "3600")
    assert any(
        f"clocks off, s  {offs}" in said for offs in ("-3600 0 3600", "-3600 0", "0 3600", "-3600 3600")
    )


@pytest.fixture
def measured(engine: Engine, settings: Settings) -> str:
    """A job whose cells have what a soak's cells measure; its id."""
    with writing(engine, "test") as session:

        def answer(cell_id: str) -> CellResult:
            cell = session.get_one(Cell, cell_id)
            sums = sums_of(Subject.model_validate(cell.subject), Lane.model_validate(cell.lane))
            one = result(cell_id)
            figure = one.measurements[0].replace(figure=sums.sqnr_db(), sums=sums)
            return one.replace(measurements=(figure,))

        return measure(session, settings, LocalDispatch(), spec(), answer).id


def spec() -> JobSpec:
    return JobSpec.model_validate(document(SEED))


def found(session: Session, job_id: str) -> list[str]:
    """What the count finds."""
    now, slack = clock.now(), timedelta(minutes=1)
    return [
        *audit.violations(session, {job_id: document(SEED)}, plain=True),
        *audit.wrong_times(session, since=now - slack, until=now + slack),
    ]


def lose_measurement(session: Session) -> None:
    session.execute(delete(Finding))
    session.execute(delete(Measurement))


def lose_cells(session: Session) -> None:
    lose_measurement(session)
    session.execute(delete(Cell))


def double_job(session: Session) -> None:
    row = session.execute(select(Job.__table__)).mappings().one()
    session.execute(insert(Job.__table__), {**row, "id": new_id()})


@pytest.mark.parametrize(
    ("tamper", "sentence"),
    [
        (lose_measurement, "is done and has no measurement"),
        (lose_cells, "has 0 of"),
        (double_job, f"doubled: job-{SEED} is 2 jobs"),
        (lambda session: session.execute(update(Measurement).values(value=1.0)), "which is another cell's"),
        (lambda session: session.execute(update(Cell).values(status=CellStatus.QUEUED)), "has not ended"),
        (lambda session: session.execute(update(Cell).values(status=CellStatus.CRASHED)), "ended as crashed"),
        (lambda session: session.execute(update(Shard).values(status="queued")), "stuck: shard"),
        (lambda session: session.execute(update(Job).values(status="running")), "is running"),
        (lambda session: session.execute(update(Job).values(verdict="regressed")), "is judged regressed"),
        (lambda session: session.execute(delete(Finding)), "and 0 findings"),
        (
            lambda session: session.execute(update(Job).values(created_at=datetime(2020, 1, 1, tzinfo=UTC))),
            "wrong time: jobs.created_at",
        ),
    ],
)
def test_the_count_finds_what_is_amiss(
    engine: Engine, measured: str, tamper: Callable[[Session], object], sentence: str
) -> None:
    with reading(engine) as session:
        assert found(session, measured) == []
    assert list(audit.integrity(engine)) == []
    with writing(engine, "test") as session:
        tamper(session)
    with reading(engine) as session:
        assert any(sentence in said for said in found(session, measured))


@pytest.mark.usefixtures("measured")
def test_the_count_finds_what_stands_twice(engine: Engine) -> None:
    with reading(engine) as session:
        one = session.scalars(select(Measurement)).first()
        assert one is not None
        cell = session.get_one(Cell, one.cell_id)
        assert list(audit.of_cell(cell, [one, one], 2, plain=True)) == [
            f"doubled: cell {cell.id} has 2 measurements of float32->true output sqnr_db"
        ]
