"""accept: let a regression through, for a reason; or pin a result as the baseline."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated

import typer
from pydantic import ValidationError

from noisefloor.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_URL,
    JOB_ID,
    Format,
    FormatOption,
    Project,
    Token,
    Url,
    client,
    sha_of,
)
from noisefloor.cli.report import print_json
from noisefloor.contract.gate import BaselineRequest, BaselineView
from noisefloor.errors import InvalidRequestError
from noisefloor.problems import invalid_request

Target = Annotated[
    str,
    typer.Argument(
        help="A job's id; or a commit's whole sha, or a name in this checkout: all its settled jobs."
    ),
]
Reason = Annotated[str, typer.Option(help="Why; shown wherever it takes effect.")]
By = Annotated[str | None, typer.Option(envvar=["NOISEFLOOR_BY", "USER"], help="Who accepts.")]
Until = Annotated[str | None, typer.Option(help="Last day on which it counts, YYYY-MM-DD in UTC.")]
Matching = Annotated[
    list[str] | None,
    typer.Option("--match", help="Only these series: axis=pattern, repeatable; engine=x86, subject='lstm*'."),
]
Pin = Annotated[bool, typer.Option("--pin", help="Pin the result as a baseline; accepts no regression.")]


def accept(
    target: Target,
    reason: Reason,
    by: By = None,
    until: Until = None,
    match: Matching = None,
    pin: Pin = False,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Accept what a job or a commit lost: its regressions are acknowledged, and later ones down to there."""
    named = {"job": target} if JOB_ID.fullmatch(target) else {"sha": sha_of(target, beside="no job id, ")}
    document = {
        "kind": "pin" if pin else "accept",
        **named,
        "match": _match(match or ()),
        "reason": reason,
        "by": by,
        "until": _day(until),
    }
    try:
        asked = BaselineRequest.model_validate(document)
    except ValidationError as error:
        raise invalid_request(error.errors()) from None
    with client(url, project, token) as service:
        made = service.mark(asked)
        if format is Format.JSON:
            print_json(made)
            return
        typer.echo(_said(made))
        for job_id in made.acknowledged:
            job = service.job(job_id)
            typer.echo(f"{job.id}  {job.verdict.value}  {job.verdict_message}")


def _match(given: Sequence[str]) -> dict[str, list[str]]:
    match: dict[str, list[str]] = {}
    for text in given:
        axis, equals, pattern = text.partition("=")
        if not equals or not pattern:
            raise InvalidRequestError(f"--match {text!r}: give axis=pattern, as in engine=x86")
        match.setdefault(axis, []).append(pattern)
    return match


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError:
        raise InvalidRequestError(f"--until {text!r}: give a day as YYYY-MM-DD") from None


def _said(made: BaselineView) -> str:
    until = f" until {made.until}" if made.until is not None else ""
    if made.kind == "pin":
        return f"pinned {made.job}{until}"
    jobs = len(made.acknowledged)
    return f"accepted {made.job}{until}: {jobs} {'job' if jobs == 1 else 'jobs'} judged anew"
