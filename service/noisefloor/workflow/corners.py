"""Corners: what it takes to attribute a settled job's losses is entered as jobs, where workers offer it."""

from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.attribution import Attribution, Corner
from noisefloor.contract.job import PRIORITIES, Git, JobSpec
from noisefloor.contract.worker import Wants
from noisefloor.gate.attribution import NOTICEABLE_DB
from noisefloor.store import tables
from noisefloor.workflow.attribute import splits
from noisefloor.workflow.evaluate import planned_cell, policy_of
from noisefloor.workflow.submit import enter


def measure_missing(session: Session, job: tables.Job) -> None:
    """Enter a job for each corner that nobody has measured, or was asked to, and a live worker can.

    Such a job explains this one and decides nothing. The caller holds the job's lock.
    """
    policy = policy_of(job).policy
    if not policy.compares or policy.on.environment_changed != "attribute":
        return
    wanted: dict[Wants, dict[str, plan.Cell]] = {}
    for loss, attribution in splits(session, job):
        for corner in _missing(attribution):
            wants = Wants(environment=corner.environment, commit=corner.sha)
            wanted.setdefault(wants, {})[loss.cell.id] = planned_cell(loss.cell)
    for wants, cells in wanted.items():
        spec = plan.again(
            JobSpec.model_validate(job.spec),
            tuple(cells.values()),
            name=f"attribution of {job.id}",
            policy=policy,
            git=Git(repository=job.git.get("repository"), sha=wants.commit),
        )
        spec = spec.replace(priority=min(PRIORITIES["bisect"], spec.priority))
        enter(session, project=job.project, spec=spec, wants=wants, explains=job.id)


def _missing(attribution: Attribution) -> list[Corner]:
    """The corners that a worker could measure, of what is a loss."""
    if attribution.total_db is not None and attribution.total_db <= NOTICEABLE_DB:
        return []
    square = attribution.square
    return [corner for corner in (square.old_in_new, square.new_in_old) if corner.offered]
