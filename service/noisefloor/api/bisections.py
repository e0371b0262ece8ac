"""Bisections: what loses a figure, measured step by step."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from noisefloor.api.dependencies import (
    Cursor,
    IdempotencyKey,
    Limit,
    ProjectName,
    Service,
    ServiceDep,
    found_job,
)
from noisefloor.api.document import LOCATED
from noisefloor.contract.base import Identifier
from noisefloor.contract.bisection import BisectionSpec, BisectionView
from noisefloor.contract.resources import Page
from noisefloor.errors import NotFoundError
from noisefloor.store import bisections, tables
from noisefloor.store.session import reading, writing
from noisefloor.workflow.bisections import end, start, view
from noisefloor.workflow.cancel import cancel

POLL_S = 0.25

router = APIRouter(prefix="/v1/projects/{project}/bisections", tags=["bisections"])


@router.post("", status_code=202, responses={202: LOCATED})
def post_bisection(
    project: ProjectName,
    asked: BisectionSpec,
    to: ServiceDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> BisectionView:
    """Look for what loses a figure, over environments, caps, layers or commits."""
    with writing(to.engine, "bisect") as session:
        row = start(
            session,
            project=project,
            asked=asked,
            settings=to.settings,
            dispatch=to.dispatch,
            idempotency_key=idempotency_key,
        )
        response.headers["Location"] = f"/v1/projects/{project}/bisections/{row.id}"
        return view(session, row)


@router.get("")
def list_bisections(
    project: ProjectName, to: ServiceDep, limit: Limit = 50, cursor: Cursor = None
) -> Page[BisectionView]:
    """Bisections, newest first."""
    with reading(to.engine) as session:
        rows = bisections.page(session, project, limit=limit + 1, before=cursor)
        views = tuple(view(session, row) for row in rows[:limit])
    return Page(items=views, next_cursor=views[-1].id if len(rows) > limit else None)


@router.get("/{bisection_id}")
def get_bisection(
    project: ProjectName,
    bisection_id: Identifier,
    to: ServiceDep,
    wait: Annotated[float, Query(ge=0, le=60)] = 0,
) -> BisectionView:
    """One bisection; with `wait`, as soon as it has ended or so many seconds have passed."""
    deadline = time.monotonic() + wait
    if wait and to.waiters.acquire(blocking=False):
        try:
            while not _view(to, project, bisection_id).status.settled and time.monotonic() < deadline:
                if to.stopping.wait(min(POLL_S, wait)):
                    break
        finally:
            to.waiters.release()
    return _view(to, project, bisection_id)


@router.post("/{bisection_id}/cancel", status_code=202)
def cancel_bisection(project: ProjectName, bisection_id: Identifier, to: ServiceDep) -> BisectionView:
    """End the bisection, and with it the steps that are being measured."""
    with writing(to.engine, "end_bisection") as session:
        open_steps = end(session, _found(session, project, bisection_id))
    for job_id in open_steps:
        with writing(to.engine, "cancel_step") as session:
            cancel(session, found_job(session, project, job_id))
    return _view(to, project, bisection_id)


def _view(to: Service, project: str, bisection_id: str) -> BisectionView:
    with reading(to.engine) as session:
        return view(session, _found(session, project, bisection_id))


def _found(session: Session, project: str, bisection_id: str) -> tables.Bisection:
    row = bisections.find(session, project, bisection_id)
    if row is None:
        raise NotFoundError(f"project {project!r} has no bisection {bisection_id}")
    return row
