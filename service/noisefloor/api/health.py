"""Health: open to everybody, and silent about everything else."""

import logging

import anyio
from anyio import to_thread
from fastapi import APIRouter

from noisefloor.api.dependencies import ServiceDep
from noisefloor.errors import SettingsError, UnavailableError
from noisefloor.store import schema

READY_S = 2.0

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])
# Threads of their own: requests that hang in the database hold none of them.
_asking = anyio.CapacityLimiter(4)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(to: ServiceDep) -> dict[str, str]:
    """The database answers soon, at the code's schema, can be written, and the process was not told to stop.

    Why the database cannot be used is for the log alone.
    """
    if to.stopping.is_set():
        raise UnavailableError("the service is stopping")
    try:
        with anyio.fail_after(READY_S):
            await to_thread.run_sync(
                schema.require_usable, to.engine, abandon_on_cancel=True, limiter=_asking
            )
    except (SettingsError, UnavailableError) as error:
        log.error("not ready: %s", error.detail)  # noqa: TRY400 - the sentence says it all
        raise UnavailableError("the database cannot be used; the service's log says why") from None
    except TimeoutError:
        raise UnavailableError(f"the database did not answer within {READY_S:g} s") from None
    return {"status": "ready"}
