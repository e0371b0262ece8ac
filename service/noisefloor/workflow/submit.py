"""Submit: a job, its cells and shards, and their dispatch, in one transaction."""

import difflib
import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import event, insert
from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.base import Value
from noisefloor.contract.job import GIB, CellStatus, JobSpec, JobStatus, Limits
from noisefloor.contract.operators import OPERATORS, operators
from noisefloor.contract.resources import FieldError
from noisefloor.contract.scheme import CONFORMANCE, OPERATOR_MODES, OPS
from noisefloor.contract.subject import Subject
from noisefloor.contract.verdict import Verdict
from noisefloor.contract.worker import Wants
from noisefloor.dispatch.port import Dispatch
from noisefloor.errors import (
    IdempotencyConflictError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    QueueFullError,
    TooManyCellsError,
)
from noisefloor.identity import canonical, cell_identity, cell_key, digest
from noisefloor.settings import Settings
from noisefloor.store import cells, clock, jobs, shards, suites
from noisefloor.store.session import new_id
from noisefloor.store.tables import Cell, IdempotencyKey, Job, Shard
from noisefloor.telemetry import logs, traces
from noisefloor.workflow.announce import announce
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


def check(spec: JobSpec, *, project: str, settings: Settings) -> None:
    """What the contract alone cannot refuse: sizes, settings, and keys that contradict the address."""
    check_plan(spec, project=project, settings=settings)
    for number, subject in enumerate(spec.subjects):
        _check_import(subject.import_, f"subjects.{number}.import", settings)
        _check_files(subject, f"subjects.{number}", settings)
        _check_sizes(subject, f"subjects.{number}", spec.limits)


def _check_operator(named: str | None, field: str) -> None:
    if named is not None and not operators(named):
        near = difflib.get_close_matches(named, OPERATORS, n=1, cutoff=0.5)
        message = "no operator is called that" + (f"; did you mean {near[0]!r}?" if near else "")
        raise invalid(field, message, named, list(OPERATORS))


def _check_flows(spec: JobSpec, number: int) -> None:
    """Operators take schemes of a flow of their own, and models take others."""
    subject = spec.subjects[number]
    own = OPS if subject.operator is not None else CONFORMANCE if subject.conformance is not None else None
    field = f"subjects.{number}.schemes" if subject.schemes is not None else "schemes"
    for place, scheme in enumerate(plan.schemes(spec, subject)):
        if (scheme.flow if scheme.flow in OPERATOR_MODES else None) != own:
            raise invalid(
                f"{field}.{place}.flow",
                f"flow {own or scheme.flow} is that of operators, and subjects.{number} is {subject.label}: "
                "give each subject schemes of its own",
                scheme.flow,
                [own] if own is not None else None,
            )


def _check_sizes(subject: Subject, field: str, limits: Limits) -> None:
    sized: dict[str, tuple[int, Any]] = {}
    if subject.operator is not None:
        sized["operator.shape"] = subject.operator.size_bytes, list(subject.operator.shape)
    for part in ("calibration", "evaluation"):
        inputs = getattr(subject.data, part, None)
        if inputs is not None:
            name = f"data.{part}" + (".shape" if inputs.shape is not None else "")
            sized[name] = inputs.size_bytes, [list(spec.shape) for spec in inputs.tensors]
    for name, (size_bytes, value) in sized.items():
        if size_bytes > limits.memory_bytes:
            message = f"{size_bytes / GIB:.1f} GiB; limits.memory_gib is {limits.memory_gib:g}"
            raise invalid(f"{field}.{name}", message, value, None)


def check_plan(spec: JobSpec, *, project: str, settings: Settings) -> None:
    """The project and the operators that the job names, its number of cells, and that each scheme fits."""
    if spec.project is not None and spec.project != project:
        raise invalid("project", f"the address says {project!r}", spec.project, [project])
    for number, subject in enumerate(spec.subjects):
        _check_operator(subject.conformance, f"subjects.{number}.conformance")
    count = plan.count(spec)
    if count == 0:
        raise invalid("schemes", "the job has no cell: give schemes to the job or to each subject", [], None)
    if count > settings.max_cells:
        raise TooManyCellsError(
            f"the job has {count} cells; this service takes at most {settings.max_cells} in one job",
            [FieldError(field="lanes", message=f"{count} cells", value=count, accepted=[settings.max_cells])],
        )
    for number in range(len(spec.subjects)):
        _check_flows(spec, number)


def check_room(session: Session, count: int, settings: Settings) -> None:
    """Raise `QueueFullError` where so many more cells would wait than may. The caller holds the queue."""
    waiting = cells.count_queued(session)
    if waiting and waiting + count > settings.max_queued_cells:
        raise QueueFullError(
            f"{waiting} cells wait already, and the job has {count}; "
            f"this service lets {settings.max_queued_cells} wait: try again later"
        )


def _check_import(path: str | None, field: str, settings: Settings) -> None:
    if path is None:
        return
    module = path.partition(":")[0]
    if not any(module == allowed or module.startswith(f"{allowed}.") for allowed in settings.import_allow):
        raise NotAllowedError(
            f"{module!r} is not among the modules that this service imports (NOISEFLOOR_IMPORT_ALLOW)",
            [
                FieldError(
                    field=field, message="not allowed", value=path, accepted=list(settings.import_allow)
                )
            ],
        )


def _check_files(subject: Subject, field: str, settings: Settings) -> None:
    sources = {
        "weights": subject.weights,
        "data.calibration": subject.data and subject.data.calibration,
        "data.evaluation": subject.data and subject.data.evaluation,
    }
    named = {name: source.safetensors for name, source in sources.items() if source and source.safetensors}
    if named and settings.files is None:
        raise NotAllowedError(
            "this service reads no files: its operator named no folder for them (NOISEFLOOR_FILES)",
            [
                FieldError(
                    field=f"{field}.{name}.safetensors", message="not allowed", value=file, accepted=[]
                )
                for name, file in named.items()
            ],
        )


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


def invalid(field: str, message: str, value: object, accepted: list[str] | None) -> InvalidRequestError:
    """The error that names one refused field."""
    error = FieldError(field=field, message=message, value=value, accepted=accepted)
    return InvalidRequestError(f"{field}: {message}", [error])
