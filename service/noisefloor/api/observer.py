"""What is seen of every request, whatever becomes of it: its count, its time, what a trace begins with."""

import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noisefloor.telemetry.metrics import REQUEST_DURATION, REQUESTS
from noisefloor.telemetry.traces import Arrival, arrival

METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
NO_ROUTE = "none"


class Observer:
    """ASGI middleware around everything else. Labels are bounded: templates of routes, never addresses."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count how it was answered."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        traceparent = Headers(scope=scope).get("traceparent")
        token = arrival.set(Arrival(at_ns=time.time_ns(), traceparent=traceparent))
        try:
            await self.app(scope, receive, observed)
        finally:
            arrival.reset(token)
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            route = getattr(scope.get("route"), "path", NO_ROUTE)
            REQUESTS.labels(route, method, status).inc()
            REQUEST_DURATION.labels(route, method).observe(time.perf_counter() - started_s)
