"""What was accepted or pinned."""

from fastapi import APIRouter

from noisefloor.api.dependencies import Cursor, Limit, ProjectName, ServiceDep
from noisefloor.contract.gate import BaselineRequest, BaselineView
from noisefloor.contract.resources import Page
from noisefloor.store import baselines
from noisefloor.store.session import reading, writing
from noisefloor.workflow.accept import mark, view

router = APIRouter(prefix="/v1/projects/{project}/baselines", tags=["baselines"])


@router.post("", status_code=201)
def post_baseline(project: ProjectName, asked: BaselineRequest, to: ServiceDep) -> BaselineView:
    """Accept regressions or pin results; verdicts that change with it change now."""
    with writing(to.engine, "accept") as session:
        row, changed = mark(session, project, asked)
        return view(row, changed)


@router.get("")
def list_baselines(
    project: ProjectName, to: ServiceDep, limit: Limit = 100, cursor: Cursor = None
) -> Page[BaselineView]:
    """What was accepted or pinned, newest first."""
    with reading(to.engine) as session:
        rows = baselines.mark_page(session, project, limit=limit + 1, before=cursor)
        views = tuple(view(row) for row in rows[:limit])
    return Page(items=views, next_cursor=views[-1].id if len(rows) > limit else None)
