"""policy, suite: what the service keeps under a name, from a file."""

from typing import Annotated

import typer

from noisefloor.cli.options import (
    DEFAULT_PROJECT,
    DEFAULT_URL,
    Format,
    FormatOption,
    Project,
    Token,
    Url,
    client,
    name_of,
    read,
)
from noisefloor.cli.report import print_json
from noisefloor.contract.policy import Policy
from noisefloor.contract.suite import Suite

PolicyName = Annotated[str, typer.Argument(help="What jobs call it: `policy: NAME`.")]
PolicyFile = Annotated[str, typer.Argument(help="Policy file, YAML or JSON; - reads standard input.")]
SuiteName = Annotated[
    str, typer.Argument(help="What the status beside a commit is called after noisefloor/.")
]
SuiteFile = Annotated[str, typer.Argument(help="Suite file, YAML or JSON; - reads standard input.")]


def policy(
    name: PolicyName,
    file: PolicyFile,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Keep a policy on the service. What differs from the latest version is a new one."""
    called, given = name_of(name), read(file, Policy)
    with client(url, project, token) as service:
        kept = service.put_policy(called, given)
    if format is Format.JSON:
        print_json(kept)
    else:
        typer.echo(f"policy {kept.name} of project {project}, version {kept.version}")


def suite(
    name: SuiteName,
    file: SuiteFile,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
    format: FormatOption = Format.HUMAN,  # noqa: A002 - the option's name
) -> None:
    """Keep a suite on the service: a job, and the events of a repository that it runs on."""
    called, given = name_of(name), read(file, Suite)
    with client(url, project, token) as service:
        kept = service.put_suite(called, given)
    if format is Format.JSON:
        print_json(kept)
    else:
        events = ", ".join(kept.events) or "no event"
        typer.echo(f"suite {kept.name} of project {kept.project}: {kept.repository}, on {events}")
