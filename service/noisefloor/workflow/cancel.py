"""Cancel and retry."""

from sqlalchemy.orm import Session

from noisefloor.contract.job import RETRIED, CellStatus, JobSpec, JobStatus
from noisefloor.contract.verdict import Verdict
from noisefloor.dispatch.port import Dispatch
from noisefloor.errors import ConflictError
from noisefloor.settings import Settings
from noisefloor.store import absences, cells, jobs, shards
from noisefloor.store.tables import Job
from noisefloor.workflow.check import check, check_room
from noisefloor.workflow.settle import settle_if_ended
from noisefloor.workflow.verdict import give_verdict


def cancel(session: Session, job: Job) -> Job:
    """End what is queued now; what is running is ended by its worker's next heartbeat.

    A job that is settled stays as it is, and a second cancel changes nothing.
    """
    job = jobs.lock(session, job.id)
    if JobStatus(job.status).settled:
        return job
    job.cancel_requested = True
    session.flush()
    ids = shards.take_queued(session, job.id)
    cells.end_pending(session, status=CellStatus.CANCELLED, reason="cancelled before it ran", shard_ids=ids)
    settle_if_ended(session, job.id)
    return job


def retry(session: Session, job: Job, settings: Settings, dispatch: Dispatch) -> Job:
    """Queue the cells that failed once more; what was measured stays.

    Raises `ConflictError` while the job is running, when nothing failed, and for the step of a bisection,
    which has gone on since; `QueueFullError` where the queue has no room. A job that was measured elsewhere
    may name modules and files that are not for this service: it is held to its settings now.
    """
    cells.hold_queue(session)
    job = jobs.lock(session, job.id)
    if job.bisection_id is not None:
        raise ConflictError(
            f"job {job.id} is a step of bisection {job.bisection_id}, which went on without it: start another"
        )
    if not JobStatus(job.status).settled:
        raise ConflictError(
            f"job {job.id} is {job.status}; a job can be retried once it is done or cancelled"
        )
    check(JobSpec.model_validate(job.spec), project=job.project, settings=settings)
    failed = [cell for cell in cells.page(session, job.id) if cell.status in RETRIED]
    if not failed:
        raise ConflictError(f"job {job.id} has no cell that failed or was cancelled")
    check_room(session, len(failed), settings)
    for cell in failed:
        cell.status = CellStatus.QUEUED
        cell.reason = cell.traceback = cell.executed_engine = cell.attempt = cell.duration_s = None
        cell.files = None
    ids = {cell.shard_id for cell in failed}
    shards.queue_again(session, ids)
    cells.forget_findings(session, job.id)
    absences.replace(session, job.id, ())
    job.status = JobStatus.QUEUED
    job.cancel_requested = False
    job.finished_at = None
    give_verdict(session, job, Verdict.PENDING, f"{len(failed)} cells are measured again")
    dispatch.send(session, sorted(ids))
    return job
