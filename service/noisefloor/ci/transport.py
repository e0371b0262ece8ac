"""One HTTP request, bounded in time and size, to where it may go; and what its answer means."""

import asyncio
import ipaddress
import math
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from noisefloor.failpoints import reach

RESPONSE_BYTES = 64 * 1024
RETRY_AFTER_LIMIT_S = 86_400.0
TRY_AGAIN = {408, 425, 429}
REDIRECTS = range(300, 400)
OK = range(200, 300)
GONE = 410
FORBIDDEN = 403
# no encoding: what is read stays within its bound
ALWAYS = {"User-Agent": "noisefloor", "Accept-Encoding": "identity"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is sent. Headers carry secrets, and are shown nowhere."""

    method: Literal["GET", "POST", "PATCH"] = "POST"
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back; of the body as much as is read."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended, and for one to be repeated, how long the receiver asks to wait."""

    result: Literal["delivered", "retry", "refused", "gone"]
    status: int | None = None
    error: str | None = None
    after_s: float | None = None
    run_id: str | None = None
    ancestors: tuple[str, ...] = ()


class UnreachableError(Exception):
    """No answer: worth another try."""


class ForbiddenTargetError(Exception):
    """The address is one that webhooks may not go to."""


def exchange(
    request: Request, *, timeout_s: float, address: str | None = None, limit_bytes: int = RESPONSE_BYTES
) -> Answer:
    """Send the request and read its answer. Redirects are not followed.

    `timeout_s` bounds the whole of it: httpx bounds each read, and a receiver that sends a byte now and then
    would hold a thread for ever. That is why this one function runs an event loop. `address` is the IP to
    connect to instead of asking the resolver again.
    Raises `UnreachableError`.
    """
    try:
        reach("http.before_send")
        answer = asyncio.run(asyncio.wait_for(_exchange(request, timeout_s, address, limit_bytes), timeout_s))
        reach("http.after_send")
    except TimeoutError:
        raise UnreachableError(f"no answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        raise UnreachableError(f"{type(error).__name__}: {error}") from None
    return answer


async def _exchange(request: Request, timeout_s: float, address: str | None, limit_bytes: int) -> Answer:
    url, headers, extensions = httpx.URL(request.url), {**ALWAYS, **request.headers}, {}
    if address is not None:
        headers["Host"] = url.netloc.decode()
        extensions["sni_hostname"] = url.host
        url = url.copy_with(host=address)
    async with (
        httpx.AsyncClient(timeout=timeout_s, follow_redirects=False, trust_env=address is None) as client,
        client.stream(
            request.method, url, headers=headers, content=request.body, extensions=extensions
        ) as answer,
    ):
        body = bytearray()
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > limit_bytes:
                break
        return Answer(status=answer.status_code, headers=dict(answer.headers), body=bytes(body[:limit_bytes]))


def outcome_of(answer: Answer, *, now: datetime | None = None) -> Outcome:
    """Delivered, to be tried again, or not to be mended by trying."""
    status = answer.status
    if status in OK:
        return Outcome(result="delivered", status=status)
    said = answer.body.decode("utf-8", "replace")[:500]
    error = f"answered {status}: {said}" if said else f"answered {status}"
    if status == GONE:
        return Outcome(result="gone", status=status, error=error)
    if status in REDIRECTS:
        return Outcome(
            result="refused", status=status, error=f"answered {status}: redirects are not followed"
        )
    if status >= 500 or status in TRY_AGAIN or _is_rate_limit(answer):  # noqa: PLR2004 - server errors
        after_s = _retry_after_s(answer, now or datetime.now(UTC))
        return Outcome(result="retry", status=status, error=error, after_s=after_s)
    return Outcome(result="refused", status=status, error=error)


def public_address(url: str) -> str:
    """A public IP of the URL's host. Raises `ForbiddenTargetError`, `UnreachableError`."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise ForbiddenTargetError("webhooks go over https")
    return _public(parts.hostname or "", parts.port or 443)


def refuse_private_literal(url: str) -> None:
    """Raise `ForbiddenTargetError` where the URL itself shows that it is not public; asks no resolver."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise ForbiddenTargetError("webhooks go over https")
    host = (parts.hostname or "").rstrip(".")
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        raise ForbiddenTargetError(f"{host} is not a public address")
    try:
        _refuse_private(host)
    except ValueError:
        return  # a name: looked up when something is sent


def _public(host: str, port: int) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnreachableError(f"{host} was not found: {error}") from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        _refuse_private(address)
    return addresses[0]


def _refuse_private(address: str) -> None:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    for one in filter(None, (ip, mapped)):
        if not one.is_global or one.is_multicast:
            raise ForbiddenTargetError(f"{address} is not a public address")


def _is_rate_limit(answer: Answer) -> bool:
    """Whether a 403 only says "not now": GitHub's way."""
    limited = "retry-after" in answer.headers or answer.headers.get("x-ratelimit-remaining") == "0"
    return answer.status == FORBIDDEN and limited


def _retry_after_s(answer: Answer, now: datetime) -> float | None:
    given: Any = answer.headers.get("retry-after")
    reset: Any = answer.headers.get("x-ratelimit-reset")
    try:
        if given is not None and given.strip().isdigit():
            wait_s = float(given)
        elif given is not None:
            wait_s = (parsedate_to_datetime(given).astimezone(UTC) - now).total_seconds()
        elif reset is not None and answer.headers.get("x-ratelimit-remaining") == "0":
            wait_s = float(reset) - now.timestamp()
        else:
            return None
    except (ValueError, OverflowError, TypeError):
        return None
    return None if math.isnan(wait_s) else min(max(wait_s, 0.0), RETRY_AFTER_LIMIT_S)
