"""Where a branch stands: the verdict of its newest settled job, and the worst figure in it."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.verdict import Verdict
from noisefloor.store import jobs, measurements


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A verdict and the figure to look at; nothing where nothing was measured."""

    verdict: Verdict | None = None
    worst: Figure | None = None


def standing(session: Session, project: str, *, branch: str, name: str | None) -> Standing:
    """Of the newest job by commit, or of the newest of this name."""
    job = jobs.newest_settled(session, project, branch=branch, name=name)
    if job is None:
        return Standing()
    kinds, lowest = measurements.headline_of_job(session, job.id)
    worst = Figure.finite(lowest) if lowest is not None else None
    if irregular := sorted(kinds - {FigureKind.FINITE, FigureKind.EXACT}):
        worst = Figure.of(FigureKind(irregular[0]))
    elif worst is None and kinds:
        worst = Figure.of(FigureKind.EXACT)
    return Standing(verdict=Verdict(job.verdict), worst=worst)
