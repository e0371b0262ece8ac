"""Submit: a job, its cells and shards, and their dispatch, in one transaction."""

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import event, insert
from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.base import Value
from noisefloor.contract.job import CellStatus, JobSpec, JobStatus
from noisefloor.contract.verdict import Verdict
from noisefloor.contract.worker import Wants
from noisefloor.dispatch.port import Dispatch
from noisefloor.errors import (
    IdempotencyConflictError,
    NotFoundError,
)
from noisefloor.identity import canonical, cell_identity, cell_key, digest
from noisefloor.settings import Settings
from noisefloor.store import cells, clock, jobs, shards, suites
from noisefloor.store.session import new_id
from noisefloor.store.tables import Cell, IdempotencyKey, Job, Shard
from noisefloor.telemetry import logs, traces
from noisefloor.workflow.announce import announce
from noisefloor.workflow.check import check, check_room, invalid
from noisefloor.workflow.policies import resolve

NOTHING = Wants()

log = logging.getLogger(__name__)


def submit(
    session: Session,
    *,
    project: str,
    spec: JobSpec,
    settings: Settings,
    dispatch: Dispatch,
    idempotency_key: str | None = None,
) -> Job:
    """Accept a job, or raise the error that says which field is wrong."""

    def accept() -> Job:
        check(spec, project=project, settings=settings)
        check_room(session, plan.count(spec), settings)
        job, shard_ids = enter(session, project=project, spec=spec)
        announce(session, job)
        dispatch.send(session, shard_ids)
        return job

    cells.hold_queue(session)
    return once(session, project=project, key=idempotency_key, request=spec, act=accept)


def once(session: Session, *, project: str, key: str | None, request: Value, act: Callable[[], Job]) -> Job:
    """What the request makes; for a key that was used before, what it made then.

    Raises `IdempotencyConflictError` where the key came with another request.
    """
    now = clock.now()
    jobs.ensure_project(session, project, now)
    if key is None:
        return act()
    request_digest = digest(canonical([project, request.model_dump(mode="json", by_alias=True)]))
    jobs.lock_project(session, project)  # the same key sent twice at once is one job
    first = jobs.first_answer(session, project, key)
    if first is not None:
        return _same_answer(session, first, request_digest)
    job = act()
    made = {"project": project, "key": key, "request_digest": request_digest}
    session.add(IdempotencyKey(**made, job_id=job.id, created_at=now))
    return job


def enter(
    session: Session,
    *,
    project: str,
    spec: JobSpec,
    wants: Wants = NOTHING,
    explains: str | None = None,
    bisection: str | None = None,
) -> tuple[Job, list[str]]:
    """The job with its cells queued, and the ids of its shards.

    `wants`: what its workers must offer. `explains`: the job whose losses this one looks into. `bisection`:
    the one that it is a step of.
    """
    if spec.suite is not None and suites.find(session, project, spec.suite) is None:
        raise invalid("suite", f"project {project!r} has no suite {spec.suite!r}", spec.suite, None)
    now = clock.now()
    policy = resolve(session, project, spec.policy, now.date())
    job = Job(
        id=new_id(),
        project=project,
        name=spec.name,
        spec=spec.model_dump(mode="json", by_alias=True),
        git=spec.git.model_dump(mode="json"),
        status=JobStatus.QUEUED,
        verdict=Verdict.PENDING,
        verdict_message="not measured yet",
        policy=policy.model_dump(mode="json"),
        cancel_requested=False,
        branch=spec.git.branch,
        sha=spec.git.sha,
        measured_at=spec.git.committed_at or now,
        created_at=now,
        explains=explains,
        bisection_id=bisection,
    )
    session.add(job)
    session.flush()
    _trace(session, job)
    with traces.span("plan", job.id):
        return job, _add_shards(session, job, spec, wants)


def _trace(session: Session, job: Job) -> None:
    """Begin the job's trace when it is there for others to see."""
    job_id, project = job.id, job.project

    def committed(_session: Session) -> None:
        with logs.about(job=job_id):
            log.info("accepted for project %s", project)
        traces.begin(job_id, project=project)

    event.listen(session, "after_commit", committed, once=True)


def _same_answer(session: Session, first: IdempotencyKey, request_digest: str) -> Job:
    if first.request_digest != request_digest:
        raise IdempotencyConflictError(
            f"Idempotency-Key {first.key!r} was used for another job, {first.job_id}"
        )
    job = jobs.find(session, first.project, first.job_id)
    if job is None:
        raise NotFoundError(f"job {first.job_id} is gone")
    return job


def _add_shards(session: Session, job: Job, spec: JobSpec, wants: Wants) -> list[str]:
    """All in two statements, however many cells there are."""
    of_shards: list[dict[str, Any]] = []
    of_cells: list[dict[str, Any]] = []
    for planned in plan.shards(plan.cells(spec)):
        shard_id = new_id()
        shard = {
            "id": shard_id,
            "job_id": job.id,
            "project": job.project,
            "isa": planned.isa,
            "threads": planned.threads,
            "torch": spec.torch,
            "memory_gib": spec.limits.memory_gib,
            "wants_environment": wants.environment,
            "wants_commit": wants.commit,
            "priority": spec.priority,
            "status": shards.QUEUED,
        }
        of_shards.append(shard)
        of_cells += [_cell(job, cell, shard_id) for cell in planned.cells]
    session.execute(insert(Shard), of_shards)
    session.execute(insert(Cell), of_cells)
    return [shard["id"] for shard in of_shards]


def _cell(job: Job, cell: plan.Cell, shard_id: str) -> dict[str, Any]:
    return {
        "id": new_id(),
        "job_id": job.id,
        "shard_id": shard_id,
        "ordinal": cell.ordinal,
        "subject": cell.subject.model_dump(mode="json", by_alias=True),
        "scheme": cell.scheme.model_dump(mode="json", by_alias=True),
        "lane": cell.lane.model_dump(mode="json"),
        "lineage": _lineage(job.project, cell),
        "engine": cell.lane.engine,
        "device": cell.lane.device,
        "status": CellStatus.QUEUED,
    }


def _lineage(project: str, cell: plan.Cell) -> str:
    identity = cell_identity(
        project=project, subject=cell.subject, quantization=cell.scheme.quantization, lane=cell.lane
    )
    return cell_key(identity)
