"""The OpenAPI document: what FastAPI says of the routes, and what the guard and the errors add to each."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeGuard

from fastapi import FastAPI, Header

from noisefloor import errors
from noisefloor.api.errors import PROBLEM, headers_of
from noisefloor.api.guard import HOOKS_PREFIX, OPEN_PATHS, SAFE_METHODS
from noisefloor.contract.resources import Problem
from noisefloor.errors import NoisefloorError

SCHEMAS = "#/components/schemas/{model}"
FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")
BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "where the service has a NOISEFLOOR_TOKEN; without one it answers on loopback alone",
}
TEXT = {"schema": {"type": "string"}}
# The media type is a parameter to FastAPI, and to the document what the body's forms are.
ContentType = Annotated[str, Header(max_length=4096, include_in_schema=False)]
# What a route that answers with the address of what it made says of its answer.
LOCATED: dict[str, Any] = {"headers": {"Location": {"description": "of what was made", **TEXT}}}


def body_of(*media_types: str, schema: Mapping[str, Any] = TEXT["schema"]) -> dict[str, Any]:
    """What a route that reads the raw body says of it."""
    content = {media_type: {"schema": schema} for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}}


class Documented(FastAPI):
    """An application whose document is true of its errors, headers and token."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document["components"]["schemas"]
            for name in FASTAPIS_OWN:
                schemas.pop(name, None)
            problem = Problem.model_json_schema(ref_template=SCHEMAS)
            schemas |= {**problem.pop("$defs"), "Problem": problem}
            document["components"]["securitySchemes"] = {"bearer": BEARER}
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    _complete(operation, path, method.upper())
        return self.openapi_schema or {}


def _complete(operation: dict[str, Any], path: str, method: str) -> None:
    """Say which problems can come of it, and whether it needs the token."""
    is_open = path in OPEN_PATHS or path.startswith(HOOKS_PREFIX)
    operation["security"] = [] if is_open else [{"bearer": []}, {}]
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI's own
    own = {int(status) for status in responses if status >= "400"}
    for status in sorted(own | _statuses(path, method, has_body="requestBody" in operation)):
        responses[str(status)] = _problem_response(status)


def _statuses(path: str, method: str, *, has_body: bool) -> set[int]:
    """By what the request is made of: 422 and 503 can come of any, a forged host being one."""
    found = {422, 503}
    if path not in OPEN_PATHS:
        found.add(401)
    if "{" in path:
        found.add(404)
    if method not in SAFE_METHODS:
        found.add(413)
    if has_body:
        found.add(400)
    if method == "POST":
        found |= {409, 429}
    return found


def _problem_response(status: int) -> dict[str, Any]:
    kinds = [kind for kind in vars(errors).values() if _is_error(kind) and kind.status == status]
    headers = {name: TEXT for kind in kinds for name in headers_of(kind)}
    return {
        "description": " ".join(str(kind.__doc__) for kind in kinds),
        "content": {PROBLEM: {"schema": {"$ref": SCHEMAS.format(model="Problem")}}},
        **({"headers": headers} if headers else {}),
    }


def _is_error(kind: object) -> TypeGuard[type[NoisefloorError]]:
    return isinstance(kind, type) and issubclass(kind, NoisefloorError)
