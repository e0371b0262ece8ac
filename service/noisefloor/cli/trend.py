"""trend: series over time."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from noisefloor.cli.history import nothing_matches, print_trends
from noisefloor.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_URL,
    Format,
    FormatOption,
    Project,
    Token,
    Url,
    client,
)
from noisefloor.cli.report import print_json
from noisefloor.client import Client
from noisefloor.contract.resources import Page
from noisefloor.contract.trend import Order, Trend
from noisefloor.errors import NotFoundError

BRANCHES_OF = 200  # so many of the latest jobs
AXES = ("subject", "scheme", "edge", "engine", "isa", "place")
OF_JOBS = ("branch", "since", "until")

Filter = typer.Option(rich_help_panel="Filters")


def trend(
    series: Annotated[str | None, Filter] = None,
    subject: Annotated[str | None, Filter] = None,
    scheme: Annotated[str | None, Filter] = None,
    edge: Annotated[str | None, Filter] = None,
    engine: Annotated[str | None, Filter] = None,
    isa: Annotated[str | None, Filter] = None,
    place: Annotated[str | None, Filter] = None,
    branch: Annotated[str | None, Filter] = None,
    since: Annotated[
        str | None, typer.Option(rich_help_panel="Filters", help="As 2026-11-01T00:00:00Z.")
    ] = None,
    until: Annotated[str | None, Filter] = None,
    points: Annotated[int, typer.Option(help="Latest points of each series.")] = 20,
    x: Annotated[Order, typer.Option(help="Order by commits' ancestry, or by time.")] = Order.COMMIT,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Print the history of figures of the series that the filters find; a `*` stands for anything.

    Where they find nothing, says what there is, and exits with 2.
    """
    given = {
        "series": series,
        "subject": subject,
        "scheme": scheme,
        "edge": edge,
        "engine": engine,
        "isa": isa,
        "place": place,
        "branch": branch,
        "latest": points,
        "since": since,
        "until": until,
        "x": x.value,
    }
    filters = {name: value for name, value in given.items() if value is not None}
    with client(url, project, token) as service:
        trends = tuple(line for line in service.trends(filters) if line.points or line.gaps)
        if not trends:
            raise NotFoundError(_nothing(service, filters))
    if format is Format.JSON:
        print_json(Page[Trend](items=trends))
    else:
        print_trends(trends)


def _nothing(service: Client, filters: Mapping[str, Any]) -> str:
    """What was looked for in vain, and what there is of it."""
    series = service.series({})
    if not series:
        return f"project {service.project!r} has no series; {service.url} lists the projects"
    axes = {name: filters[name] for name in AXES if name in filters}
    there = {name: {str(getattr(one, name)) for one in series} for name in axes}
    if not axes or service.series(axes):  # series there are, but no job of theirs
        axes = {name: filters[name] for name in OF_JOBS if name in filters}
        branches = {job.git.branch for job in service.jobs(limit=BRANCHES_OF)}
        there = {"branch": {branch for branch in branches if branch is not None}}
    return nothing_matches(axes, there)
