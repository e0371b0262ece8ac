"""Series, trends and environments."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from noisefloor.api.dependencies import Cursor, Limit, ProjectName, ServiceDep, found_series
from noisefloor.contract.base import Identifier, Moment, Text
from noisefloor.contract.resources import EnvironmentView, Page, SeriesView, Trend
from noisefloor.errors import NotFoundError
from noisefloor.store import measurements, series
from noisefloor.store.session import reading
from noisefloor.workflow.views import series_view, trend

MAX_TRENDS = 50

router = APIRouter(tags=["series"])


class SeriesFilter:
    """Filters on every part of a series' identity."""

    def __init__(
        self,
        subject: Annotated[Text | None, Query()] = None,
        scheme: Annotated[Text | None, Query()] = None,
        edge: Annotated[Text | None, Query()] = None,
        engine: Annotated[Text | None, Query()] = None,
        device: Annotated[Text | None, Query()] = None,
        isa: Annotated[Text | None, Query()] = None,
        batch: Annotated[int | None, Query(ge=1, le=2**40)] = None,
        metric: Annotated[Text | None, Query()] = None,
        place: Annotated[Text | None, Query()] = None,
    ) -> None:
        given = {
            "subject": subject,
            "scheme": scheme,
            "edge": edge,
            "engine": engine,
            "device": device,
            "isa": isa,
            "batch": batch,
            "metric": metric,
            "place": place,
        }
        self.wanted = {name: value for name, value in given.items() if value is not None}


Filter = Annotated[SeriesFilter, Depends()]


@router.get("/v1/projects/{project}/series")
def list_series(
    project: ProjectName, to: ServiceDep, where: Filter, limit: Limit = 100, cursor: Cursor = None
) -> Page[SeriesView]:
    """Series by any part of their identity."""
    with reading(to.engine) as session:
        rows = series.page(session, project, filters=where.wanted, limit=limit + 1, after=cursor)
        views = tuple(series_view(row) for row in rows[:limit])
    return Page(items=views, next_cursor=views[-1].key if len(rows) > limit else None)


@router.get("/v1/projects/{project}/trends")
def list_trends(
    project: ProjectName,
    to: ServiceDep,
    where: Filter,
    key: Annotated[Identifier | None, Query(alias="series")] = None,
    branch: Annotated[Text | None, Query()] = None,
    since: Moment | None = None,
    until: Moment | None = None,
    points: Annotated[int, Query(ge=1, le=5000)] = 500,
    limit: Annotated[int, Query(ge=1, le=MAX_TRENDS)] = MAX_TRENDS,
    cursor: Cursor = None,
) -> Page[Trend]:
    """The lines of one series, or of those that the filters find: their latest points, oldest first."""
    with reading(to.engine) as session:
        if key is not None:
            rows = [found_series(session, project, key)]
        else:
            rows = list(series.page(session, project, filters=where.wanted, limit=limit + 1, after=cursor))
        lines = tuple(
            trend(
                row,
                series.points(session, row.key, branch=branch, since=since, until=until, limit=points),
            )
            for row in rows[:limit]
        )
    return Page(items=lines, next_cursor=lines[-1].series.key if len(rows) > limit else None)


@router.get("/v1/environments/{key}")
def get_environment(key: Identifier, to: ServiceDep) -> EnvironmentView:
    """One environment, whole."""
    with reading(to.engine) as session:
        row = measurements.environment(session, key)
        if row is None:
            raise NotFoundError(f"no environment {key}")
        return EnvironmentView(key=row.key, first_seen_at=row.first_seen_at, document=row.document)
