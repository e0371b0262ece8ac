"""Pictures for elsewhere: a trend's chart, and the badge of a branch."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from noisefloor.api.dependencies import ProjectName, ServiceDep, found_series
from noisefloor.api.guard import REFUSAL
from noisefloor.api.series import WindowDep
from noisefloor.contract.base import Identifier, Text
from noisefloor.contract.trend import Order
from noisefloor.dashboard.pictures import badge, picture
from noisefloor.errors import UnauthorizedError
from noisefloor.store import projects
from noisefloor.store.session import reading
from noisefloor.workflow.standing import standing
from noisefloor.workflow.trends import View, trend

# Nothing in the picture runs or loads; its style is its own.
ALONE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(prefix="/v1/projects/{project}", tags=["pictures"])


class Svg(Response):
    """A picture."""

    media_type = "image/svg+xml"


@router.get("/trends.svg", response_class=Svg)
def get_picture(
    project: ProjectName,
    to: ServiceDep,
    jobs: WindowDep,
    key: Annotated[Identifier, Query(alias="series")],
    x: Order = Order.COMMIT,
    points: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> Response:
    """A series' chart as an SVG that stands alone."""
    with reading(to.engine) as session:
        line = trend(session, found_series(session, project, key), jobs, View(x=x, points=points))
    headers = {**ALONE, "Cache-Control": "private, no-cache"}
    return Svg(picture(line), headers=headers)


@router.get("/badge.svg", response_class=Svg)
def get_badge(
    project: ProjectName,
    to: ServiceDep,
    request: Request,
    branch: Annotated[Text | None, Query()] = None,
    name: Annotated[Text | None, Query(description="of the job")] = None,
    label: Annotated[str, Query(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")] = "noisefloor",
) -> Response:
    """The verdict of the newest settled job of a branch, or of the default branch, and its worst SQNR."""
    with reading(to.engine) as session:
        settings = projects.settings(session, project)
        refusal: UnauthorizedError | None = request.scope.get(REFUSAL)
        if refusal is not None and not settings.public_badge:
            raise refusal
        found = standing(session, project, branch=branch or settings.default_branch, name=name)
    access = "public" if settings.public_badge else "private"
    headers = {**ALONE, "Cache-Control": f"{access}, max-age=60"}
    return Svg(badge(label, found.verdict, found.worst), headers=headers)
