"""What a worker does to a shard: claim it, keep its lease, and the sweep of those that nobody keeps."""

from sqlalchemy.orm import Session

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.base import Value
from noisefloor.contract.job import CellStatus, Limits
from noisefloor.contract.lane import Isa
from noisefloor.contract.measurement import CellTask
from noisefloor.contract.subject import Subject
from noisefloor.contract.worker import Capabilities
from noisefloor.dispatch.port import Dispatch
from noisefloor.store import cells, jobs, shards
from noisefloor.workflow.settle import settle_if_ended

PROGRESS_LENGTH = 200


class Claim(Value):
    """A shard in a worker's hands. `attempt` is the fencing token of everything it reports.

    `commit`: the one whose files the subject is of, if a job names it and the subject is of files.
    `tries` above one says that the worker before lost its lease.
    """

    shard_id: str
    job_id: str
    attempt: int
    tries: int = 1
    isa: Isa
    threads: int
    torch: str | None = None
    commit: str | None = None
    subject: Subject
    cells: tuple[CellTask, ...]
    limits: Limits
    analysis: Analysis


def claim(session: Session, worker: str, takes: Capabilities) -> Claim | None:
    """Take the next shard, with the cells of it that have not ended and that the worker can run."""
    shard = shards.claim_next(session, worker, takes)
    if shard is None:
        return None
    jobs.mark_running(session, shard.job_id)
    mine = [
        cell
        for cell in cells.pending(session, shard.id)
        if takes.takes_all or (cell.engine in takes.engines and cell.device in takes.devices)
    ]
    mine[0].attempt = shard.attempt  # where a worker is that is lost before it recorded anything
    conditions = jobs.conditions(session, shard.job_id)
    subject = Subject.model_validate(mine[0].subject)
    return Claim.model_validate(
        {
            "shard_id": shard.id,
            "job_id": shard.job_id,
            "attempt": shard.attempt,
            "tries": shard.tries,
            "isa": shard.isa,
            "threads": shard.threads,
            "torch": shard.torch,
            "commit": shard.wants_commit or (conditions.sha if subject.is_of_a_commit else None),
            "subject": subject,
            "cells": [{"cell": cell.id, "scheme": cell.scheme, "lane": cell.lane} for cell in mine],
            "limits": conditions.limits,
            "analysis": conditions.analysis,
        }
    )


def heartbeat(session: Session, held: Claim, progress: str) -> bool | None:
    """Keep the lease. Says whether the job is to be cancelled, or None when the lease is lost."""
    return shards.heartbeat(session, held.shard_id, held.attempt, progress[:PROGRESS_LENGTH])


def give_back(session: Session, held: Claim, dispatch: Dispatch) -> None:
    """Queue what is left of the shard again: its worker stops, or has done what it can. It does not count."""
    shard = shards.fenced(session, held.shard_id, held.attempt)
    if shard is not None:
        shard.status = shards.QUEUED
        shard.tries -= 1
        shard.lease_until = shard.worker = shard.progress = None
        session.flush()
        dispatch.send(session, [shard.id])


def sweep(session: Session) -> None:
    """End the cell at which workers were lost as often as is allowed; the rest of its shard is queued again.

    Each of the rest has one try until one is recorded: a subject that kills every worker ends within so many.
    """
    for shard in shards.exhausted(session):
        jobs.hold(session, shard.job_id)
        first, *rest = cells.pending(session, shard.id)
        lost = next((cell for cell in (first, *rest) if cell.attempt == shard.attempt), first)
        lost.status = CellStatus.CRASHED
        lost.reason = f"the worker was lost {shard.tries} times in a row, at last while it was at this cell"
        shard.status = shards.QUEUED if rest else shards.DONE
        shard.tries -= 1
        shard.lease_until = shard.worker = shard.progress = None
        session.flush()
        settle_if_ended(session, shard.job_id)
