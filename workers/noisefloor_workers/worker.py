"""The worker: slots that claim shards, hand them to runners, and record what comes back. Imports no torch."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.worker import Capabilities, WorkerState
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.dispatch.port import Dispatch, News
from noisefloor.errors import StaleTokenError
from noisefloor.settings import Settings
from noisefloor.store import clock, workers
from noisefloor.store.session import NoAnswer, writing
from noisefloor.store.shards import LEASE_S
from noisefloor.workflow.execute import Claim, claim, give_back, heartbeat
from noisefloor.workflow.record import end_shard, record
from noisefloor_workers import watching
from noisefloor_workers.checkout import CheckoutFailedError, prepare
from noisefloor_workers.lanes.capabilities import everything
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.pool import Runners
from noisefloor_workers.runner.supervisor import Runner, RunnerUnavailable

IDLE_S = 1.0
PRESENCE_S = 2.0
RETRY_S = 0.2

__all__ = ["Worker", "everything", "news_for"]

log = logging.getLogger(__name__)


class Worker:
    """Threads that each keep runners of their own, and one that says that the worker is there.

    `runners` makes what a slot measures with; `lease_s` is how long a shard is its own without a heartbeat.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        dispatch: Dispatch,
        news: News,
        settings: Settings,
        ask: Callable[[], Capabilities],
        checkout: Sequence[str] = (),
        stopping: threading.Event | None = None,
        runners: Callable[[], Runners] = Runners,
        lease_s: float = LEASE_S,
    ) -> None:
        """`checkout`: the command that checks out the commit of a job before it is measured."""
        self._checkout = checkout
        self._engine, self._dispatch, self._news = engine, dispatch, news
        self._settings, self._ask = settings, ask
        self._runners, self._lease_s = runners, lease_s
        self._stopping = stopping or threading.Event()
        self._known, self._gone = threading.Event(), threading.Event()
        self._started_at = clock.now()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._slots = [
            threading.Thread(target=self._serve, args=(f"{self.name}:{slot}",), name=f"slot-{slot}")
            for slot in range(settings.slots)
        ]
        self._presence = threading.Thread(target=self._be_seen, name="presence")

    def __enter__(self) -> Self:
        self._news.__enter__()
        for thread in (self._presence, *self._slots):
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Drain: no shard is taken any more, and what is in hand is given back."""
        self._stopping.set()
        self._news.__exit__(kind, error, at)
        for slot in self._slots:
            slot.join()
        self._gone.set()
        self._presence.join()

    def _be_seen(self) -> None:
        """Find out what can be measured here, which takes torch's import, and then say so until the end."""
        self._capabilities = self._ask().shared(len(self._slots))
        self._known.set()
        while not self._gone.is_set():
            try:
                self._announce(WorkerState.DRAINING if self._stopping.is_set() else WorkerState.ACTIVE)
            except SQLAlchemyError as error:
                log.warning("the worker cannot say that it is there: %s", error)
            self._gone.wait(PRESENCE_S)
        with suppress(SQLAlchemyError), writing(self._engine, "leave") as session:
            workers.leave(session, self.name)

    def _announce(self, state: WorkerState) -> None:
        with writing(self._engine, "appear") as session:
            workers.announce(
                session,
                name=self.name,
                capabilities=self._capabilities.replace(clock_off_s=round(clock.off_s(), 3)),
                slots=len(self._slots),
                state=state,
                started_at=self._started_at,
            )

    def _serve(self, name: str) -> None:
        with self._runners() as runners:
            try:
                runners.take("native", 1).start(lambda _progress: not self._stopping.is_set())
            except Exception:  # the first shard tries again, and ends with the reason
                log.exception("slot %s: its runner cannot be started ahead", name)
            self._known.wait()
            while not self._stopping.is_set():
                try:
                    with writing(self._engine, "claim") as session:
                        held = claim(session, name, self._capabilities, self._lease_s)
                    if held is None:
                        self._news.wait(IDLE_S)
                    else:
                        with watching.shard(held, name):
                            self._work(held, runners)
                except StaleTokenError as error:
                    log.warning("%s", error.detail)
                except NoAnswer as error:
                    log.warning("slot %s: the database did not answer: %s", name, error)
                    self._stopping.wait(IDLE_S)
                except Exception:
                    # Whatever it was, the shard's lease runs out and it is measured again; the slot goes on.
                    log.exception("slot %s", name)
                    self._stopping.wait(IDLE_S)

    def _work(self, held: Claim, runners: Runners) -> None:
        if (refusal := self._refusal(held)) is not None:
            Lease(self._engine, held, self._stopping).end(CellStatus.UNSUPPORTED, refusal)
        else:
            self._measure(held, runners.take(held.isa, held.threads))

    def _measure(self, held: Claim, runner: Runner) -> None:
        task = ShardTask(
            subject=held.subject,
            isa=held.isa,
            threads=held.threads,
            cells=held.cells,
            limits=held.limits,
            analysis=held.analysis,
            import_allow=self._settings.import_allow,
            files=self._settings.files,
            git=held.git,
            told=held.commit if self._checkout else self._capabilities.commit,
        )
        lease = Lease(self._engine, held, self._stopping)
        try:
            for result in runner.run(task, lease.keep) if self._checked_out(held, lease) else ():
                with watching.cell(held, result):
                    lease.record(result)
        except CheckoutFailedError as error:
            lease.end(CellStatus.FAILED, f"commit {held.commit} cannot be checked out: {error.detail}")
            return
        except RunnerUnavailable as error:
            lease.end(CellStatus.CRASHED, f"no runner could be started: {error}")
            return
        if lease.cancelled:
            lease.end(CellStatus.CANCELLED, "cancelled while it ran")
            return
        # what was stopped, or has cells that need another worker; a shard that has ended is not ours any more
        with writing(self._engine, "give_back") as session:
            give_back(session, held, self._dispatch)

    def _checked_out(self, held: Claim, lease: "Lease") -> bool:
        """Have the commit's files there, where that is this worker's to do; False if it is stopped."""
        if not self._checkout or held.commit is None:
            return True
        return prepare(
            self._checkout,
            held.commit,
            lambda: lease.keep(f"checking out {held.commit}"),
            limit_s=held.limits.cell_timeout_s,
        )

    def _refusal(self, held: Claim) -> str | None:
        """Why a shard that only a worker who takes all was given cannot be measured here."""
        if held.torch is None or self._capabilities.meets(held.torch):
            return None
        has = self._capabilities.torch
        return f"the job asks for torch {held.torch}; this machine has {has}, and there is no other"


