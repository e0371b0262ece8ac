"""Health: open to everybody, and silent about everything else."""

import logging

from fastapi import APIRouter

from noisefloor.api.dependencies import ServiceDep
from noisefloor.errors import SettingsError, UnavailableError
from noisefloor.store import schema

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(to: ServiceDep) -> dict[str, str]:
    """The database answers, at the schema of the code, and can be written. Why not is for the log alone."""
    try:
        schema.require_usable(to.engine)
    except (SettingsError, UnavailableError) as error:
        log.error("not ready: %s", error.detail)  # noqa: TRY400 - the sentence says it all
        raise UnavailableError("the database cannot be used; the service's log says why") from None
    return {"status": "ready"}
