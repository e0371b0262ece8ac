"""compare: two commits side by side."""

from typing import Annotated

import typer

from noisefloor.cli.history import nothing_matches, print_comparison
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
from noisefloor.contract.comparison import Comparison, SeriesName
from noisefloor.errors import InvalidRequestError, NotFoundError

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
    """Print what moved between two measured commits, the largest losses first; exits with 0, whatever moved.

    Where the filters find nothing, says what there is, and exits with 2.
    """
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
    filters = {name: value for name, value in given.items() if value is not None}
    with client(url, project, token) as service:
        base, head = sha_of(base), sha_of(head)
        found = service.compare(base, head, filters)
        if filters and not _names(found):
            all_metrics = {"metric": "*"} if metric is not None else {}
            names = _names(service.compare(base, head, all_metrics))
            there = {name: {str(getattr(one, name)) for one in names} for name in filters}
            raise NotFoundError(nothing_matches(filters, there))
    if format is Format.JSON:
        print_json(found)
    else:
        print_comparison(found)


def _names(found: Comparison) -> list[SeriesName]:
    """The series that either commit has."""
    alone = (*found.coverage.missing, *found.coverage.added)
    return [*(one.series for one in found.items), *(one.series for one in alone)]