class Lease:
    """A shard in hand: kept by a heartbeat, lost to a later attempt, ended by a cancel.

    A database that does not answer is borne for as long as the lease holds.
    """

    def __init__(self, engine: Engine, held: Claim, stopping: threading.Event) -> None:
        self._engine, self._held, self._stopping = engine, held, stopping
        self._kept_s = time.monotonic()
        self.cancelled = False

    def keep(self, progress: str) -> bool:
        """Extend the lease; False tells the runner to stop."""
        began_s = time.monotonic()
        try:
            with writing(self._engine, "heartbeat") as session:
                answer = heartbeat(session, self._held, progress)
        except NoAnswer as error:
            self._bear(error)
        else:
            if answer is None:
                raise StaleTokenError(f"the lease of shard {self._held.shard_id} was lost")
            self.cancelled, self._kept_s = answer, began_s
        return not self.cancelled and not self._stopping.is_set()

    def record(self, result: CellResult) -> None:
        """Write one cell's result; what was written before its answer was lost stands once."""
        while True:
            try:
                with writing(self._engine, "record") as session:
                    return record(
                        session, shard_id=self._held.shard_id, attempt=self._held.attempt, result=result
                    )
            except NoAnswer as error:
                self._bear(error)
                time.sleep(RETRY_S)

    def _bear(self, error: Exception) -> None:
        if time.monotonic() - self._kept_s > self._held.lease_s:
            raise error
        log.warning("shard %s: the database did not answer: %s", self._held.shard_id, error)

    def end(self, status: CellStatus, reason: str) -> None:
        """End what is left of the shard."""
        with writing(self._engine, "end_shard") as session:
            end_shard(
                session,
                shard_id=self._held.shard_id,
                attempt=self._held.attempt,
                status=status,
                reason=reason,
            )


def news_for(engine: Engine, dispatch: Dispatch, devices: Sequence[str]) -> News:
    """How a worker hears of queued shards: in its own process on SQLite, from the database on PostgreSQL."""
    if isinstance(dispatch, LocalDispatch):
        return dispatch
    from noisefloor.dispatch.procrastinate import ProcrastinateNews

    return ProcrastinateNews(engine, queues=devices)
