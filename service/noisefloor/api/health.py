"""Health: open to everybody, and silent about everything else."""

from fastapi import APIRouter
from sqlalchemy import select

from noisefloor.api.dependencies import ServiceDep
from noisefloor.errors import SettingsError, UnavailableError
from noisefloor.store import schema
from noisefloor.store.session import reading

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(to: ServiceDep) -> dict[str, str]:
    """The database answers, at the schema of the code."""
    try:
        schema.require_current(to.engine)
    except SettingsError as error:
        raise UnavailableError(error.detail) from None
    with reading(to.engine) as session:
        session.execute(select(1))
    return {"status": "ready"}
