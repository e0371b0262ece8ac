"""Series, trends and environments."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from noisefloor.api.dependencies import Cursor, Limit, ProjectName, ServiceDep, found_series
from noisefloor.contract.base import Identifier, Moment, Text
from noisefloor.contract.resources import EnvironmentView, FieldError, Page, SeriesView
from noisefloor.contract.trend import Order, Trend
from noisefloor.errors import InvalidRequestError, NotFoundError
from noisefloor.store import measurements, series
from noisefloor.store.session import reading
from noisefloor.store.trends import Window
from noisefloor.workflow.trends import View, trend
from noisefloor.workflow.views import series_view

MAX_TRENDS = 50

router = APIRouter(tags=["series"])


class SeriesFilter:
    """Filters on every part of a series' identity; in a text, `*` stands for anything."""

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


def window(
    branch: Annotated[Text | None, Query()] = None, since: Moment | None = None, until: Moment | None = None
) -> Window:
    """The jobs that lines are drawn from: of a branch, between two moments."""
    if since is not None and until is not None and since > until:
        error = FieldError(
            field="query.until",
            message="is before since",
            value=until.isoformat(),
            accepted=[f"≥ {since.isoformat()}"],
        )
        raise InvalidRequestError("query.until: is before since", [error])
    return Window(branch=branch, since=since, until=until)


WindowDep = Annotated[Window, Depends(window)]


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
    jobs: WindowDep,
    key: Annotated[Identifier | None, Query(alias="series")] = None,
    x: Order = Order.COMMIT,
    points: Annotated[int, Query(ge=1, le=5000)] = 500,
    latest: Annotated[int | None, Query(ge=1, le=5000)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_TRENDS)] = MAX_TRENDS,
    cursor: Cursor = None,
) -> Page[Trend]:
    """The lines of one series, or of those that the filters find, oldest point first.

    `latest` takes so many of the latest points; `points` thins them out, and keeps every extreme and marker.
    """
    view = View(x=x, points=points, latest=latest)
    with reading(to.engine) as session:
        if key is not None:
            rows = [found_series(session, project, key)]
        else:
            rows = list(series.page(session, project, filters=where.wanted, limit=limit + 1, after=cursor))
        shown = rows[:limit]
        lines = tuple(trend(session, row, jobs, view, lines=len(shown)) for row in shown)
    return Page(items=lines, next_cursor=lines[-1].series.key if len(rows) > limit else None)


@router.get("/v1/environments/{key}")
def get_environment(key: Identifier, to: ServiceDep) -> EnvironmentView:
    """One environment, whole."""
    with reading(to.engine) as session:
        row = measurements.environment(session, key)
        if row is None:
            raise NotFoundError(f"no environment {key}")
        return EnvironmentView(key=row.key, first_seen_at=row.first_seen_at, document=row.document)
