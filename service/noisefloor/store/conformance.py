"""Queries on what was found of kernels."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from noisefloor.contract.operators import matches
from noisefloor.store.tables import Cell, Conformance, Job

# what is tried of a kernel: of these the latest result counts
TRIED = (Conformance.op, Conformance.engine, Conformance.isa, Conformance.mode)


class Found(NamedTuple):
    """A result with the rows that say where it stands."""

    row: Conformance
    cell: Cell
    job: Job


def latest(
    session: Session,
    *,
    op: str = "*",
    engine: str | None = None,
    isa: str | None = None,
    mode: str | None = None,
    torch: str | None = None,
    limit: int | None = None,
    before: str | None = None,
) -> Sequence[Found]:
    """The latest result of each operator × engine × ISA cap × grid, newest first; `op` is a glob.

    With `torch`, the latest under that version. `limit` of them below the id `before`.
    """
    newest_first = func.row_number().over(partition_by=TRIED, order_by=Conformance.id.desc())
    ranked = select(Conformance.id.label("id"), newest_first.label("rank"))
    if op != "*":
        ranked = ranked.where(Conformance.op.in_([name for name in _ops(session) if matches(name, op)]))
    given = {"engine": engine, "isa": isa, "mode": mode, "torch": torch}
    for name, wanted in given.items():
        if wanted is not None:
            ranked = ranked.where(getattr(Conformance, name) == wanted)
    found = ranked.subquery()
    query = _joined().join(found, found.c.id == Conformance.id).where(found.c.rank == 1)
    if before is not None:
        query = query.where(Conformance.id < before)
    query = query.order_by(Conformance.id.desc())
    return _rows(session, query if limit is None else query.limit(limit))


def history(session: Session, row: Conformance, *, limit: int) -> Sequence[Found]:
    """The results of the same kernel on the same grid, newest first."""
    same = (getattr(Conformance, column.key) == getattr(row, column.key) for column in TRIED)
    return _rows(session, _joined().where(*same).order_by(Conformance.id.desc()).limit(limit))


def of_cells(session: Session, cell_ids: Sequence[str]) -> dict[str, Conformance]:
    """By cell; cells that are of models, or found nothing, are missing."""
    rows = session.scalars(select(Conformance).where(Conformance.cell_id.in_(cell_ids)))
    return {row.cell_id: row for row in rows}


def of_job(session: Session, job_id: str) -> dict[str, Conformance]:
    """By cell, all of a job."""
    rows = session.scalars(
        select(Conformance).join(Cell, Cell.id == Conformance.cell_id).where(Cell.job_id == job_id)
    )
    return {row.cell_id: row for row in rows}


def torch_versions(session: Session) -> Sequence[str]:
    """Every version of torch that has a result."""
    return session.scalars(select(Conformance.torch).distinct().order_by(Conformance.torch.desc())).all()


def _ops(session: Session) -> Sequence[str]:
    return session.scalars(select(Conformance.op).distinct()).all()


def _joined() -> Select[Conformance, Cell, Job]:
    return (
        select(Conformance, Cell, Job)
        .join(Cell, Cell.id == Conformance.cell_id)
        .join(Job, Job.id == Cell.job_id)
    )


def _rows(session: Session, query: Select[Conformance, Cell, Job]) -> Sequence[Found]:
    return [Found(row, cell, job) for row, cell, job in session.execute(query)]
