"""gate: the verdict as an exit code."""

import contextlib
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from noisefloor.cli.jobs import follow, report_of
from noisefloor.cli.junit import junit
from noisefloor.cli.options import DEFAULT_PROJECT, DEFAULT_URL, Project, Token, Url, client, read
from noisefloor.cli.report import print_json, print_verdict
from noisefloor.cli.sarif import sarif
from noisefloor.contract.report import Report
from noisefloor.errors import InvalidRequestError
from noisefloor.gate.saved import judged
from noisefloor.gate.summary import markdown, summary

JOB_ID = re.compile("[0-9a-f]{26,32}")


class GateFormat(StrEnum):
    """How a verdict is told."""

    HUMAN = "human"
    JSON = "json"
    JUNIT = "junit"
    SARIF = "sarif"
    MARKDOWN = "markdown"


Target = Annotated[
    str, typer.Argument(help="A job's id, or a report of `run --format json`; - reads standard input.")
]
BaselineFile = Annotated[
    str | None, typer.Option(help="A saved report to hold this one against, under its job's policy.")
]
Location = Annotated[str | None, typer.Option(help="File in the repository that SARIF results point at.")]


def gate(
    target: Target = "-",
    baseline_file: BaselineFile = None,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    location: Location = None,
    format: Annotated[  # noqa: A002 - the option's name
        GateFormat, typer.Option("--format", help="human, json, junit, sarif or markdown")
    ] = GateFormat.HUMAN,
) -> None:
    """Tell a verdict: exit 0 pass or warn, 1 regressed, 2 could not evaluate, 3 no baseline.

    Of a job, the service's, as soon as it has one. Of a report, the report's own, or the one against
    --baseline-file, which needs no service.
    """
    report = _report(target, url, project, token)
    saved = read(baseline_file, Report) if baseline_file is not None else None
    if saved is not None:
        report = _against(report, saved)
    with contextlib.suppress(OSError):  # a full disk or a closed pipe is not a verdict
        _print(report, saved, format, location)
    raise typer.Exit(report.verdict.exit_code)


def _report(target: str, url: str, project: str, token: str | None) -> Report:
    if JOB_ID.fullmatch(target) is None or Path(target).exists():
        return read(target, Report)
    with client(url, project, token) as service:
        return report_of(service, follow(service, target))


def _against(report: Report, saved: Report) -> Report:
    if report.policy.rules.max_drop_db is None:
        raise InvalidRequestError(
            "the job's policy holds nothing against a baseline: give it rules.max_drop_db"
        )
    return judged(report, saved)


def _print(report: Report, saved: Report | None, format: GateFormat, location: str | None) -> None:  # noqa: A002
    match format:
        case GateFormat.JSON:
            print_json(report)
        case GateFormat.JUNIT:
            _write(junit(report))
        case GateFormat.SARIF:
            _write(sarif(report, location=location))
        case GateFormat.MARKDOWN:
            _write(markdown(summary(report, saved)))
        case GateFormat.HUMAN:
            print_verdict(report)
            if report.url is not None:
                typer.echo(f"dashboard: {report.url}")


def _write(text: str) -> None:
    """In UTF-8, which is what the readers of these formats expect, whatever the terminal's encoding is."""
    stdout = typer.get_binary_stream("stdout")
    stdout.write(text.encode())
    stdout.flush()
