"""Gates: the verdict of a commit over the jobs measured at it. The answer is worked out when it is read."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from noisefloor.contract.gate import GateJob, GateRequest, GateView, JobPolicy
from noisefloor.contract.job import JobStatus, unknown_sha
from noisefloor.contract.policy import Policy
from noisefloor.contract.verdict import Verdict
from noisefloor.store import checks, clock, jobs, tables
from noisefloor.store.session import new_id
from noisefloor.workflow.evaluate import evaluate
from noisefloor.workflow.policies import resolve


def open_gate(session: Session, project: str, asked: GateRequest) -> tables.Gate:
    """Keep a question about a commit, with the policy as it is now."""
    now = clock.now()
    policy = None
    if asked.policy is not None:
        policy = resolve(session, project, asked.policy, now.date()).model_dump(mode="json")
    jobs.ensure_project(session, project, now)
    row = tables.Gate(
        id=new_id(),
        project=project,
        sha=asked.sha,
        expect=list(asked.expect),
        policy=policy,
        created_at=now,
        deadline=now + timedelta(seconds=asked.timeout_s),
    )
    session.add(row)
    session.flush()
    return row


def answer(session: Session, gate: tables.Gate, now: datetime) -> GateView:
    """The answer as of now: of jobs of one suite or name the latest counts, of those without a name each.

    A suite whose check was opened at the commit counts without a job, too.
    """
    policy = JobPolicy.model_validate(gate.policy).policy if gate.policy is not None else None
    counted: dict[str, tables.Job] = {}
    for job in jobs.at_commit(session, gate.project, gate.sha):
        counted[checks.suite_of(session, job.id) or job.name or job.id] = job
    told = [_told(session, gate, job, policy, now) for job in counted.values()]
    there = counted.keys() | {job.name for job in counted.values()}
    due = {check.suite: check for check in checks.at_commit(session, gate.project, gate.sha)}
    expected = dict.fromkeys((*gate.expect, *due))
    told += [_absent(gate, name, due.get(name), now) for name in expected if name not in there]
    verdict, message = _conclude(gate, told, now)
    return GateView(
        id=gate.id,
        sha=gate.sha,
        verdict=verdict,
        message=message,
        jobs=tuple(told),
        created_at=gate.created_at,
        deadline=gate.deadline,
    )


def _told(
    session: Session, gate: tables.Gate, job: tables.Job, policy: Policy | None, now: datetime
) -> GateJob:
    if not JobStatus(job.status).settled or job.finished_at is None:
        verdict = Verdict.PENDING if now < gate.deadline else Verdict.ERROR
        late = "" if now < gate.deadline else ", and the gate's limit has passed"
        return GateJob(name=job.name, job=job.id, verdict=verdict, message=f"the job is {job.status}{late}")
    if job.finished_at > gate.deadline:
        message = f"settled after the gate's limit, as {job.verdict}"
        return GateJob(name=job.name, job=job.id, verdict=Verdict.ERROR, message=message)
    if policy is None:
        return GateJob(name=job.name, job=job.id, verdict=Verdict(job.verdict), message=job.verdict_message)
    judgement = evaluate(session, job, policy, now.date()).judgement
    return GateJob(name=job.name, job=job.id, verdict=judgement.verdict, message=judgement.message)


def _absent(gate: tables.Gate, name: str, check: tables.Check | None, now: datetime) -> GateJob:
    verdict = Verdict.PENDING if now < gate.deadline else Verdict.ERROR
    message = f"no job of this name or suite measures {unknown_sha(gate.sha)}"
    if check is not None and not check.open:
        verdict, message = Verdict.ERROR, f"the suite's check ended, and {message}"
    return GateJob(name=name, job=None, verdict=verdict, message=message)


def _conclude(gate: tables.Gate, told: Sequence[GateJob], now: datetime) -> tuple[Verdict, str]:
    if not told:
        verdict = Verdict.PENDING if now < gate.deadline else Verdict.ERROR
        return verdict, f"no job measures {unknown_sha(gate.sha)}"
    waiting = [one for one in told if one.verdict is Verdict.PENDING]
    worst = waiting[0] if waiting else max(told, key=lambda one: one.verdict.severity)
    name = worst.name or worst.job
    return worst.verdict, f"{name}: {worst.message}"
