"""What endpoints are given."""

import threading
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from noisefloor.api.census import Census
from noisefloor.contract.base import Identifier, Name
from noisefloor.dispatch.port import Dispatch
from noisefloor.errors import NotFoundError
from noisefloor.settings import Settings
from noisefloor.store import cells, jobs, series, tables


@dataclass(frozen=True, kw_only=True)
class Service:
    """What the application is made of."""

    settings: Settings
    engine: Engine
    dispatch: Dispatch
    census: Census | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    waiters: threading.BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "waiters", threading.BoundedSemaphore(self.settings.max_waiters))


async def service(request: Request) -> Service:
    """The service that the application was made with. Waits for no thread: health must not, either."""
    found: Service = request.app.state.service
    return found


async def raw_body(request: Request) -> bytes:
    """The bytes as they came: those that were signed, or in a form that only the route knows."""
    return await request.body()


ServiceDep = Annotated[Service, Depends(service)]
RawBody = Annotated[bytes, Depends(raw_body)]
ProjectName = Annotated[Name, Path(description="namespace of series and jobs")]
JobId = Annotated[Identifier, Path()]
Limit = Annotated[int, Query(ge=1, le=500)]
IdempotencyKey = Annotated[str | None, Header(max_length=200, pattern=r"^[\x21-\x7e]+$")]
Cursor = Annotated[Identifier | None, Query()]


def found_job(session: Session, project: str, job_id: str) -> tables.Job:
    """The job, or the 404 that names it."""
    job = jobs.find(session, project, job_id)
    if job is None:
        raise NotFoundError(f"project {project!r} has no job {job_id}")
    return job


def found_cell(session: Session, job_id: str, cell_id: str) -> tables.Cell:
    """The cell, or the 404 that names it."""
    cell = cells.find(session, job_id, cell_id)
    if cell is None:
        raise NotFoundError(f"job {job_id} has no cell {cell_id}")
    return cell


def found_series(session: Session, project: str, key: str) -> tables.Series:
    """The series, or the 404 that names it."""
    row = series.find(session, project, key)
    if row is None:
        raise NotFoundError(f"project {project!r} has no series {key}")
    return row
