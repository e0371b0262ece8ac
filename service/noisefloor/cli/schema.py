"""schema: JSON Schemas of what users write."""

import json

import typer
from pydantic import BaseModel

from noisefloor.contract.job import JobSpec
from noisefloor.contract.policy import Policy

SCHEMAS: dict[str, type[BaseModel]] = {"job": JobSpec, "policy": Policy}


def schema(of: str = typer.Argument("job", help=" or ".join(SCHEMAS))) -> None:
    """Print a JSON Schema; editors complete and check files with it."""
    if of not in SCHEMAS:
        raise typer.BadParameter(f"{of!r} has no schema here; accepted: {', '.join(SCHEMAS)}")
    typer.echo(json.dumps(SCHEMAS[of].model_json_schema(by_alias=True), indent=2))
