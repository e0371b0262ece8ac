"""Hook: what an event of a repository starts, once."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from sqlalchemy.orm import Session

from noisefloor.ci.event import Again, Event, Head, Ignored
from noisefloor.contract.job import DEFAULT_PRIORITY, PRIORITIES, Git
from noisefloor.contract.suite import CheckOutcome, HookAnswer, Suite
from noisefloor.contract.verdict import Verdict
from noisefloor.dispatch.port import Dispatch
from noisefloor.errors import NoisefloorError
from noisefloor.settings import Settings
from noisefloor.store import cells, checks, clock, jobs, shards, suites, tables
from noisefloor.workflow.announce import open_check, tell_check
from noisefloor.workflow.cancel import cancel
from noisefloor.workflow.submit import submit
from noisefloor.workflow.suites import suite_of


def receive(
    session: Session, event: Event, *, delivery: str, digest: str, settings: Settings, dispatch: Dispatch
) -> HookAnswer:
    """Start what the event asks for. A delivery that comes again, under this id or another, does nothing."""
    if isinstance(event, Ignored):
        return HookAnswer(outcome="ignored", reason=event.reason)
    kept = [(row, suite_of(row)) for row in suites.of_repository(session, event.provider, event.repository)]
    if isinstance(event, Head):
        kept = [(row, suite) for row, suite in kept if _runs_on(suite, event)]
    if not kept:
        return HookAnswer(outcome="ignored", reason=f"no suite of {event.repository} runs on this")
    cells.hold_queue(session)  # before any check: a job that is posted holds the queue, and then its check
    new = checks.receive_once(
        session,
        provider=event.provider,
        delivery=delivery,
        digest=digest,
        received_at=clock.now(),
    )
    if not new:
        return HookAnswer(outcome="replayed", reason="this delivery was received before")
    hook = Hook(session, settings, dispatch)
    if isinstance(event, Head):
        found = [hook.head(row, suite, event) for row, suite in kept]
    else:
        found = [outcome for row, suite in kept if (outcome := hook.again(row, suite, event)) is not None]
    return HookAnswer(outcome="accepted", suites=tuple(found))


class Hook:
    """One delivery's effects, in one transaction."""

    def __init__(self, session: Session, settings: Settings, dispatch: Dispatch) -> None:
        self._session, self._settings, self._dispatch = session, settings, dispatch

    def head(self, row: tables.Suite, suite: Suite, head: Head) -> CheckOutcome:
        """A suite at a new commit."""
        check = open_check(self._session, row, suite, head)
        if check is None:
            self._hurry(row, suite, head)
            reason = f"{head.sha} is known to this suite"
            return CheckOutcome(project=row.project, suite=row.name, outcome="known", reason=reason)
        cancelled = self._cancel_older(suite, check, head)
        return self._start(row, suite, check, _urgency(suite, waited_for=head.event != "push")).replace(
            cancelled=cancelled
        )

    def again(self, row: tables.Suite, suite: Suite, again: Again) -> CheckOutcome | None:
        """A suite at a commit that it ran at before, if the event means it."""
        check = checks.at(
            self._session,
            project=row.project,
            suite=row.name,
            repository=suite.repository,
            sha=again.sha,
        )
        if check is None or (again.check is not None and again.check != check.id):
            return None
        check = checks.lock(self._session, check.id)
        if check.open:
            return CheckOutcome(project=row.project, suite=row.name, outcome="running", job=check.job_id)
        checks.reopen(self._session, check, timeout_s=suite.timeout_s)
        return self._start(row, suite, check, _urgency(suite, waited_for=True))

    def _start(self, row: tables.Suite, suite: Suite, check: tables.Check, priority: int) -> CheckOutcome:
        if suite.run == "external" or suite.job is None:
            tell_check(
                self._session, check, Verdict.PENDING, "results are to be posted by the repository's CI"
            )
            return CheckOutcome(project=row.project, suite=row.name, outcome="started")
        git = Git(
            repository=suite.repository, branch=check.branch, sha=check.sha, committed_at=check.committed_at
        )
        name = suite.job.name or row.name
        spec = suite.job.replace(git=git, suite=row.name, name=name, priority=priority)
        try:
            with self._session.begin_nested():
                job = submit(
                    self._session,
                    project=row.project,
                    spec=spec,
                    settings=self._settings,
                    dispatch=self._dispatch,
                )
        except NoisefloorError as error:
            check.open = False
            tell_check(self._session, check, Verdict.ERROR, f"could not evaluate: {error.detail}")
            return CheckOutcome(project=row.project, suite=row.name, outcome="failed", reason=error.detail)
        return CheckOutcome(project=row.project, suite=row.name, outcome="started", job=job.id)

    def _hurry(self, row: tables.Suite, suite: Suite, head: Head) -> None:
        """Where a push came before the pull request of its commit, its job has become urgent."""
        at = {"project": row.project, "suite": row.name, "repository": suite.repository, "sha": head.sha}
        check = checks.at(self._session, **at)
        if check is not None and check.open and check.job_id is not None:
            shards.hurry(self._session, check.job_id, _urgency(suite, waited_for=head.event != "push"))

    def _cancel_older(self, suite: Suite, check: tables.Check, head: Head) -> tuple[str, ...]:
        """Cancel what still measures older heads of the branch; nothing if this head is not the newest."""
        if head.line is None or (head.on_default_branch and not suite.cancel_older_on_default_branch):
            return ()
        others = [
            other
            for other in checks.on_line(
                self._session,
                project=check.project,
                suite=check.suite,
                repository=check.repository,
                line=head.line,
            )
            if other.id != check.id
        ]
        if any(_is_newer(other, head, others) for other in others):
            return ()
        cancelled = []
        for other in others:
            job = jobs.find(self._session, other.project, other.job_id) if other.job_id else None
            if other.open and job is not None:
                cancel(self._session, job)
                cancelled.append(job.id)
            elif other.open:
                checks.lock(self._session, other.id).open = False
                tell_check(
                    self._session, other, Verdict.ERROR, f"could not evaluate: {head.sha} came after it"
                )
        return tuple(cancelled)


def _urgency(suite: Suite, *, waited_for: bool) -> int:
    """The suite's own priority; where it has none, a gate's if a merge or somebody waits for the job."""
    own = suite.job.priority if suite.job is not None else DEFAULT_PRIORITY
    return PRIORITIES["gate"] if waited_for and own == DEFAULT_PRIORITY else own


def _runs_on(suite: Suite, head: Head) -> bool:
    return head.event in suite.events and any(fnmatchcase(head.into, glob) for glob in suite.branches)


def _is_newer(other: tables.Check, head: Head, line: Sequence[tables.Check]) -> bool:
    """Whether the other head came after this one: by who replaced whom, or else by the provider's clock."""
    if head.before == other.sha:
        return False
    after = {check.before: check for check in line if check.before is not None}
    successor, steps = after.get(head.sha), len(line)
    while successor is not None and steps:
        if successor.id == other.id:
            return True
        successor, steps = after.get(successor.sha), steps - 1
    return other.head_at is not None and head.at is not None and other.head_at > head.at
