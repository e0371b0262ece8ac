"""gate: the verdict as an exit code."""

import contextlib

import typer

from noisefloor.cli.jobs import follow, page_of, report_of
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
from noisefloor.cli.report import print_json, print_verdict


def gate(
    job_id: JobId,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Wait for a job's verdict: exit 0 pass or warn, 1 regressed, 2 could not evaluate, 3 no baseline."""
    with client(url, project, token) as service:
        job = follow(service, job_id)
        report = report_of(service, job)
        with contextlib.suppress(OSError):  # a full disk or a closed pipe is not a verdict
            if format is Format.JSON:
                print_json(report)
            else:
                print_verdict(report)
                typer.echo(f"dashboard: {page_of(service, job.id)}")
        raise typer.Exit(job.verdict.exit_code)
