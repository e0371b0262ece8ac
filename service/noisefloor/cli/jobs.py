"""submit, wait, show, cancel, retry."""

from typing import Annotated

import typer
from rich.console import Console
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
    Token,
    Url,
    client,
    here,
    job_of,
    new_key,
    read_job,
)
from noisefloor.cli.report import print_json, print_report, severity
from noisefloor.client import Client
from noisefloor.contract.policy import Policy
from noisefloor.contract.report import Report
from noisefloor.contract.resources import JobView
from noisefloor.contract.verdict import Verdict
from noisefloor.errors import NotSettledError

LAYERS_SHOWN = 20


def submit(
    job: JobFile,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    wait: Annotated[bool, typer.Option(help="Print the results, exit with the verdict's code.")] = False,
    git: OfCheckout = True,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Post a job. The file's project, if it names one, goes before --project."""
    spec = here(read_job(job)) if git else read_job(job)
    with client(url, spec.project or project, token) as service:
        posted = service.submit(spec, idempotency_key=new_key())
        if wait:
            settled = follow(service, posted.id)
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
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Show a job's progress until it is settled, then its results.

    Exits with 0 whatever they are, with 2 where the job is not settled.
    """
    with client(url, project, token) as service:
        print_result(service, follow(service, job_of(service, job_id)), format)


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


def follow(service: Client, job_id: str) -> JobView:
    """Show progress until the job is settled."""
    bar = Progress(
        TextColumn("measuring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
    )
    try:
        with bar:
            task = bar.add_task("", total=None)
            for seen in service.follow(job_id):
                now = seen.progress
                doing = "; ".join(now.running) or (
                    f"waiting for {now.waiting_for}" if now.waiting_for else ""
                )
                bar.update(task, total=now.cells, completed=now.ended, description=doing)
    except NotSettledError as error:
        page = page_of(service, job_id)
        raise NotSettledError(
            f"{error.detail}; `noisefloor wait {job_id}` waits on, and {page} shows it"
        ) from None
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
