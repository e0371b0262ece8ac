"""Queries are closed, as bodies are: a misspelt filter would answer with what nobody asked for."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant

from noisefloor.contract.base import did_you_mean
from noisefloor.problems import invalid_request


async def known_parameters(request: Request) -> None:
    """Refuse parameters that the route does not declare, each with the nearest that it does."""
    known = list(_declared(request.scope["route"].dependant))
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise invalid_request(
            {
                "type": "unknown_key",
                "loc": ("query",),
                "msg": f"unknown parameter '{name}'{did_you_mean(name, known)}",
                "input": dict(request.query_params),
                "ctx": {"key": name, "accepted": known},
            }
            for name in unknown
        )


def _declared(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for inner in dependant.dependencies:
        yield from _declared(inner)
