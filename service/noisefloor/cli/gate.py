"""gate: the verdict as an exit code."""

import os
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from noisefloor.cli.jobs import follow, report_of
from noisefloor.cli.junit import junit
from noisefloor.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_URL,
    Project,
    Timeout,
    Token,
    Url,
    client,
    job_of,
    read_document,
)
from noisefloor.cli.report import print_verdict
from noisefloor.cli.sarif import sarif
from noisefloor.contract.report import Report
from noisefloor.errors import InvalidRequestError
from noisefloor.gate.saved import judged
from noisefloor.gate.summary import markdown, summary
from noisefloor.problems import invalid_request


class GateFormat(StrEnum):
    """How a verdict is told."""

    HUMAN = "human"
    JSON = "json"
    JUNIT = "junit"
    SARIF = "sarif"
    MARKDOWN = "markdown"


REPORT = "report of `noisefloor run --format json`"
DOCUMENTS = tuple(one.value for one in GateFormat if one is not GateFormat.HUMAN)

Target = Annotated[
    str, typer.Argument(help="A job's id, or a report of `run --format json`; - reads standard input.")
]
BaselineFile = Annotated[
    str | None, typer.Option(help="A saved report to hold this one against, under its job's policy.")
]
Write = Annotated[list[str] | None, typer.Option(help="FORMAT=FILE: tell it in a file as well. Repeatable.")]
Location = Annotated[str | None, typer.Option(help="File in the repository that SARIF results point at.")]


def gate(
    target: Target = "-",
    baseline_file: BaselineFile = None,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    timeout: Timeout = None,
    location: Location = None,
    write: Write = None,
    format: Annotated[  # noqa: A002 - the option's name
        GateFormat, typer.Option("--format", help="human, json, junit, sarif or markdown")
    ] = GateFormat.HUMAN,
) -> None:
    """Tell a verdict: exit 0 pass or warn, 1 regressed, 2 could not evaluate, 3 no baseline.

    Of a job, the service's, as soon as it has one. Of a report, the report's own, or the one against
    --baseline-file, which needs no service.
    """
    files = [_file(one) for one in write or ()]
    report = _report(target, url, project, token, timeout)
    saved = _read(baseline_file) if baseline_file is not None else None
    if saved is not None:
        report = _against(report, saved)
    for into, path in files:
        try:
            path.write_text(_document(report, saved, into, location), encoding="utf-8")
        except OSError as error:
            raise InvalidRequestError(f"{path} cannot be written: {error.strerror}") from None
    try:
        _print(report, saved, format, location)
    except BrokenPipeError:
        raise
    except OSError:
        pass  # a full disk is not a verdict
    raise typer.Exit(report.verdict.exit_code)


def _file(given: str) -> tuple[GateFormat, Path]:
    name, _, path = given.partition("=")
    if name not in DOCUMENTS or not path:
        raise InvalidRequestError(f"--write {given!r}: give FORMAT=FILE; formats: {', '.join(DOCUMENTS)}")
    return GateFormat(name), Path(path)


def _report(target: str, url: str, project: str, token: str | None, timeout_s: float | None) -> Report:
    if target == "-" or os.path.exists(target):  # noqa: PTH110 - a name too long for a path is no file
        return _read(target)
    with client(url, project, token) as service:
        job_id = job_of(service, target, beside=", and there is no such file")
        return report_of(service, follow(service, job_id, timeout_s))


def _read(path: str) -> Report:
    document = read_document(path)
    try:
        return Report.model_validate(document)
    except ValidationError as error:
        refused = invalid_request(error.errors())
    name = "standard input" if path == "-" else path
    raise InvalidRequestError(f"{name} is no {REPORT}: {refused.detail}", refused.errors)


def _against(report: Report, saved: Report) -> Report:
    if not report.policy.compares:
        raise InvalidRequestError(
            "the job's policy holds nothing against a baseline: give it rules.max_drop_db"
        )
    return judged(report, saved, today=datetime.now(UTC).date())


def _print(report: Report, saved: Report | None, format: GateFormat, location: str | None) -> None:  # noqa: A002
    if format is GateFormat.HUMAN:
        print_verdict(report, saved)
        if report.url is not None:
            typer.echo(f"dashboard: {report.url}")
        return
    # Readers of these formats expect UTF-8, whatever the terminal's encoding is.
    stdout = typer.get_binary_stream("stdout")
    stdout.write(_document(report, saved, format, location).encode())
    stdout.flush()


def _document(report: Report, saved: Report | None, format: GateFormat, location: str | None) -> str:  # noqa: A002
    match format:
        case GateFormat.JUNIT:
            return junit(report, saved)
        case GateFormat.SARIF:
            return sarif(report, saved, location=location)
        case GateFormat.MARKDOWN:
            return markdown(summary(report, saved))
        case _:
            return f"{report.model_dump_json(by_alias=True, indent=2)}\n"
