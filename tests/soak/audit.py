"""What must hold of a database after all that was done to it: nothing lost, nothing doubled, nothing torn."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, String, Table, UniqueConstraint, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from tests.soak.plain import sums_of
from tests.soak.user import cells_of

from noisefloor.contract.job import CellStatus, JobStatus
from noisefloor.contract.lane import Lane
from noisefloor.contract.subject import Subject
from noisefloor.contract.verdict import Verdict
from noisefloor.store import shards
from noisefloor.store.tables import Base, Cell, Finding, Job, Measurement, Shard, UtcDateTime


def progress(session: Session) -> Counter[str]:
    """How many cells are in which status."""
    rows = session.execute(select(Cell.status, func.count()).group_by(Cell.status))
    return Counter(dict(rows.tuples().all()))


def crashed(session: Session) -> dict[str, tuple[int, int]]:
    """Settled jobs with cells that were lost with three workers: how many shards and cells."""
    query = (
        select(Job.id, func.count(Cell.shard_id.distinct()), func.count())
        .join(Cell, Cell.job_id == Job.id)
        .where(Job.status == JobStatus.DONE, Cell.status == CellStatus.CRASHED)
        .group_by(Job.id)
    )
    return {job_id: (shards, cells) for job_id, shards, cells in session.execute(query)}


def attempts(session: Session) -> tuple[int, int]:
    """How often a shard was claimed, and how many shards were."""
    query = select(func.coalesce(func.sum(Shard.attempt), 0), func.count()).where(Shard.attempt > 0)
    claims, number = session.execute(query).one()
    return claims, number


def violations(session: Session, acknowledged: Mapping[str, dict[str, Any]], *, plain: bool) -> Iterator[str]:
    """A sentence for each thing that is lost, doubled or stuck. `plain`: it is known what a cell measures."""
    cells: dict[str, list[Cell]] = {}
    for cell in session.scalars(select(Cell)):
        cells.setdefault(cell.job_id, []).append(cell)
    measured: dict[str, list[Measurement]] = {}
    for measurement in session.scalars(select(Measurement)):
        measured.setdefault(measurement.cell_id, []).append(measurement)
    findings = Counter(session.scalars(select(Finding.cell_id)))
    yield from _of_jobs(session.scalars(select(Job)).all(), cells, acknowledged, plain=plain)
    for cell in itertools.chain.from_iterable(cells.values()):
        yield from of_cell(cell, measured.get(cell.id, []), findings[cell.id], plain=plain)
    for shard_id in session.scalars(select(Shard.id).where(Shard.status != shards.DONE)):
        yield f"stuck: shard {shard_id} is not done"


def _of_jobs(
    jobs: Collection[Job],
    cells: Mapping[str, Sequence[Cell]],
    acknowledged: Mapping[str, dict[str, Any]],
    *,
    plain: bool,
) -> Iterator[str]:
    for name, number in Counter(job.name for job in jobs).items():
        if number > 1:
            yield f"doubled: {name} is {number} jobs"
    for job_id, posted in acknowledged.items():
        if len(cells.get(job_id, ())) != cells_of(posted):
            yield f"lost: job {job_id} has {len(cells.get(job_id, ()))} of {cells_of(posted)} cells"
    for job in jobs:
        if job.status != JobStatus.DONE:
            yield f"stuck: job {job.id} is {job.status}"
        if plain and job.verdict not in {Verdict.PENDING, Verdict.PASS}:
            yield f"lost: job {job.id} is judged {job.verdict}: {job.verdict_message}"


def of_cell(cell: Cell, measured: list[Measurement], findings: int, *, plain: bool) -> Iterator[str]:
    """What is wrong with one cell, its measurements and the number of its findings."""
    places = Counter((one.edge, one.place, one.metric) for one in measured)
    for place, number in places.items():
        if number > 1:
            yield f"doubled: cell {cell.id} has {number} measurements of {' '.join(place)}"
    if cell.status == CellStatus.QUEUED:
        yield f"stuck: cell {cell.id} has not ended"
    elif cell.status != CellStatus.DONE:
        yield f"lost: cell {cell.id} ended as {cell.status}: {cell.reason}"
    elif not measured:
        yield f"lost: cell {cell.id} is done and has no measurement"
    elif findings != len(measured):
        yield f"doubled: cell {cell.id} has {len(measured)} measurements and {findings} findings"
    elif plain:
        expected = sums_of(Subject.model_validate(cell.subject), Lane.model_validate(cell.lane)).sqnr_db()
        if measured[0].value != expected.value:
            yield f"lost: cell {cell.id} has {measured[0].value} dB, which is another cell's"


def wrong_times(session: Session, *, since: datetime, until: datetime) -> Iterator[str]:
    """A sentence for each column with ids or moments that were not stamped between the two."""
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            is_id = column.name == "id" and isinstance(column.type, String)
            if not is_id and not isinstance(column.type, UtcDateTime):
                continue
            for found in session.execute(select(func.min(column), func.max(column))).one():
                moment = datetime.fromtimestamp(int(found[:14], 16) / 1e6, UTC) if is_id and found else found
                if moment is not None and not since <= moment <= until:
                    yield f"wrong time: {column} has {found}, which is {moment}"


def integrity(engine: Engine) -> Iterator[str]:
    """What the database says of itself, and what our own counts say of its constraints."""
    with Session(engine) as session:
        if engine.dialect.name == "sqlite":
            yield from _sqlite(session)
        else:
            yield from _postgres(session)
        for table in Base.metadata.sorted_tables:
            yield from _broken_constraints(session, table)


def _sqlite(session: Session) -> Iterator[str]:
    for (said,) in session.execute(text("PRAGMA integrity_check")):
        if said != "ok":
            yield f"integrity_check: {said}"
    for row in session.execute(text("PRAGMA foreign_key_check")):
        yield f"foreign_key_check: {tuple(row)}"


def _postgres(session: Session) -> Iterator[str]:
    # what is counted below is read from the tables themselves, not from the indexes that may be wrong
    for scan in ("indexscan", "indexonlyscan", "bitmapscan"):
        session.execute(text(f"SET enable_{scan} = off"))
    failures = session.scalar(
        text("SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()")
    )
    if failures:
        yield f"{failures} pages with a wrong checksum"
    there = text("SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'")
    if not session.scalar(there):
        return
    session.execute(text("CREATE EXTENSION IF NOT EXISTS amcheck"))
    indexes = text(
        "SELECT c.oid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relpersistence = 'p'"
    )
    for index in session.scalars(indexes).all():
        try:
            with session.begin_nested():
                session.execute(text("SELECT bt_index_check(CAST(:name AS regclass), true)"), {"name": index})
        except DBAPIError as error:
            yield f"amcheck of {index}: {error.orig}"


def _broken_constraints(session: Session, table: Table) -> Iterator[str]:
    unique = [list(c.columns) for c in table.constraints if isinstance(c, UniqueConstraint)]
    for columns in [list(table.primary_key.columns), *unique]:
        filled = [column.is_not(None) for column in columns]
        repeated = select(*columns).where(*filled).group_by(*columns).having(func.count() > 1)
        if number := len(session.execute(repeated).all()):
            yield f"doubled: {number} of {table.name} by {', '.join(c.name for c in columns)}"
    for key in table.foreign_keys:
        target = key.column.table.alias()
        parent = select(target.c[key.column.name]).where(target.c[key.column.name] == key.parent)
        orphans = select(func.count()).select_from(table).where(key.parent.is_not(None), ~parent.exists())
        if number := session.scalar(orphans):
            yield f"lost: {number} of {table.name} have no {key.column.table.name}"
