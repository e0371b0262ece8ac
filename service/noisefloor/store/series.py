"""Queries on series and their trends."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from noisefloor.store.jobs import COUNTS
from noisefloor.store.tables import Cell, Finding, Job, Measurement, Series

FILTERS = ("subject", "scheme", "edge", "engine", "device", "isa", "batch", "metric", "place")


class Point(NamedTuple):
    """A measurement with the rows that say where it stands."""

    measurement: Measurement
    job: Job
    cell: Cell
    finding: Finding | None


def find(session: Session, project: str, key: str) -> Series | None:
    """One series of a project."""
    return session.scalar(select(Series).where(Series.project == project, Series.key == key))


def page(
    session: Session, project: str, *, filters: Mapping[str, str | int], limit: int, after: str | None
) -> Sequence[Series]:
    """Series that have a result, in the order of their keys, `limit` of them past the key `after`."""
    result = (
        select(Measurement.id)
        .join(Job, Job.id == Measurement.job_id)
        .where(Measurement.series_key == Series.key, COUNTS)
        .exists()
    )
    query = select(Series).where(Series.project == project, result).order_by(Series.key).limit(limit)
    query = query.where(*matching(session, filters))
    if after is not None:
        query = query.where(Series.key > after)
    return session.scalars(query).all()


def by_keys(session: Session, keys: Collection[str]) -> Sequence[Series]:
    """Series by their keys, without their identities' documents."""
    return session.scalars(select(Series).where(Series.key.in_(keys)).options(defer(Series.identity))).all()


def of_lanes(
    session: Session,
    project: str,
    *,
    subjects: Collection[str],
    schemes: Collection[str],
    engines: Collection[str],
) -> Sequence[Series]:
    """The series of these subjects, schemes and engines, by their labels."""
    query = select(Series).where(
        Series.project == project,
        Series.subject.in_(subjects),
        Series.scheme.in_(schemes),
        Series.engine.in_(engines),
    )
    return session.scalars(query.options(defer(Series.identity))).all()


def point_of(session: Session, measurement_id: str) -> Point | None:
    """One measurement with the rows that say where it stands."""
    query = (
        select(Measurement, Job, Cell, Finding)
        .join(Job, Job.id == Measurement.job_id)
        .join(Cell, Cell.id == Measurement.cell_id)
        .outerjoin(Finding, Finding.measurement_id == Measurement.id)
        .where(Measurement.id == measurement_id)
    )
    row = session.execute(query).one_or_none()
    return Point(*row) if row is not None else None


def points(
    session: Session,
    key: str,
    *,
    branch: str | None = None,
    until: datetime | None = None,
    limit: int,
) -> Sequence[Point]:
    """The latest `limit` measurements of a series, oldest first."""
    query = (
        select(Measurement, Job, Cell, Finding)
        .join(Job, Job.id == Measurement.job_id)
        .join(Cell, Cell.id == Measurement.cell_id)
        .outerjoin(Finding, Finding.measurement_id == Measurement.id)
        .where(Measurement.series_key == key, COUNTS)
        .order_by(Job.measured_at.desc(), Job.id.desc(), Measurement.id.desc())
        .limit(limit)
    )
    if branch is not None:
        query = query.where(Job.branch == branch)
    if until is not None:
        query = query.where(Job.measured_at <= until)
    return [Point(*row) for row in reversed(session.execute(query).all())]


def matching(session: Session, filters: Mapping[str, str | int]) -> list[Any]:
    """Conditions on parts of a series' identity."""
    return [_matches(session, getattr(Series, name), wanted) for name, wanted in filters.items()]


def _matches(session: Session, column: Any, wanted: str | int) -> Any:
    """Equal; or like it, where a text has a `*`, which stands for anything. Case counts on both databases."""
    if not isinstance(wanted, str) or "*" not in wanted:
        return column == wanted
    if session.get_bind().dialect.name == "sqlite":  # its LIKE knows no case
        return column.op("GLOB")("".join(f"[{sign}]" if sign in "?[" else sign for sign in wanted))
    parts = (part.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") for part in wanted.split("*"))
    return column.like("%".join(parts), escape="\\")
