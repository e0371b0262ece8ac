"""The page of two commits side by side."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import Engine

from noisefloor.contract.base import Identifier, Name, Text
from noisefloor.contract.job import Sha
from noisefloor.dashboard.rendering import HEADERS, rendered
from noisefloor.dashboard.route import PageRoute
from noisefloor.store.session import reading
from noisefloor.workflow.compare import compare

ROWS = 200

Project = Annotated[Name, Path()]


def router(engine: Engine) -> APIRouter:
    """The page, and the form that leads to it."""
    routes = APIRouter(route_class=PageRoute, include_in_schema=False)
    pages = ComparePages(engine)
    endpoints: dict[str, Callable[..., Response]] = {
        "/projects/{project}/compare": pages.chosen,
        "/projects/{project}/compare/{base}...{head}": pages.comparison,
    }
    for path, endpoint in endpoints.items():
        routes.add_api_route(path, endpoint)
    return routes


class ComparePages:
    """The endpoints, with what they read from."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def chosen(self, project: Project, base: Sha, head: Sha) -> RedirectResponse:
        """From a form's two fields to the address that can be shared."""
        return RedirectResponse(f"/projects/{project}/compare/{base}...{head}", 303, headers=HEADERS)

    def comparison(
        self,
        project: Project,
        base: Annotated[Sha, Path()],
        head: Annotated[Sha, Path()],
        metric: Annotated[Text | None, Query()] = None,
        cursor: Identifier | None = None,
    ) -> HTMLResponse:
        """What moved from one commit to another."""
        filters = {"metric": metric} if metric else {}
        with reading(self.engine) as session:
            found = compare(
                session, project=project, base=base, head=head, filters=filters, limit=ROWS, after=cursor
            )
        return rendered("compare.html", project=project, found=found, cursor=cursor, metric=metric)
