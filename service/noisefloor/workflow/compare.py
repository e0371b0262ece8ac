"""Compare: two commits over the series that both have."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy.orm import Session

from noisefloor.contract.comparison import (
    Alone,
    AtCommit,
    Comparison,
    Coverage,
    Delta,
    EnvironmentDifference,
    LayerLoss,
    Move,
    SeriesName,
    Side,
)
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.layers import LayerReport, LayerView
from noisefloor.contract.measurement import SQNR
from noisefloor.contract.resources import FieldError
from noisefloor.errors import AmbiguousCommitError, InvalidRequestError, NotFoundError
from noisefloor.history.comparison import delta, gravity, losses, move
from noisefloor.history.environments import differences
from noisefloor.store import analyses, commits, measurements
from noisefloor.store.commits import Figured
from noisefloor.store.series import FILTERS

CANDIDATES = 5
JOBS = 20
NAMED = 100
DIFFERENCES = 20
MOST_SERIES = 20_000

Pair = tuple[Figured, Figured]


def compare(
    session: Session,
    *,
    project: str,
    base: str,
    head: str,
    filters: Mapping[str, str | int],
    limit: int,
    after: str | None = None,
) -> Comparison:
    """The series that two commits have in common, largest loss first, `limit` of them past the key `after`.

    Of SQNR, unless a filter names another metric. Raises `NotFoundError` for a commit that was not measured,
    `AmbiguousCommitError` for an abbreviation of several, `InvalidRequestError` for too many series.
    """
    base_sha, head_sha = _resolved(session, project, base, "base"), _resolved(session, project, head, "head")
    wanted = {"metric": SQNR, **filters}
    old, new = (_figures(session, project, sha, wanted) for sha in (base_sha, head_sha))
    pairs = [(old[key], new[key]) for key in old.keys() & new.keys()]
    pairs.sort(key=lambda pair: (gravity(*_both(pair), _metric(pair)), pair[0].key))
    start = 1 + next((place for place, pair in enumerate(pairs) if pair[0].key == after), -1)
    shown = pairs[start : start + limit]
    return Comparison(
        base=_side(session, project, base_sha),
        head=_side(session, project, head_sha),
        moves=dict(Counter(move(*_both(pair), _metric(pair)) for pair in pairs)),
        coverage=Coverage(
            common=len(pairs),
            only_base=len(old.keys() - new.keys()),
            only_head=len(new.keys() - old.keys()),
            missing=tuple(_alone(session, project, head_sha, [old[key] for key in old if key not in new])),
            added=tuple(_alone(session, project, base_sha, [new[key] for key in new if key not in old])),
        ),
        environments=tuple(_environments(session, pairs)),
        items=tuple(_deltas(session, shown)),
        next_cursor=shown[-1][0].key if start + limit < len(pairs) else None,
    )


def _resolved(session: Session, project: str, given: str, field: str) -> str:
    found = commits.like(session, project, given, limit=CANDIDATES)
    if not found:
        raise NotFoundError(f"project {project!r} has no job of a commit {given}")
    if len(found) > 1:
        error = FieldError(
            field=f"path.{field}", message="several commits begin so", value=given, accepted=list(found)
        )
        raise AmbiguousCommitError(f"path.{field}: {given} could be {', '.join(found)}", [error])
    return found[0]


def _figures(
    session: Session, project: str, sha: str, filters: Mapping[str, str | int]
) -> dict[str, Figured]:
    found = commits.figures(session, project, sha, filters=filters, limit=MOST_SERIES + 1)
    if len(found) > MOST_SERIES:
        raise InvalidRequestError(f"commit {sha} has more than {MOST_SERIES} series: filter them")
    return found


def _side(session: Session, project: str, sha: str) -> Side:
    rows = commits.jobs_at(session, project, sha, limit=JOBS)
    return Side(sha=sha, branch=rows[0].branch, jobs=tuple(row.id for row in rows))


def _figure(row: Figured) -> Figure:
    return Figure(value=row.value, kind=FigureKind(row.kind))


def _both(pair: Pair) -> tuple[Figure, Figure]:
    return _figure(pair[0]), _figure(pair[1])


def _metric(pair: Pair) -> str:
    return str(pair[0].name[FILTERS.index("metric")])


def _name(row: Figured) -> SeriesName:
    return SeriesName.model_validate({"key": row.key, **dict(zip(FILTERS, row.name, strict=True))})


def _alone(session: Session, project: str, other: str, rows: Sequence[Figured]) -> Iterator[Alone]:
    shown = rows[:NAMED]
    ended = commits.unmeasured(session, project, other, [row.lineage for row in shown if row.lineage])
    for row in shown:
        status, reason = ended.get(row.lineage or "", (None, None))
        yield Alone(series=_name(row), status=CellStatus(status) if status else None, reason=reason)


def _environments(session: Session, pairs: Sequence[Pair]) -> Iterator[EnvironmentDifference]:
    moved = Counter(
        (old.environment, new.environment) for old, new in pairs if old.environment != new.environment
    )
    shown = moved.most_common(DIFFERENCES)
    keys = {key for both, _ in shown for key in both if key is not None}
    documents = measurements.environments(session, keys)
    for (before, after), number in shown:
        fields = differences(documents.get(before or "", {}), documents.get(after or "", {}))
        yield EnvironmentDifference(before=before, after=after, series=number, fields=fields)


def _deltas(session: Session, pairs: Sequence[Pair]) -> Iterator[Delta]:
    worse = [pair for pair in pairs if move(*_both(pair), _metric(pair)) is Move.WORSE]
    documents = analyses.of_cells(session, sorted({row.cell_id for pair in worse for row in pair}))
    reports: dict[tuple[str, str], LayerReport] = {
        (cell_id, report.edge): report
        for cell_id, row in documents.items()
        for report in LayerView.model_validate({"cell": cell_id, **row.document}).reports
    }
    for pair in pairs:
        base, head = _both(pair)
        yield Delta(
            series=_name(pair[0]),
            base=_at(pair[0]),
            head=_at(pair[1]),
            move=move(base, head, _metric(pair)),
            delta=delta(base, head),
            layers=_layers(pair, reports) if pair in worse else (),
        )


def _layers(pair: Pair, reports: Mapping[tuple[str, str], LayerReport]) -> tuple[LayerLoss, ...]:
    edge = str(pair[0].name[FILTERS.index("edge")])
    before, after = (reports.get((row.cell_id, edge)) for row in pair)
    return losses(before, after) if before is not None and after is not None else ()


def _at(row: Figured) -> AtCommit:
    return AtCommit(figure=_figure(row), job_id=row.job_id, cell_id=row.cell_id, environment=row.environment)
