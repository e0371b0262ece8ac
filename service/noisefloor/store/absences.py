"""Queries on series that a job misses."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from noisefloor.contract.verdict import Absence as AbsenceValue
from noisefloor.store.session import new_id
from noisefloor.store.tables import Absence


def of_job(session: Session, job_id: str) -> Sequence[Absence]:
    """The series that a job misses, in the order they were found."""
    return session.scalars(select(Absence).where(Absence.job_id == job_id).order_by(Absence.id)).all()


def replace(session: Session, job_id: str, absences: Sequence[AbsenceValue]) -> None:
    """What a job misses, in place of what was found before."""
    session.execute(delete(Absence).where(Absence.job_id == job_id))
    session.add_all(
        Absence(
            id=new_id(),
            job_id=job_id,
            series_key=absence.series,
            verdict=absence.finding.verdict,
            document=absence.model_dump(mode="json"),
        )
        for absence in absences
    )
