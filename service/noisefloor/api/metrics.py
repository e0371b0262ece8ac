"""Metrics for Prometheus: what the database says at this moment, and what this process counts of itself."""

import logging
from collections.abc import Iterator, Sequence
from typing import Annotated

import anyio
from anyio import to_thread
from fastapi import APIRouter, Header, Response
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from noisefloor.api.census import Census, gauge
from noisefloor.api.dependencies import ServiceDep
from noisefloor.telemetry.metrics import PROCESS

ANSWER_S = 5.0  # Prometheus waits for ten

FORMS = {form: {"schema": {"type": "string"}} for form in ("text/plain", "application/openmetrics-text")}

router = APIRouter(tags=["health"])
log = logging.getLogger(__name__)
_asking = anyio.CapacityLimiter(4)


@router.get("/metrics", response_class=Response, responses={200: {"content": FORMS}})
async def metrics(to: ServiceDep, accept: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
    """Metrics as text, in the form that the scraper accepts; without a database those of the process."""
    found = await _counted(to.census) if to.census is not None else []
    try:
        encode, media_type = choose_encoder(accept)
    except (TypeError, ValueError):  # it takes any version for a number
        encode, media_type = choose_encoder("")
    return Response(encode(Together(found)), media_type=media_type)


async def _counted(there: Census) -> list[Metric]:
    up, found = "noisefloor_database_up", list[Metric]()
    try:
        with anyio.fail_after(ANSWER_S):
            found = await to_thread.run_sync(there.read, abandon_on_cancel=True, limiter=_asking)
    except (SQLAlchemyError, TimeoutError) as error:
        log.warning("the database could not be counted: %s", str(error) or f"no answer within {ANSWER_S:g} s")
    return [gauge(up, "Whether the database answered.", [((), float(bool(found)))]), *found]


class Together(Collector):
    """What this process counts, and what was found in the database."""

    def __init__(self, found: Sequence[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._found
        yield from PROCESS.collect()
