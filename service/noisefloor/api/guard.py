"""What every request passes before any endpoint: size, origin, token. One place for all."""

import hmac
import ipaddress
import re
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noisefloor.api.errors import problem_response
from noisefloor.dashboard.session import COOKIE, session_cookie
from noisefloor.errors import (
    BodyTooLargeError,
    MalformedBodyError,
    NoisefloorError,
    NotAllowedError,
    UnauthorizedError,
)
from noisefloor.settings import Settings

OPEN_PATHS = {"/healthz", "/readyz", "/login"}
OPEN_PREFIX = "/static/"
HOOKS_PREFIX = "/v1/hooks/"  # signed: they are authenticated by what they bring
RESULTS = re.compile("/v1/projects/[^/]+/results")
BADGE = re.compile(r"/v1/projects/[^/]+/badge\.svg")
REFUSAL = "noisefloor.refusal"  # of a badge: whether it needs the token is its project's to say
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """ASGI middleware: refuses what is too large, forged by another site, or without the token."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.max_body_bytes, self.max_hook_bytes = settings.max_body_bytes, settings.max_hook_bytes
        self.max_results_bytes = settings.max_results_bytes
        self.token = settings.token.get_secret_value() if settings.token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem, or pass the request on with its body counted."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_origin(scope["method"], headers)
            self._check_access(scope, headers)
            limit = self._limit_bytes(scope["path"])
            body = b"" if scope["method"] in SAFE_METHODS else await _whole_body(receive, limit)
        except UnauthorizedError as error:
            await _ask_for_login(scope, headers, error)(scope, receive, send)
            return
        except NoisefloorError as error:
            await problem_response(error)(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)

    def _limit_bytes(self, path: str) -> int:
        if path.startswith(HOOKS_PREFIX):
            return self.max_hook_bytes
        return self.max_results_bytes if RESULTS.fullmatch(path) else self.max_body_bytes

    def _check_origin(self, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if self.token is None and not _is_loopback(host):
            raise NotAllowedError(f"Host {host[:100]!r} is not a loopback address, and no token is set")
        origin = headers.get("origin")
        if method not in SAFE_METHODS and origin is not None and origin.partition("://")[2] != host:
            raise NotAllowedError(f"a page of {origin[:100]!r} may not change anything here")

    def _check_access(self, scope: Scope, headers: Headers) -> None:
        try:
            self._check_token(scope["path"], headers)
        except UnauthorizedError as error:
            if not BADGE.fullmatch(scope["path"]):
                raise
            scope[REFUSAL] = error

    def _check_token(self, path: str, headers: Headers) -> None:
        if self.token is None or path in OPEN_PATHS or path.startswith((OPEN_PREFIX, HOOKS_PREFIX)):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode()):
            return
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        if hmac.compare_digest(cookie.encode(), session_cookie(self.token).encode()):
            return
        how = "send Authorization: Bearer <NOISEFLOOR_TOKEN>; a browser can use /login"
        what = "the token is not this service's" if scheme.lower() == "bearer" else "a token is needed"
        raise UnauthorizedError(f"{what}: {how}")


async def _whole_body(receive: Receive, limit_bytes: int) -> bytes:
    """The body, read to its end or refused: bodies are small, and what refuses them stands here alone."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedBodyError("the client went away in the middle of the body")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit_bytes:
            raise BodyTooLargeError(f"the body is larger than {limit_bytes} bytes")
    return bytes(body)


def _ask_for_login(scope: Scope, headers: Headers, error: UnauthorizedError) -> Response:
    """A browser is sent to the login page; everybody else gets the problem."""
    if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
        query = scope["query_string"].decode("latin-1")
        target = quote(scope["path"]) + (f"?{query}" if query else "")
        return RedirectResponse(f"/login?next={quote(target)}", status_code=303)
    return problem_response(error)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, and then what the client does next."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
