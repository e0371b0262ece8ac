"""Jobs and cells."""

import logging
import time
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import SQLAlchemyError

from noisefloor.api.dependencies import (
    Cursor,
    IdempotencyKey,
    JobId,
    Limit,
    ProjectName,
    Service,
    ServiceDep,
    found_cell,
    found_job,
)
from noisefloor.api.document import LOCATED
from noisefloor.contract.attribution import AttributionView
from noisefloor.contract.base import Identifier, Text
from noisefloor.contract.job import JobSpec, JobStatus
from noisefloor.contract.layers import LayerView
from noisefloor.contract.resources import CellView, JobView, Page
from noisefloor.errors import NotFoundError, UnavailableError
from noisefloor.store import cells, jobs
from noisefloor.store.session import reading, writing
from noisefloor.workflow.attribute import attributions_of
from noisefloor.workflow.cancel import cancel, retry
from noisefloor.workflow.submit import submit
from noisefloor.workflow.views import cell_views, job_view, job_views, layer_view, result_rows

POLL_S = 0.25
KEEP_ALIVE_S = 10.0

router = APIRouter(prefix="/v1/projects/{project}/jobs", tags=["jobs"])
log = logging.getLogger(__name__)


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


@router.post("", status_code=202, responses={202: LOCATED})
def post_job(
    project: ProjectName,
    spec: JobSpec,
    to: ServiceDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Accept a job: subjects × schemes × lanes."""
    with writing(to.engine, "submit") as session:
        job = submit(
            session,
            project=project,
            spec=spec,
            settings=to.settings,
            dispatch=to.dispatch,
            idempotency_key=idempotency_key,
        )
        response.headers["Location"] = f"/v1/projects/{project}/jobs/{job.id}"
        return job_view(session, job)


@router.get("")
def list_jobs(
    project: ProjectName,
    to: ServiceDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: JobStatus | None = None,
    branch: Annotated[Text | None, Query()] = None,
    *,
    counts: bool | None = None,
) -> Page[JobView]:
    """Jobs, newest first.

    With `counts=true` without those that explain another or are a bisection's step; `false`: only those.
    """
    with reading(to.engine) as session:
        rows = jobs.page(
            session, project, limit=limit + 1, before=cursor, status=status, branch=branch, counts=counts
        )
        views = job_views(session, rows[:limit])
    return Page(items=views, next_cursor=views[-1].id if len(rows) > limit else None)


@router.get("/{job_id}")
def get_job(
    project: ProjectName, job_id: JobId, to: ServiceDep, wait: Annotated[float, Query(ge=0, le=60)] = 0
) -> JobView:
    """One job; with `wait`, as soon as it is settled or so many seconds have passed."""
    deadline = time.monotonic() + wait
    if wait and to.waiters.acquire(blocking=False):
        try:
            while not _view(to, project, job_id).status.settled and time.monotonic() < deadline:
                if to.stopping.wait(min(POLL_S, wait)):
                    break
        finally:
            to.waiters.release()
    with reading(to.engine) as session:
        job = found_job(session, project, job_id)
        view = job_view(session, job)
        return view.replace(results=result_rows(session, job))


@router.get("/{job_id}/events", response_class=EventStream)
def stream_events(project: ProjectName, job_id: JobId, to: ServiceDep) -> StreamingResponse:
    """The job's progress as server-sent events: `progress` on each change, `settled` at the end."""
    first = _view(to, project, job_id)
    if not to.waiters.acquire(blocking=False):
        raise UnavailableError(
            f"{to.settings.max_waiters} requests are waiting already; poll the job instead"
        )
    return EventStream(_events(to, first))


@router.get("/{job_id}/cells")
def list_cells(
    project: ProjectName, job_id: JobId, to: ServiceDep, limit: Limit = 100, cursor: Cursor = None
) -> Page[CellView]:
    """The job's cells in order, with their measurements and findings."""
    with reading(to.engine) as session:
        job = found_job(session, project, job_id)
        after = found_cell(session, job_id, cursor).ordinal if cursor else -1
        rows = cells.page(session, job_id, limit=limit + 1, after=after)
        views = cell_views(session, job, rows[:limit])
    return Page(items=views, next_cursor=views[-1].id if len(rows) > limit else None)


@router.get("/{job_id}/cells/{cell_id}")
def get_cell(project: ProjectName, job_id: JobId, cell_id: Identifier, to: ServiceDep) -> CellView:
    """One cell."""
    with reading(to.engine) as session:
        job = found_job(session, project, job_id)
        return cell_views(session, job, [found_cell(session, job_id, cell_id)])[0]


@router.get("/{job_id}/cells/{cell_id}/layers")
def get_layers(project: ProjectName, job_id: JobId, cell_id: Identifier, to: ServiceDep) -> LayerView:
    """Where in the model the cell's error comes from: each layer of each edge, and its sensitivity."""
    with reading(to.engine) as session:
        found_job(session, project, job_id)
        return layer_view(session, found_cell(session, job_id, cell_id))


@router.get("/{job_id}/attribution")
def get_attribution(project: ProjectName, job_id: JobId, to: ServiceDep) -> tuple[AttributionView, ...]:
    """What the job's losses against baselines are put down to: the code, or the environment."""
    with reading(to.engine) as session:
        return attributions_of(session, found_job(session, project, job_id))


@router.post("/{job_id}/cancel", status_code=202)
def cancel_job(project: ProjectName, job_id: JobId, to: ServiceDep) -> JobView:
    """End the job's queued cells now and its running ones within seconds."""
    with writing(to.engine, "cancel") as session:
        job = cancel(session, found_job(session, project, job_id))
        return job_view(session, job)


@router.post("/{job_id}/retry", status_code=202)
def retry_job(project: ProjectName, job_id: JobId, to: ServiceDep) -> JobView:
    """Measure the cells again that failed or were cancelled."""
    with writing(to.engine, "retry") as session:
        job = retry(session, found_job(session, project, job_id), to.settings, to.dispatch)
        return job_view(session, job)


def _view(to: Service, project: str, job_id: str) -> JobView:
    with reading(to.engine) as session:
        return job_views(session, [found_job(session, project, job_id)])[0]


def _events(to: Service, view: JobView) -> Iterator[str]:
    try:
        sent, sent_at = "", time.monotonic()
        while True:
            text = view.model_dump_json()
            if text != sent:
                name = "settled" if view.status.settled else "progress"
                yield f"event: {name}\ndata: {text}\n\n"
                sent, sent_at = text, time.monotonic()
            elif time.monotonic() - sent_at > KEEP_ALIVE_S:
                yield ": still there\n\n"
                sent_at = time.monotonic()
            if view.status.settled or to.stopping.wait(POLL_S):
                return
            view = _view(to, view.project, view.id)
    except (NotFoundError, SQLAlchemyError) as error:
        # the answer has begun, so that it cannot become a problem any more
        log.warning("a stream of job %s ended: %s", view.id, error)
    finally:
        to.waiters.release()
