"""Two commits side by side."""

from typing import Annotated

from fastapi import APIRouter, Path

from noisefloor.api.dependencies import Cursor, Limit, ProjectName, ServiceDep
from noisefloor.api.series import Filter
from noisefloor.contract.comparison import Comparison
from noisefloor.contract.job import Sha
from noisefloor.store.session import reading
from noisefloor.workflow.compare import compare

router = APIRouter(tags=["compare"])

ShaInPath = Annotated[
    Sha, Path(description="of a commit that was measured, or its first 7 characters and more")
]


@router.get("/v1/projects/{project}/compare/{base}...{head}")
def get_comparison(
    project: ProjectName,
    base: ShaInPath,
    head: ShaInPath,
    to: ServiceDep,
    where: Filter,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Comparison:
    """The series that both commits have, the largest losses first; SQNR, unless `metric` names another."""
    with reading(to.engine) as session:
        return compare(
            session, project=project, base=base, head=head, filters=where.wanted, limit=limit, after=cursor
        )
