"""Login: the token in, a session cookie out."""

import hmac
import re
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from noisefloor.dashboard.rendering import HEADERS, rendered
from noisefloor.dashboard.route import PageRoute
from noisefloor.dashboard.session import COOKIE, session_cookie

HOME = "/"
# A path of this host. Browsers read "//x" and "/\x" as another host, and drop tabs and newlines first.
LOCAL_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,2047}")
SEE_OTHER, FORBIDDEN = 303, 403

Target = Annotated[str, Query(alias="next")]


async def raw_body(request: Request) -> bytes:
    """The body as it came."""
    return await request.body()


def router(token: str | None) -> APIRouter:
    """The form, and what it posts. Without a token there is nothing to log in to."""
    routes = APIRouter(route_class=PageRoute, include_in_schema=False)

    @routes.get("/login")
    def form(target: Target = HOME) -> Response:
        if token is None:
            return _to(target)
        return rendered("login.html", target=local(target), refused=False)

    @routes.post("/login")
    def log_in(
        request: Request, body: Annotated[bytes, Depends(raw_body)], target: Target = HOME
    ) -> Response:
        if token is None:
            return _to(target)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        if not hmac.compare_digest(given.encode(), token.encode()):
            return rendered("login.html", status_code=FORBIDDEN, target=local(target), refused=True)
        response = _to(target)
        secure = request.url.scheme == "https"
        response.set_cookie(
            COOKIE, session_cookie(token), httponly=True, samesite="lax", path="/", secure=secure
        )
        return response

    return routes


def local(target: str) -> str:
    """The target if it is a path of this host, and the home page if it is anything else.

    >>> local("/projects/demo"), local("https://example.org/"), local("//example.org")
    ('/projects/demo', '/', '/')
    """
    return target if LOCAL_PATH.fullmatch(target) else HOME


def _to(target: str) -> RedirectResponse:
    return RedirectResponse(local(target), status_code=SEE_OTHER, headers=HEADERS)
