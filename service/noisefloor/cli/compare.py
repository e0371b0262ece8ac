"""compare: two commits side by side."""

from typing import Annotated

import typer

from noisefloor.cli.history import print_comparison
from noisefloor.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_URL,
    Format,
    FormatOption,
    Project,
    Token,
    Url,
    client,
    sha_of,
)
from noisefloor.cli.report import print_json
from noisefloor.errors import InvalidRequestError

Filter = typer.Option(rich_help_panel="Filters")


def compare(
    commits: Annotated[
        str, typer.Argument(metavar="BASE...HEAD", help="Two shas, or names in this checkout.")
    ],
    subject: Annotated[str | None, Filter] = None,
    scheme: Annotated[str | None, Filter] = None,
    edge: Annotated[str | None, Filter] = None,
    engine: Annotated[str | None, Filter] = None,
    isa: Annotated[str | None, Filter] = None,
    metric: Annotated[str | None, Filter] = None,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Print what moved between two measured commits, the largest losses first. Exits with 0 in any case."""
    base, dots, head = commits.partition("...")
    if not (base and dots and head):
        raise InvalidRequestError(f"{commits!r} does not name two commits: BASE...HEAD")
    given = {
        "subject": subject,
        "scheme": scheme,
        "edge": edge,
        "engine": engine,
        "isa": isa,
        "metric": metric,
    }
    with client(url, project, token) as service:
        found = service.compare(
            sha_of(base), sha_of(head), {name: value for name, value in given.items() if value is not None}
        )
    if format is Format.JSON:
        print_json(found)
    else:
        print_comparison(found)
