"""Bisections: posted, shown, ended. Their steps are entered by `workflow.bisection`."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.bisection import BisectionSpec, BisectionStatus, BisectionView
from noisefloor.contract.job import PRIORITIES, Git, JobSpec
from noisefloor.contract.plugins import changes_with_commits
from noisefloor.contract.policy import Policy
from noisefloor.contract.resources import FieldError
from noisefloor.contract.scheme import Scheme
from noisefloor.dispatch.port import Dispatch
from noisefloor.errors import ConflictError, IdempotencyConflictError, NoisefloorError
from noisefloor.gate.bisect import Search
from noisefloor.gate.environments import Environments
from noisefloor.gate.steps import without_layers
from noisefloor.history.environments import field_words
from noisefloor.identity import canonical, digest, environment_key
from noisefloor.settings import Settings
from noisefloor.store import bisections, cells, clock, jobs, shards, tables
from noisefloor.store.session import new_id
from noisefloor.store.upsert import insert_missing
from noisefloor.workflow import offers
from noisefloor.workflow.bisection import State, conclude, proceed
from noisefloor.workflow.check import check, check_room, invalid
from noisefloor.workflow.losses import Target, target
from noisefloor.workflow.waiting import waiting_for

TITLE_LENGTH = 100
ENDS = 2


def start(
    session: Session,
    *,
    project: str,
    asked: BisectionSpec,
    settings: Settings,
    dispatch: Dispatch,
    idempotency_key: str | None = None,
) -> tables.Bisection:
    """Accept a bisection and queue its first step, or raise the error that says which field is wrong."""
    cells.hold_queue(session)
    now = clock.now()
    jobs.ensure_project(session, project, now)
    request_digest = digest(canonical(asked.model_dump(mode="json", by_alias=True)))
    if idempotency_key is not None:
        jobs.lock_project(session, project)  # the same key sent twice at once is one bisection
        first = bisections.by_key(session, project, idempotency_key)
        if first is not None:
            return _same(first, request_digest)
    if asked.job is not None:
        _check(asked.job, project, settings)
    found = target(session, project, asked)
    if asked.of is not None:  # what was measured elsewhere may name what is not for this service
        check(found.spec, project=project, settings=settings)
    check_room(session, plan.count(found.spec), settings)
    _check_fits(found.spec, asked)
    row = tables.Bisection(
        id=new_id(),
        project=project,
        spec=asked.model_dump(mode="json", by_alias=True),
        status=BisectionStatus.RUNNING,
        message="",
        state={},
        idempotency_key=idempotency_key,
        request_digest=request_digest,
        created_at=now,
    )
    state = State(
        title=found.title[:TITLE_LENGTH] or row.id,
        spec=_quiet(found.spec),
        over=asked.over,
        sha=found.spec.git.sha if _changes_with_commits(found.spec) else None,
        below_db=found.below_db,
        had=found.had,
        search=_search(session, found, asked),
    )
    session.add(row)
    session.flush()
    entered = proceed(session, row, state).jobs.values()
    dispatch.send(session, [shard.id for shard in shards.of_job(session, list(entered))])
    return row


def view(session: Session, row: tables.Bisection) -> BisectionView:
    """A bisection with its steps so far."""
    state, status = State.model_validate(row.state), BisectionStatus(row.status)
    open_steps = [] if status.settled else [job.id for job in bisections.open_steps(session, row.id)]
    return BisectionView(
        id=row.id,
        project=row.project,
        status=status,
        message=row.message,
        waiting_for=next(iter(waiting_for(session, open_steps).values()), None),
        spec=BisectionSpec.model_validate(row.spec),
        steps=state.shown(),
        found=state.result() if status is BisectionStatus.DONE else None,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def end(session: Session, row: tables.Bisection) -> list[str]:
    """Enter no step any more. Gives the jobs to cancel then, each in a transaction of its own.

    A step that settles holds its job and asks for its bisection: nobody holds them the other way round.
    """
    held = bisections.lock(session, row.id)
    if held is not None and not BisectionStatus(held.status).settled:
        conclude(held, BisectionStatus.CANCELLED, "cancelled")
        session.flush()
    return [job.id for job in bisections.open_steps(session, row.id)]


def _same(first: tables.Bisection, request_digest: str) -> tables.Bisection:
    if first.request_digest != request_digest:
        raise IdempotencyConflictError(
            f"Idempotency-Key {first.idempotency_key!r} was used for another bisection, {first.id}"
        )
    return first


def _check(spec: JobSpec, project: str, settings: Settings) -> None:
    """As a job that is posted, with fields that are named where they stand."""
    try:
        check(spec, project=project, settings=settings)
    except NoisefloorError as error:
        fields = [FieldError(**{**dict(one), "field": f"job.{one.field}"}) for one in error.errors]
        raise type(error)(error.detail, fields) from None


def _check_fits(spec: JobSpec, asked: BisectionSpec) -> None:
    field = "of" if asked.job is None else "job"
    kernel = next((subject.label for subject in spec.subjects if subject.conformance is not None), None)
    refusal = f"{kernel} is judged by its cases, and has no decibels" if kernel is not None else None
    if asked.over == "layers":
        refusal = refusal or without_layers(spec)
    if asked.over == "environments" and len(spec.lanes.isa) * len(spec.lanes.threads) > 1:
        refusal = refusal or "over environments takes a job of one isa and one number of threads"
    if asked.over == "commits" and not _changes_with_commits(spec):
        refusal = refusal or "nothing in it is the repository's: no commit changes what it measures"
    if refusal is not None:
        raise invalid(field, refusal, asked.of, None)


def _changes_with_commits(spec: JobSpec) -> bool:
    return any(
        changes_with_commits(cell.subject, cell.scheme, spec.analysis.metrics) for cell in plan.cells(spec)
    )


def _search(session: Session, found: Target, asked: BisectionSpec) -> Search | Environments | None:
    if asked.over == "layers":
        return None
    if asked.over == "commits":
        return Search(over="commits", names=_commits(found, asked), below_db=found.below_db)
    if asked.over == "environments":
        return _environments(session, found)
    caps = offers.caps(session, found.spec)
    if len(caps) < ENDS:
        offered = f"only the cap {caps[0]}" if caps else "no lane of the job"
        raise ConflictError(f"the workers that are there offer {offered}: there is nothing between")
    return Search(over="isa", names=caps, below_db=found.below_db)


def _commits(found: Target, asked: BisectionSpec) -> tuple[str, ...]:
    """The commits from the good one to the bad one: as listed, or as the job's git has them."""
    git = found.spec.git
    line = asked.commits or ((*reversed(git.ancestors), git.sha) if git.sha is not None else ())
    if not line:
        raise invalid("commits", "the job names no commit: list them, the oldest first", None, None)
    first = _place(line, "good", asked.good or (None if asked.commits else found.good_sha), 0)
    last = _place(line, "bad", asked.bad, len(line) - 1)
    if last <= first:
        raise invalid("bad", "does not come after the good commit", line[last], list(line[first + 1 :][:5]))
    return line[first : last + 1]


