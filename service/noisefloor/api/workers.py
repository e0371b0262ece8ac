"""Workers: who is there, what each can measure, and what it does."""

from fastapi import APIRouter

from noisefloor.api.dependencies import ServiceDep
from noisefloor.contract.resources import Page
from noisefloor.contract.worker import WorkerView
from noisefloor.store.session import reading
from noisefloor.workflow.views import worker_views

router = APIRouter(tags=["workers"])


@router.get("/v1/workers")
def list_workers(to: ServiceDep) -> Page[WorkerView]:
    """The workers that were heard of in the last seconds."""
    with reading(to.engine) as session:
        return Page(items=worker_views(session))
