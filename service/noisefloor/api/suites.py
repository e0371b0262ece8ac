"""Suites: named jobs, and the events of a repository that they run on."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from sqlalchemy.orm import Session

from noisefloor.api.dependencies import Limit, ProjectName, ServiceDep
from noisefloor.contract.base import Name
from noisefloor.contract.resources import Page
from noisefloor.contract.suite import Suite, SuiteView
from noisefloor.errors import NotFoundError
from noisefloor.store import suites, tables
from noisefloor.store.session import reading, writing
from noisefloor.workflow.suites import put_suite, suite_view

router = APIRouter(prefix="/v1/projects/{project}/suites", tags=["suites"])

SuiteName = Annotated[Name, Path(description="what the status beside a commit is called after noisefloor/")]


@router.put("/{name}")
def put(project: ProjectName, name: SuiteName, suite: Suite, to: ServiceDep) -> SuiteView:
    """Keep a suite, in place of the one of this name."""
    with writing(to.engine, "suite") as session:
        return put_suite(session, project=project, name=name, suite=suite, settings=to.settings)


@router.get("/{name}")
def get(project: ProjectName, name: SuiteName, to: ServiceDep) -> SuiteView:
    """One suite."""
    with reading(to.engine) as session:
        return suite_view(_found(session, project, name))


@router.delete("/{name}", status_code=204)
def delete(project: ProjectName, name: SuiteName, to: ServiceDep) -> None:
    """Forget a suite: no event starts it any more. What it has started goes on, and is told."""
    with writing(to.engine, "forget_suite") as session:
        session.delete(_found(session, project, name))


@router.get("")
def list_suites(
    project: ProjectName, to: ServiceDep, limit: Limit = 100, cursor: Annotated[Name | None, Query()] = None
) -> Page[SuiteView]:
    """Suites by name."""
    with reading(to.engine) as session:
        rows = suites.page(session, project, limit=limit + 1, after=cursor)
        views = tuple(suite_view(row) for row in rows[:limit])
    return Page(items=views, next_cursor=views[-1].name if len(rows) > limit else None)


def _found(session: Session, project: str, name: str) -> tables.Suite:
    row = suites.find(session, project, name)
    if row is None:
        raise NotFoundError(f"project {project!r} has no suite {name!r}")
    return row