def _place(line: Sequence[str], field: str, sha: str | None, default: int) -> int:
    if sha is None:
        return default
    at = [place for place, one in enumerate(line) if one.startswith(sha)]
    if len(at) != 1:
        message = f"is {'several' if at else 'none'} of the {len(line)} commits from {line[0]} to {line[-1]}"
        raise invalid(field, message, sha, None)
    return at[0]


def _environments(session: Session, found: Target) -> Environments:
    offered = offers.environments(session, found.spec)
    if len(offered) < ENDS:
        one = "one environment" if offered else "no environment that can measure the job"
        raise ConflictError(f"the workers that are there offer {one}: it takes two to differ")
    documents = {environment_key(one): one.model_dump(mode="json") for one in offered}
    now = clock.now()
    rows = [{"key": key, "document": one, "first_seen_at": now} for key, one in documents.items()]
    insert_missing(session, tables.Environment, rows)
    return Environments(
        over="environments",
        names=tuple(documents),
        titles={key: _told_apart(one, list(documents.values())) for key, one in documents.items()},
        below_db=found.below_db,
        documents=tuple(documents.values()),
    )


def _told_apart(document: dict[str, object], all_of_them: Sequence[dict[str, object]]) -> str:
    """The fields of an environment that are not the same in all of them."""
    differing = (
        field for field, value in document.items() if any(one.get(field) != value for one in all_of_them)
    )
    return ", ".join(f"{field} {field_words(document[field])}" for field in differing)[:500]


def _quiet(spec: JobSpec) -> JobSpec:
    """The job as a step: it measures no commit of its own, decides nothing, and lets others go first."""
    quiet = spec.replace(project=None, git=Git(), suite=None, policy=Policy(), priority=PRIORITIES["bisect"])
    return quiet.replace(
        schemes=_without_floors(quiet.schemes),
        subjects=tuple(
            subject.replace(schemes=subject.schemes and _without_floors(subject.schemes))
            for subject in quiet.subjects
        ),
    )


def _without_floors(schemes: Sequence[Scheme]) -> tuple[Scheme, ...]:
    return tuple(scheme.replace(floor_db={}) for scheme in schemes)
