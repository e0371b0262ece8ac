"""What a worker does to a shard: claim it, keep its lease, and the sweep of those that nobody keeps."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.base import Value
from noisefloor.contract.job import CellStatus, Git, Limits
from noisefloor.contract.lane import Isa
from noisefloor.contract.measurement import CellTask
from noisefloor.contract.plugins import changes_with_commits
from noisefloor.contract.scheme import Scheme
from noisefloor.contract.subject import Subject
from noisefloor.contract.worker import Capabilities
from noisefloor.dispatch.port import Dispatch
from noisefloor.store import cells, jobs, shards, tables
from noisefloor.store.tables import Shard
from noisefloor.workflow.record import end_shard

PROGRESS_LENGTH = 200


class Claim(Value):
    """A shard in a worker's hands. `attempt` is the fencing token of everything it reports.

    `git`: of the commit whose files it is to be measured from, where a commit may change what is measured.
    `tries` above one says that the worker before lost its lease.
    """

    shard_id: str
    job_id: str
    attempt: int
    tries: int = 1
    isa: Isa
    threads: int
    torch: str | None = None
    git: Git = Git()
    subject: Subject
    cells: tuple[CellTask, ...]
    limits: Limits
    analysis: Analysis
    lease_s: float = shards.LEASE_S

    @property
    def commit(self) -> str | None:
        """The commit that it is to be measured from, if any."""
        return self.git.sha


def claim(
    session: Session, worker: str, takes: Capabilities, lease_s: float = shards.LEASE_S
) -> Claim | None:
    """Take the next shard, with the cells of it that have not ended and that the worker can run."""
    sweep(session)
    while (shard := shards.claim_next(session, worker, takes, lease_s)) is not None:
        jobs.mark_running(session, shard.job_id)
        conditions = jobs.conditions(session, shard.job_id)
        if not conditions.cancel_requested:
            return _claim(session, shard, takes, conditions, lease_s)
        # the cancel met this shard while another was claiming it, and was not heard
        _end(session, shard, CellStatus.CANCELLED, "cancelled before it ran")
    return None


def _claim(
    session: Session, shard: Shard, takes: Capabilities, conditions: jobs.Conditions, lease_s: float
) -> Claim:
    mine = [
        cell
        for cell in cells.pending(session, shard.id)
        if takes.takes_all or (cell.engine in takes.engines and cell.device in takes.devices)
    ]
    mine[0].attempt = shard.attempt  # where a worker is that is lost before it recorded anything
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
            "git": _git(shard, conditions, subject, mine),
            "subject": subject,
            "cells": [{"cell": cell.id, "scheme": cell.scheme, "lane": cell.lane} for cell in mine],
            "limits": conditions.limits,
            "analysis": conditions.analysis,
            "lease_s": lease_s,
        }
    )


def _git(shard: Shard, conditions: jobs.Conditions, subject: Subject, mine: Iterable[tables.Cell]) -> Git:
    if shard.wants_commit is not None:
        return Git(repository=conditions.git.repository, sha=shard.wants_commit)
    schemes, metrics = (Scheme.model_validate(cell.scheme) for cell in mine), conditions.analysis.metrics
    matters = any(changes_with_commits(subject, scheme, metrics) for scheme in schemes)
    return conditions.git if matters else Git()


def heartbeat(session: Session, held: Claim, progress: str) -> bool | None:
    """Keep the lease. Says whether the job is to be cancelled, or None when the lease is lost."""
    return shards.heartbeat(session, held.shard_id, held.attempt, progress[:PROGRESS_LENGTH], held.lease_s)


def give_back(session: Session, held: Claim, dispatch: Dispatch) -> None:
    """Queue what is left of the shard again: its worker stops, or has done what it can. It does not count."""
    shard = shards.fenced(session, held.shard_id, held.attempt)
    if shard is None:
        return
    shard.tries -= 1
    if _requeue(session, shard):
        dispatch.send(session, [shard.id])


def sweep(session: Session) -> None:
    """Queue shards again that were lost with their worker.

    The cell at which workers were lost as often as is allowed ends. Each of the rest of its shard has one try
    until one is recorded: a subject that kills every worker ends within so many.
    """
    for shard in shards.lost(session):
        if shard.tries >= shards.MAX_TRIES:
            jobs.hold(session, shard.job_id)
            pending = cells.pending(session, shard.id)
            lost = next((cell for cell in pending if cell.attempt == shard.attempt), pending[0])
            lost.status = CellStatus.CRASHED
            lost.reason = (
                f"the worker was lost {shard.tries} times in a row, at last while it was at this cell"
            )
            shard.tries -= 1
            session.flush()
        _requeue(session, shard)


def _requeue(session: Session, shard: Shard) -> bool:
    """Queue what is left of a held shard, if anything is and is still wanted. Says whether it is queued."""
    jobs.hold(session, shard.job_id)  # a cancel that waits for the job finds the shard queued
    if jobs.conditions(session, shard.job_id).cancel_requested or not cells.any_pending(session, shard.id):
        _end(session, shard, CellStatus.CANCELLED, "cancelled while it ran")
        return False
    shard.status = shards.QUEUED
    shard.lease_until = shard.worker = shard.progress = None
    session.flush()
    return True


def _end(session: Session, shard: Shard, status: CellStatus, reason: str) -> None:
    """End the cells of a held shard that have not ended, and the shard."""
    end_shard(session, shard_id=shard.id, attempt=shard.attempt, status=status, reason=reason)
