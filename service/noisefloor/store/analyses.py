"""Queries on what is known of a cell's layers."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from noisefloor.store.tables import Analysis, Measurement


def find(session: Session, cell_id: str) -> Analysis | None:
    """Of one cell."""
    return session.get(Analysis, cell_id)


def of_measurement(session: Session, measurement_id: str) -> Analysis | None:
    """Of the cell that a measurement was made in."""
    return session.scalar(
        select(Analysis)
        .join(Measurement, Measurement.cell_id == Analysis.cell_id)
        .where(Measurement.id == measurement_id)
    )


def of_cells(session: Session, cell_ids: Sequence[str]) -> dict[str, Analysis]:
    """By cell; cells whose layers were not looked at are missing."""
    rows = session.scalars(select(Analysis).where(Analysis.cell_id.in_(cell_ids)))
    return {row.cell_id: row for row in rows}
