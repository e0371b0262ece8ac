"""Results that were measured elsewhere."""

from fastapi import APIRouter, Response

from noisefloor.api.dependencies import IdempotencyKey, ProjectName, ServiceDep
from noisefloor.api.document import LOCATED
from noisefloor.contract.resources import JobView
from noisefloor.contract.results import MeasuredJob
from noisefloor.store.session import writing
from noisefloor.workflow.push import push
from noisefloor.workflow.views import job_view, result_rows

router = APIRouter(prefix="/v1/projects/{project}/results", tags=["results"])


@router.post("", status_code=201, responses={201: LOCATED})
def post_results(
    project: ProjectName,
    measured: MeasuredJob,
    to: ServiceDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Take a job that was measured elsewhere, and judge it."""
    with writing(to.engine, "push") as session:
        job = push(
            session,
            project=project,
            measured=measured,
            settings=to.settings,
            idempotency_key=idempotency_key,
        )
        response.headers["Location"] = f"/v1/projects/{project}/jobs/{job.id}"
        return job_view(session, job).replace(results=result_rows(session, job))
