"""Which series a job should have: those of its own cells, and those of its namesake at the baseline."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.job import CellStatus
from noisefloor.contract.match import Where
from noisefloor.contract.measurement import SQNR, WRONG_CASES
from noisefloor.contract.policy import Policy
from noisefloor.contract.verdict import Baseline
from noisefloor.gate.judge import measured_label
from noisefloor.identity import series_identity, series_key
from noisefloor.store import measurements, series, tables

JUDGED = frozenset({SQNR, WRONG_CASES, "coverage"})
Labels = tuple[str, str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A series that the job should have: of its cell, with that cell's status, or of its namesake."""

    where: Where
    label: str
    metric: str
    cell: int | None = None
    status: CellStatus | None = None
    of_namesake: bool = False


def of_cells(
    session: Session,
    project: str,
    policy: Policy,
    cells: Iterable[tuple[plan.Cell, CellStatus]],
) -> dict[str, Expected]:
    """The known series of a job's planned cells, measured or not."""
    planned: dict[Labels, list[tuple[plan.Cell, CellStatus]]] = defaultdict(list)
    for cell, status in cells:
        planned[_labels(cell)].append((cell, status))
    known = series.of_lanes(
        session,
        project,
        subjects={labels[0] for labels in planned},
        schemes={labels[1] for labels in planned},
        engines={labels[2] for labels in planned},
    )
    found: dict[str, Expected] = {}
    for row in known:
        for cell, status in planned.get((row.subject, row.scheme, row.engine, row.device, row.isa), ()):
            if _judged(row, policy) and row.edge in cell.scheme.edges and _key(project, cell, row) == row.key:
                found[row.key] = Expected(
                    where=where(row), label=_label(row), metric=row.metric, cell=cell.ordinal, status=status
                )
    return found


def of_namesake(
    session: Session, policy: Policy, keys: Collection[str], own: Mapping[str, Expected]
) -> dict[str, Expected]:
    """The series that the job of the same name had at the baseline, beside those of the job's own cells."""
    found = dict(own)
    for row in series.by_keys(session, keys):
        if row.key in own:
            found[row.key] = replace(own[row.key], of_namesake=True)
        elif _judged(row, policy):
            found[row.key] = Expected(
                where=where(row), label=_label(row), metric=row.metric, of_namesake=True
            )
    return found


def lost(
    session: Session,
    expected: Mapping[str, Expected],
    chosen: Mapping[str, Baseline],
    present: Collection[str],
) -> list[str]:
    """The expected series that were measured at the baseline, accepted or refused, and that the job has not.

    Without a namesake the baseline of a cell is the job that its nearest series comes from: a place that was
    gone by then is not missing now.
    """
    nearest: dict[int | None, Baseline] = {}
    for key, one in expected.items():
        baseline = chosen.get(key)
        if baseline is not None and (
            one.cell not in nearest or _nearness(baseline) < _nearness(nearest[one.cell])
        ):
            nearest[one.cell] = baseline
    absent = {key: one for key, one in expected.items() if key not in present}
    at = {nearest[one.cell].job_id for one in absent.values() if one.cell in nearest}
    had = {job_id: set(measurements.series_of_job(session, job_id)) for job_id in at}
    return [
        key
        for key, one in absent.items()
        if one.of_namesake or (one.cell in nearest and key in had[nearest[one.cell].job_id])
    ]


def where(row: tables.Series) -> Where:
    """Where a series stands among the others."""
    return Where(
        subject=row.subject,
        scheme=row.scheme,
        edge=row.edge,
        engine=row.engine,
        device=row.device,
        isa=row.isa,
        place=row.place if row.metric == SQNR else None,
    )


def _judged(row: tables.Series, policy: Policy) -> bool:
    at = where(row)
    if row.metric not in JUDGED or not policy.match.fits(at):
        return False
    return row.metric != "coverage" or policy.rules_for(at).coverage_min is not None


def _labels(cell: plan.Cell) -> Labels:
    return cell.subject.label, cell.scheme.label, cell.lane.engine, cell.lane.device, cell.lane.isa


def _label(row: tables.Series) -> str:
    lane = row.engine if row.isa == "native" else f"{row.engine} {row.isa}"
    return measured_label(f"{row.subject} · {row.scheme} · {lane}", row.edge, row.place)


def _key(project: str, cell: plan.Cell, row: tables.Series) -> str:
    """Labels are not unique: whether the series is the cell's own is decided by its key."""
    return series_key(
        series_identity(
            project=project,
            subject=cell.subject,
            quantization=cell.scheme.quantization,
            edge=row.edge,  # type: ignore[arg-type]  # a word of the contract in a column
            lane=cell.lane,
            metric=row.metric,
            place=row.place,
        )
    )


def _nearness(baseline: Baseline) -> tuple[float, float]:
    """Commits back where they are known; otherwise the later the nearer."""
    at = baseline.measured_at.timestamp() if baseline.measured_at is not None else 0.0
    return (baseline.distance if baseline.distance is not None else float("inf"), -at)
