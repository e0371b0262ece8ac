"""Any order of all that happens to jobs, on both databases: after each step every promise holds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from hypothesis import Phase
from hypothesis import settings as running
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session
from tests.ci.events import REPOSITORY, sha
from tests.ci.suites import WHSEC, suite, with_secrets
from tests.ledger import Ledger
from tests.measuring import TAKES_ALL
from tests.samples import result, spec

from noisefloor.ci.event import Again, Head
from noisefloor.ci.transport import Outcome
from noisefloor.contract.delivery import Webhook
from noisefloor.contract.gate import BaselineRequest
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.suite import Suite
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import ConflictError, StaleTokenError
from noisefloor.settings import Settings
from noisefloor.store import shards, tables
from noisefloor.store.session import reading, writing
from noisefloor.workflow import deliver
from noisefloor.workflow.accept import mark
from noisefloor.workflow.cancel import cancel, retry
from noisefloor.workflow.execute import Claim, claim, give_back, heartbeat, sweep
from noisefloor.workflow.hook import receive
from noisefloor.workflow.record import end_shard, record
from noisefloor.workflow.submit import submit
from noisefloor.workflow.suites import put_suite
from noisefloor.workflow.webhooks import put_webhook

DISPATCH = LocalDispatch()
WORKERS = {
    "all": TAKES_ALL,
    "phone": TAKES_ALL.replace(engines=("qnnpack",), takes_all=False),
    "server": TAKES_ALL.replace(engines=("x86", "onednn"), isas=("native", "avx2"), takes_all=False),
}
LANES = (
    {"engine": ["x86"]},
    {"engine": ["qnnpack", "x86", "onednn"]},
    {"engine": ["qnnpack", "x86"], "isa": ["native", "avx2"]},
)
MOST_JOBS = 6
WHICH = st.integers(min_value=0, max_value=11)


def measured(cell: str) -> CellResult:
    return result(cell)


def below(cell: str) -> CellResult:
    return result(cell, 29.0)


def failed(cell: str) -> CellResult:
    return result(cell, status=CellStatus.FAILED, reason="broken", measurements=())


class Life(RuleBasedStateMachine):
    """Users, workers, providers and time, each doing what it may at any moment."""

    engine: ClassVar[Engine]
    given: ClassVar[Settings]

    @initialize()
    def begin(self) -> None:
        self.ledger = Ledger()
        self.held: list[Claim] = []
        self.jobs: list[str] = []
        self.heads = 0
        with writing(self.engine, "test") as session:
            for table in reversed(tables.Base.metadata.sorted_tables):
                session.execute(delete(table))
            kept = Suite.model_validate(suite())
            put_suite(session, project="demo", name="int8", suite=kept, settings=self.given)
            webhook = Webhook.model_validate({"secret": WHSEC, "url": "https://hooks.example"})
            put_webhook(session, project="demo", name="hook", webhook=webhook, settings=self.given)
        for lanes in range(len(LANES)):
            self.submit(None, lanes, urgent=False)

    @property
    def room(self) -> bool:
        return len(self.jobs) < MOST_JOBS

    @precondition(lambda self: self.room)
    @rule(key=st.sampled_from([None, "a", "b"]), lanes=st.integers(0, len(LANES) - 1), urgent=st.booleans())
    def submit(self, key: str | None, lanes: int, *, urgent: bool) -> None:
        chosen = LANES[lanes] if key is None else LANES["ab".index(key) + 1]
        asked = spec(lanes=chosen, priority=90 if urgent and key is None else 50)
        with writing(self.engine, "test") as session:
            job = submit(
                session,
                project="demo",
                spec=asked,
                settings=self.given,
                dispatch=DISPATCH,
                idempotency_key=key,
            )
        self._answered(key or f"post {len(self.jobs)}", job.id)

    @precondition(lambda self: self.room)
    @rule()
    def head(self) -> None:
        """A new head of the branch, which supersedes the ones before it."""
        self.heads += 1
        event = Head(
            provider="github",
            event="push",
            repository=REPOSITORY,
            sha=sha(self.heads),
            branch="topic",
            into="topic",
            at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self.heads),
        )
        self._received(event, f"head {self.heads}")

    @precondition(lambda self: self.heads and self.room)
    @rule(which=WHICH)
    def measure_again(self, which: int) -> None:
        number = which % self.heads + 1
        self._received(Again(provider="github", repository=REPOSITORY, sha=sha(number)), f"again {which}")

    @rule(worker=st.sampled_from(sorted(WORKERS)))
    def claim(self, worker: str) -> None:
        with writing(self.engine, "test") as session:
            sweep(session)
            held = claim(session, worker, WORKERS[worker])
        if held is not None:
            self.held.append(held)

    @precondition(lambda self: self.held)
    @rule(which=WHICH)
    def heartbeat(self, which: int) -> None:
        held = self._claim(which)
        holds = self._holds(held)
        with writing(self.engine, "test") as session:
            assert (heartbeat(session, held, "at it") is not None) == holds

    @precondition(lambda self: self.held)
    @rule(which=WHICH, number=st.integers(1, 3), answer=st.sampled_from([measured, measured, below, failed]))
    def record(self, which: int, number: int, answer: Callable[[str], CellResult]) -> None:
        """By whoever holds the shard, or held it once; of cells that may have ended already."""
        held = self._claim(which)
        for cell in (*held.cells, held.cells[0])[-number:]:
            with self._fenced(held) as session:
                record(session, shard_id=held.shard_id, attempt=held.attempt, result=answer(cell.cell))

    @precondition(lambda self: self.held)
    @rule(which=WHICH, answer=st.sampled_from([measured, below]))
    def finish(self, which: int, answer: Callable[[str], CellResult]) -> None:
        self.record(which, number=4, answer=answer)

    @precondition(lambda self: self.held)
    @rule(which=WHICH, status=st.sampled_from([None, CellStatus.CANCELLED, CellStatus.UNSUPPORTED]))
    def let_go(self, which: int, status: CellStatus | None) -> None:
        """Give the shard back, or end all that is left of it."""
        held = self._claim(which)
        if status is None:
            with writing(self.engine, "test") as session:
                give_back(session, held, DISPATCH)
            return
        with self._fenced(held) as session:
            end_shard(session, shard_id=held.shard_id, attempt=held.attempt, status=status, reason="ended")

    @rule()
    def leases_run_out(self) -> None:
        with writing(self.engine, "test") as session:
            lost = update(tables.Shard).where(tables.Shard.status == shards.RUNNING)
            session.execute(lost.values(lease_until=0))

    @precondition(lambda self: self.jobs)
    @rule(which=WHICH, deed=st.sampled_from(["cancel", "retry", "accept"]))
    def user(self, which: int, deed: str) -> None:
        """What a user asks for of a job. Refused where its state does not allow it."""
        job_id = self.jobs[which % len(self.jobs)]
        try:
            with writing(self.engine, "test") as session:
                job = session.get_one(tables.Job, job_id)
                if deed == "cancel":
                    cancel(session, job)
                elif deed == "retry":
                    retry(session, job, self.given, DISPATCH)
                else:
                    mark(session, "demo", BaselineRequest(kind="accept", job=job_id, reason="known"))
        except ConflictError:
            return
        if deed == "retry":
            with reading(self.engine) as session:
                self.ledger.retried(session)

    @rule(delivered=st.booleans())
    def deliver(self, *, delivered: bool) -> None:
        outcome = Outcome(result="delivered" if delivered else "retry", status=200 if delivered else 500)
        with writing(self.engine, "test") as session:
            parcel = deliver.claim(session, ("github", "webhook"))
            if parcel is not None:
                deliver.conclude(session, parcel, outcome, tries=3, backoff_s=0.0, jitter=0.0)

    @invariant()
    def every_promise_holds(self) -> None:
        with reading(self.engine) as session:
            assert self.ledger.violations(session) == []

    def _answered(self, request: str, job_id: str) -> None:
        self.ledger.answered(request, job_id)
        if job_id not in self.jobs:
            self.jobs.append(job_id)

    def _received(self, event: Head | Again, delivery: str) -> None:
        """The same delivery twice, as providers do: the second time it does nothing."""
        for _ in range(2):
            with writing(self.engine, "test") as session:
                answer = receive(
                    session,
                    event,
                    delivery=delivery,
                    digest=delivery,
                    settings=self.given,
                    dispatch=DISPATCH,
                )
            for started in answer.suites:
                if started.job is not None:
                    self._answered(delivery, started.job)
        assert answer.outcome == "replayed"

    def _claim(self, which: int) -> Claim:
        """Mostly one that holds its shard; sometimes any of the last."""
        holding = [held for held in self.held if self._holds(held)] if which % 4 else []
        return (holding or self.held[-4:])[which % len(holding or self.held[-4:])]

    def _holds(self, held: Claim) -> bool:
        """Whether the claim is the last of its shard, and the shard is still in hand."""
        with reading(self.engine) as session:
            found = select(tables.Shard.attempt, tables.Shard.status).where(tables.Shard.id == held.shard_id)
            return tuple(session.execute(found).one()) == (held.attempt, shards.RUNNING)

    @contextmanager
    def _fenced(self, held: Claim) -> Iterator[Session]:
        """A transaction that only the holder of a shard gets through."""
        holds = self._holds(held)
        try:
            with writing(self.engine, "test") as session:
                yield session
        except StaleTokenError:
            assert not holds
        else:
            assert holds


def test_every_promise_holds_in_any_order_of_events(engine: Engine, settings: Settings) -> None:
    machine = type("Life", (Life,), {"engine": engine, "given": with_secrets(settings)})
    bounded = running(
        max_examples=12,
        stateful_step_count=40,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],  # a failure is told at once, and not after minutes of making it smaller
    )
    run(machine, settings=bounded)
