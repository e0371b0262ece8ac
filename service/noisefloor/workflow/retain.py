"""Retain: delete what a project no longer keeps, a bounded batch a transaction."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from noisefloor.contract.project import Pruned
from noisefloor.store import housekeeping, projects, retention
from noisefloor.store.jobs import lock_project
from noisefloor.store.retention import Side

LAYERS_AT_ONCE = 200
JOBS_AT_ONCE = 5  # each may have ten thousand cells
COUNTED = 1_000_000
TIDIED_AT_ONCE = 1000
MESSAGES = "unheard messages"


def prune(session: Session, project: str, now: datetime) -> Pruned:
    """Delete one batch: layers before jobs, those of pull requests before the others. Nothing left: zeros."""
    lock_project(session, project)
    layers = _layers(session, project, now, LAYERS_AT_ONCE)
    if layers:
        retention.delete_layers(session, layers)
        return Pruned(layers=len(layers))
    gone = _jobs(session, project, now, JOBS_AT_ONCE)
    if gone:
        retention.delete_jobs(session, gone)
    return Pruned(jobs=len(gone))


def due(session: Session, project: str, now: datetime) -> Pruned:
    """What may go now; what is a baseline of these jobs alone goes after them. Their layers count too."""
    layers, gone = _layers(session, project, now, COUNTED), _jobs(session, project, now, COUNTED)
    return Pruned(layers=len(layers), jobs=len(gone))


def tidy(session: Session, now: datetime) -> dict[str, int]:
    """Delete one batch of what nobody asks for any more, by its name. Nothing left: an empty answer."""
    gone = {one.name: one.delete(session, limit=TIDIED_AT_ONCE) for one in housekeeping.stale(now)}
    gone[MESSAGES] = housekeeping.delete_messages(session, limit=TIDIED_AT_ONCE)
    return {name: count for name, count in gone.items() if count}


def untidy(session: Session, now: datetime) -> dict[str, int]:
    """What of it may go now."""
    found = {one.name: one.count(session) for one in housekeeping.stale(now)}
    return {**found, MESSAGES: housekeeping.count_messages(session)}


def _layers(session: Session, project: str, now: datetime, limit: int) -> list[str]:
    policy = projects.retention(session, project)
    sides = ((True, policy.layers_of_pull_requests_days), (False, policy.layers_days))
    found: list[str] = []
    for side in _sides(session, project, now, sides):
        found += retention.due_layers(session, side, limit=limit - len(found)) if len(found) < limit else []
    return found


def _jobs(session: Session, project: str, now: datetime, limit: int) -> list[str]:
    policy = projects.retention(session, project)
    sides = ((True, policy.jobs_of_pull_requests_days), (False, policy.jobs_days))
    found: list[str] = []
    for side in _sides(session, project, now, sides):
        found += retention.due_jobs(session, side, limit=limit - len(found)) if len(found) < limit else []
    return found


def _sides(
    session: Session, project: str, now: datetime, days: Sequence[tuple[bool, int | None]]
) -> Iterator[Side]:
    default_branch = projects.settings(session, project).default_branch
    for pull_requests, kept_days in days:
        if kept_days is not None:
            yield Side(
                project=project,
                default_branch=default_branch,
                pull_requests=pull_requests,
                before=now - timedelta(days=kept_days),
            )
