"""trend: series over time."""

from typing import Annotated

import typer

from noisefloor.cli.history import print_trends
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
from noisefloor.contract.resources import Page
from noisefloor.contract.trend import Order, Trend

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
    """Print the SQNR history of the series that the filters find; a `*` stands for anything."""
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
    with client(url, project, token) as service:
        trends = service.trends({name: value for name, value in given.items() if value is not None})
    if format is Format.JSON:
        print_json(Page[Trend](items=trends))
    else:
        print_trends(trends)
