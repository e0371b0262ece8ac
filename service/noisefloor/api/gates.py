"""Gates: may a commit pass."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response

from noisefloor.api.dependencies import ProjectName, Service, ServiceDep
from noisefloor.api.document import LOCATED
from noisefloor.contract.base import Identifier
from noisefloor.contract.gate import GateRequest, GateView
from noisefloor.contract.verdict import Verdict
from noisefloor.errors import NotFoundError
from noisefloor.store import clock, gates
from noisefloor.store.session import reading, writing
from noisefloor.workflow.gates import answer, open_gate

POLL_S = 0.25

router = APIRouter(prefix="/v1/projects/{project}/gates", tags=["gates"])


@router.post("", status_code=201, responses={201: LOCATED})
def post_gate(project: ProjectName, asked: GateRequest, to: ServiceDep, response: Response) -> GateView:
    """Ask whether a commit may pass, given the jobs measured at it."""
    with writing(to.engine, "gate") as session:
        gate = open_gate(session, project, asked)
        response.headers["Location"] = f"/v1/projects/{project}/gates/{gate.id}"
        return answer(session, gate, clock.now())


@router.get("/{gate_id}")
def get_gate(
    project: ProjectName, gate_id: Identifier, to: ServiceDep, wait: Annotated[float, Query(ge=0, le=60)] = 0
) -> GateView:
    """The answer; with `wait`, as soon as it is not pending or so many seconds have passed."""
    deadline = time.monotonic() + wait
    if wait and to.waiters.acquire(blocking=False):
        try:
            while _view(to, project, gate_id).verdict is Verdict.PENDING and time.monotonic() < deadline:
                if to.stopping.wait(min(POLL_S, wait)):
                    break
        finally:
            to.waiters.release()
    return _view(to, project, gate_id)


def _view(to: Service, project: str, gate_id: str) -> GateView:
    with reading(to.engine) as session:
        gate = gates.find(session, project, gate_id)
        if gate is None:
            raise NotFoundError(f"project {project!r} has no gate {gate_id}")
        return answer(session, gate, clock.now())
