"""The kind of route that pages are: a browser gets an error as a page, others as everywhere else."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from noisefloor.dashboard.rendering import rendered
from noisefloor.errors import NotFoundError


class PageRoute(APIRoute):
    """A route whose "not found" is a page for whoever accepts HTML."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint, with its 404 rendered."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except (NotFoundError, RequestValidationError) as error:
                if "text/html" not in request.headers.get("accept", ""):
                    raise
                detail = (
                    error.detail
                    if isinstance(error, NotFoundError)
                    else "the address is not one of this service"
                )
                return rendered("not_found.html", status_code=NotFoundError.status, detail=detail)

        return answer
