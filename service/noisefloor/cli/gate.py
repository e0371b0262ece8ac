"""gate: the verdict as an exit code."""

import typer

from noisefloor.cli.jobs import follow
from noisefloor.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_URL,
    Format,
    FormatOption,
    JobId,
    Project,
    Token,
    Url,
    client,
)


def gate(
    job_id: JobId,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Wait for a job's verdict: exit 0 pass or warn, 1 regressed, 2 could not evaluate, 3 no baseline."""
    with client(url, project, token) as service:
        raise typer.Exit(follow(service, job_id, format))
