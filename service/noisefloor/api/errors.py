"""One handler for all errors: RFC 9457 problem details."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from noisefloor.errors import (
    MalformedBodyError,
    MethodNotAllowedError,
    NoisefloorError,
    NotFoundError,
    QueueFullError,
    UnavailableError,
)
from noisefloor.problems import invalid_request
from noisefloor.store.condition import DAMAGED
from noisefloor.store.session import NoAnswer, is_damage

RETRY_AFTER_S: dict[type[NoisefloorError], str] = {UnavailableError: "1", QueueFullError: "30"}

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
PROBLEM = "application/problem+json"

log = logging.getLogger(__name__)


def headers_of(kind: type[NoisefloorError]) -> dict[str, str]:
    """The headers that go with such an error."""
    headers = {"WWW-Authenticate": "Bearer"} if kind.status == 401 else {}  # noqa: PLR2004 - Unauthorized
    if kind in RETRY_AFTER_S:
        headers["Retry-After"] = RETRY_AFTER_S[kind]
    return headers


def problem_response(error: NoisefloorError) -> JSONResponse:
    """The error as application/problem+json."""
    return JSONResponse(
        error.problem.model_dump(mode="json", exclude_none=True),
        status_code=error.status,
        headers=headers_of(type(error)),
        media_type=PROBLEM,
    )


def install(app: FastAPI) -> None:
    """Render every error in one form. The handlers wait for no thread: health must not, either."""
    app.add_exception_handler(NoisefloorError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for kind in NoAnswer:
        app.add_exception_handler(kind, _database)


async def _ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NoisefloorError)  # noqa: S101 - registered for this class only
    return problem_response(error)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    errors = error.errors()
    if any(e["type"] == "json_invalid" for e in errors):
        return problem_response(MalformedBodyError(f"the body is not JSON: {errors[0]['ctx']['error']}"))
    return problem_response(invalid_request(errors, strip=("body",)))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    known: dict[int, type[NoisefloorError]] = {404: NotFoundError, 405: MethodNotAllowedError}
    kind = known.get(error.status_code, MalformedBodyError)
    detail = f"{request.method} {request.url.path}" if error.status_code in known else str(error.detail)
    response = problem_response(kind(detail))
    if kind is MethodNotAllowedError:
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """The methods of all routes at the address: a router names those of the first alone, a mount none."""
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    found = [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]
    return found or ["GET", "HEAD"]  # of a file


async def _database(_request: Request, error: Exception) -> JSONResponse:
    if is_damage(error):
        log.error("the database cannot be used: %s", DAMAGED)
        return problem_response(UnavailableError(f"the database cannot be used: {DAMAGED}"))
    log.error("the database did not answer: %s", error)
    return problem_response(UnavailableError("the database did not answer; try again"))
