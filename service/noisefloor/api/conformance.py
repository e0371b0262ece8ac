"""What was found of torch's kernels, over all projects: a kernel is the machine's, not a project's."""

from typing import Annotated

from fastapi import APIRouter, Query

from noisefloor.api.dependencies import Cursor, Limit, ServiceDep
from noisefloor.contract.base import Text
from noisefloor.contract.lane import Engine, Isa
from noisefloor.contract.resources import ConformanceView, Page
from noisefloor.contract.scheme import Grid
from noisefloor.store import conformance
from noisefloor.store.session import reading
from noisefloor.workflow.views import conformance_view

router = APIRouter(tags=["conformance"])


@router.get("/v1/conformance")
def list_conformance(
    to: ServiceDep,
    op: Annotated[Text, Query(description="a glob")] = "*",
    engine: Annotated[Engine | None, Query()] = None,
    isa: Annotated[Isa | None, Query()] = None,
    mode: Annotated[Grid | None, Query(description="the grid of cases")] = None,
    torch: Annotated[Text | None, Query(description="its version, as an environment has it")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ConformanceView]:
    """The latest result of each operator × engine × ISA cap × grid, newest first."""
    with reading(to.engine) as session:
        found = conformance.latest(
            session,
            op=op,
            engine=engine,
            isa=isa,
            mode=mode,
            torch=torch,
            limit=limit + 1,
            before=cursor,
        )
        views = tuple(conformance_view(one) for one in found[:limit])
    return Page(items=views, next_cursor=views[-1].id if len(found) > limit else None)
