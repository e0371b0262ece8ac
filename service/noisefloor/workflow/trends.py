"""A series' line as it is shown: in order, with its gaps and changes, thinned out to what can be seen."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy.orm import Session

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import unit
from noisefloor.contract.trend import ChangePoint, EnvironmentChange, Gap, Order, Trend, TrendPoint
from noisefloor.contract.verdict import Verdict
from noisefloor.history.ancestry import Commit, ordered
from noisefloor.history.changepoints import LEAST_STEP, change_points
from noisefloor.history.environments import differences
from noisefloor.history.sampling import sampled
from noisefloor.identity import cell_key
from noisefloor.store import measurements, tables, trends
from noisefloor.store.trends import Measured, Unmeasured, Window
from noisefloor.workflow.views import series_view

READ_AT_ONCE = 25_000  # points of all lines of one answer
READ_OF_A_LINE = 10_000
NUMBERS = {FigureKind.FINITE, FigureKind.EXACT}

Slot = Measured | Unmeasured


@dataclass(frozen=True, kw_only=True)
class View:
    """How a line is drawn: over what, with how many points at most, and of how many of the latest."""

    x: Order = Order.COMMIT
    points: int = 500
    latest: int | None = None


def trend(session: Session, row: tables.Series, window: Window, view: View, *, lines: int = 1) -> Trend:
    """One of so many `lines` of an answer."""
    limit = max(500, min(READ_OF_A_LINE, READ_AT_ONCE // lines))
    found = trends.measured(session, row.key, window, limit=limit + 1)
    cut, found = len(found) > limit, found[-limit:]
    missing = [
        cell
        for cell in trends.unmeasured(session, cell_key(row.identity), window, limit=limit)
        if row.edge in cell.edges and not (cut and cell.at < found[0].at)
    ]
    line = _line(found, missing, view.x)
    places = [place for place, one in enumerate(line) if isinstance(one, Measured)]
    if view.latest is not None and len(places) > view.latest:
        cut, line = True, line[places[-view.latest] :]
    return _drawn(session, row, line, view, cut=cut)


def _line(found: Sequence[Measured], missing: Sequence[Unmeasured], x: Order) -> list[Slot]:
    """Points and gaps in order; over commits, each once an environment, and gaps only where no point is."""
    slots: list[Slot] = [*found, *missing]
    slots.sort(key=lambda one: (one.at, one.job_id))
    if x is Order.TIME:
        return slots
    has_point = {one.sha for one in found if one.sha is not None}
    slots = [one for one in slots if isinstance(one, Measured) or one.sha not in has_point]
    last = {_once(one): index for index, one in enumerate(slots)}
    slots = [one for index, one in enumerate(slots) if last[_once(one)] == index]
    commits = [Commit(sha=one.sha, at=one.at, ancestors=tuple(one.ancestors or ())) for one in slots]
    return [slots[index] for index in ordered(commits)]


def _once(one: Slot) -> tuple[str | None, ...]:
    """What stands once on a line over commits."""
    if one.sha is None:
        return (one.cell_id,)
    return (one.sha, one.environment if isinstance(one, Measured) else one.status)


def _drawn(
    session: Session,
    row: tables.Series,
    line: Sequence[Slot],
    view: View,
    *,
    cut: bool,
) -> Trend:
    points = [one for one in line if isinstance(one, Measured)]
    numbers = [(index, one.value) for index, one in enumerate(points) if one.value is not None]
    values = [value for _, value in numbers]
    splits = change_points(values, least_step=_least_step(row.metric, values))
    steps = {numbers[split.index][0]: split for split in splits}
    moves = [i for i, (was, now) in enumerate(pairwise(points), 1) if was.environment != now.environment]
    markers = {*moves, *(i - 1 for i in moves), *steps, *(i - 1 for i in steps), *_irregular(points)}
    kept = sampled([one.value for one in points], markers, most=view.points)
    return Trend(
        series=series_view(row),
        x=view.x,
        points=tuple(_point(points[index]) for index in kept),
        gaps=tuple(_gaps(line, kept)),
        environment_changes=tuple(_environment_changes(session, points, kept, moves)),
        change_points=tuple(
            ChangePoint(
                index=bisect_left(kept, index),
                mean_before=split.mean_before,
                mean_after=split.mean_after,
                p_value=split.p_value,
            )
            for index, split in steps.items()
        ),
        total=len(points),
        cut=cut,
    )


def _least_step(metric: str, values: Sequence[float]) -> float:
    """The smallest change of level shown: of dB always the same, of anything else a hundredth of it."""
    return LEAST_STEP if unit(metric) == " dB" else max(map(abs, values), default=0.0) / 100


def _irregular(points: Sequence[Measured]) -> Iterator[int]:
    """Points without a figure, and those where the kind of figure or the verdict became another one."""
    for index, one in enumerate(points):
        before = points[index - 1] if index else one
        if FigureKind(one.kind) not in NUMBERS or (one.kind, one.verdict) != (before.kind, before.verdict):
            yield index


def _gaps(line: Sequence[Slot], kept: Sequence[int]) -> Iterator[Gap]:
    seen = 0
    for one in line:
        if isinstance(one, Measured):
            seen += 1
            continue
        yield Gap(
            job_id=one.job_id,
            cell_id=one.cell_id,
            sha=one.sha,
            branch=one.branch,
            at=one.at,
            status=CellStatus(one.status),
            reason=one.reason,
            before=bisect_left(kept, seen),
        )


def _environment_changes(
    session: Session, points: Sequence[Measured], kept: Sequence[int], moves: Sequence[int]
) -> Iterator[EnvironmentChange]:
    keys = {points[index].environment for move in moves for index in (move - 1, move)}
    documents = measurements.environments(session, [key for key in keys if key is not None])
    for move in moves:
        before, after = points[move - 1].environment, points[move].environment
        yield EnvironmentChange(
            index=bisect_left(kept, move),
            before=before,
            after=after,
            fields=differences(documents.get(before or "", {}), documents.get(after or "", {})),
        )


def _point(one: Measured) -> TrendPoint:
    return TrendPoint(
        measurement_id=one.measurement_id,
        job_id=one.job_id,
        cell_id=one.cell_id,
        sha=one.sha,
        branch=one.branch,
        at=one.at,
        figure=Figure(value=one.value, kind=FigureKind(one.kind)),
        floor_db=one.floor_db,
        verdict=Verdict(one.verdict) if one.verdict else None,
        environment=one.environment,
        imported=one.imported,
    )
