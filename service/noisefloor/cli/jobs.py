"""submit, wait, show, cancel, retry."""

import sys
from collections.abc import Iterator
from itertools import chain
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from noisefloor.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_URL,
    Format,
    FormatOption,
    JobFile,
    JobId,
    OfCheckout,
    Project,
    Timeout,
    Token,
    Url,
    client,
    here,
    job_of,
    new_key,
    read_job,
)
from noisefloor.cli.report import print_json, print_report, severity
from noisefloor.cli.serve import tell
from noisefloor.client import Client
from noisefloor.contract.policy import Policy
from noisefloor.contract.report import Report
from noisefloor.contract.resources import JobView
from noisefloor.contract.verdict import Verdict
from noisefloor.errors import InvalidRequestError, NotSettledError

LAYERS_SHOWN = 20


def submit(
    job: JobFile,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    wait: Annotated[bool, typer.Option(help="Print the results, exit with the verdict's code.")] = False,
    timeout: Timeout = None,
    git: OfCheckout = True,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Post a job. The file's project, if it names one, goes before --project."""
    if timeout is not None and not wait:
        raise InvalidRequestError("--timeout belongs to --wait: without it nothing is waited for")
    spec = here(read_job(job)) if git else read_job(job)
    with client(url, spec.project or project, token) as service:
        posted = service.submit(spec, idempotency_key=new_key())
        if wait:
            settled = follow(service, posted.id, timeout, posted=posted)
            print_result(service, settled, format)
            raise typer.Exit(settled.verdict.exit_code)
        if format is Format.JSON:
            print_json(posted)
        else:
            typer.echo(f"{posted.id}  {posted.progress.cells} cells  {page_of(service, posted.id)}")


def wait(
    job_id: JobId,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    timeout: Timeout = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Show a job's progress until it is settled, then its results.

    Exits with 0 whatever they are, with 2 where the job is not settled.
    """
    with client(url, project, token) as service:
        print_result(service, follow(service, job_of(service, job_id), timeout), format)


def show(
    job_id: JobId,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Print what is known of a job."""
    with client(url, project, token) as service:
        print_result(service, service.job(job_of(service, job_id)), format)


def cancel(
    job_id: JobId, url: Url = DEFAULT_URL, project: Project = DEFAULT_PROJECT, token: Token = None
) -> None:
    """Cancel a job's queued and running cells."""
    with client(url, project, token) as service:
        typer.echo(service.cancel(job_of(service, job_id)).status.value)


def retry(
    job_id: JobId, url: Url = DEFAULT_URL, project: Project = DEFAULT_PROJECT, token: Token = None
) -> None:
    """Measure the cells again that failed or were cancelled."""
    with client(url, project, token) as service:
        typer.echo(service.retry(job_of(service, job_id)).status.value)


def follow(
    service: Client, job_id: str, timeout_s: float | None = None, *, posted: JobView | None = None
) -> JobView:
    """Show progress on standard error until the job is settled: a bar, or lines without a terminal."""
    page = page_of(service, job_id)
    news = service.follow(job_id, timeout_s=timeout_s)
    try:
        return _draw(news) if sys.stderr.isatty() else _say(news, page, posted)
    except NotSettledError as error:
        raise NotSettledError(
            f"{error.detail}; `noisefloor wait {job_id}` waits on, and {page} shows it"
        ) from None


def _draw(news: Iterator[JobView]) -> JobView:
    bar = Progress(
        TextColumn("measuring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None)
        for seen in news:
            now = seen.progress
            doing = "; ".join(now.running) or (f"waiting for {now.waiting_for}" if now.waiting_for else "")
            bar.update(task, total=now.cells, completed=now.ended, description=doing)
    return seen


def _say(news: Iterator[JobView], page: str, posted: JobView | None) -> JobView:
    """Which job it is at once; then what it waits for, once, and every tenth of its cells."""
    waits, tenths = None, 0
    for number, seen in enumerate(chain((posted,) if posted is not None else (), news)):
        now = seen.progress
        if number == 0:
            tell(escape(f"{seen.id}  {now.cells} cells  {page}"))
        if now.waiting_for not in {None, waits}:
            waits = now.waiting_for
            tell(escape(f"waiting for {waits}"))
        if tenths != 10 * now.ended // max(now.cells, 1):
            tenths = 10 * now.ended // max(now.cells, 1)
            tell(f"{now.ended} of {now.cells} cells have ended")
    return seen


def print_result(service: Client, job: JobView, format: Format) -> None:  # noqa: A002 - the option's name
    """A job's results as a table or as JSON."""
    report = report_of(service, job)
    if format is Format.JSON:
        print_json(report)
    else:
        print_report(report)
        if job.progress.waiting_for:
            typer.echo(f"waiting for {job.progress.waiting_for}")
        typer.echo(f"dashboard: {page_of(service, job.id)}")


def report_of(service: Client, job: JobView) -> Report:
    """What the service knows of a job's results, and of the layers and causes of what was found."""
    cells = service.cells(job.id)
    found = [
        cell
        for cell in cells
        if any(m.finding and m.finding.verdict is not Verdict.PASS for m in cell.measurements)
    ]
    found.sort(key=severity, reverse=True)
    return Report(
        name=job.name,
        verdict=job.verdict,
        message=job.verdict_message,
        git=job.git,
        policy=job.policy.policy if job.policy is not None else Policy(),
        url=page_of(service, job.id),
        cells=cells,
        missing=job.missing,
        layers=tuple(service.layers(job.id, cell.id) for cell in found[:LAYERS_SHOWN]),
        attributions=service.attribution(job.id) if found else (),
    )


def page_of(service: Client, job_id: str) -> str:
    """The job's page on the dashboard."""
    return f"{service.url}/projects/{service.project}/jobs/{job_id}"
