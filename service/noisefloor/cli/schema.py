"""schema: the job's JSON Schema."""

import json

import typer

from noisefloor.contract.job import JobSpec


def schema(of: str = typer.Argument("job", help="job")) -> None:
    """Print a JSON Schema; editors complete and check job files with it."""
    if of != "job":
        raise typer.BadParameter(f"{of!r} has no schema here; accepted: job")
    typer.echo(json.dumps(JobSpec.model_json_schema(by_alias=True), indent=2))
