"""The worker: slots that claim shards, hand them to runners, and record what comes back. Imports no torch."""

import logging
import os
import socket
import threading
from types import TracebackType
from typing import Self

from sqlalchemy import Engine

from noisefloor.contract.job import CellStatus
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import StaleTokenError
from noisefloor.settings import Settings
from noisefloor.store.session import writing
from noisefloor.workflow.execute import Claim, claim, give_back, heartbeat, sweep
from noisefloor.workflow.record import end_shard, record
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.pool import Runners
from noisefloor_workers.runner.supervisor import Runner, RunnerUnavailable

IDLE_S = 1.0

log = logging.getLogger(__name__)


class Worker:
    """The embedded worker: threads of the service's process, each with runners of its own."""

    def __init__(self, *, engine: Engine, dispatch: LocalDispatch, settings: Settings) -> None:
        self._engine, self._dispatch, self._settings = engine, dispatch, settings
        self._stopping = threading.Event()
        name = f"{socket.gethostname()}:{os.getpid()}"
        self._threads = [
            threading.Thread(target=self._serve, args=(f"{name}:{slot}",), name=f"slot-{slot}")
            for slot in range(settings.slots)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self._dispatch.attached = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._dispatch.attached = False
        self._dispatch.wake()
        for thread in self._threads:
            thread.join()

    def _serve(self, name: str) -> None:
        with Runners() as runners:
            try:
                runners.take("native", 1).start()
            except RunnerUnavailable:
                log.exception("slot %s: shards will end with this reason", name)
            while not self._stopping.is_set():
                try:
                    with writing(self._engine) as session:
                        sweep(session)
                        held = claim(session, name)
                    if held is None:
                        self._dispatch.wait_for_news(IDLE_S)
                    else:
                        self._measure(held, runners.take(held.isa, held.threads))
                except StaleTokenError as error:
                    log.warning("%s", error.detail)
                except Exception:
                    # Whatever it was, the shard's lease runs out and it is measured again; the slot goes on.
                    log.exception("slot %s", name)
                    self._stopping.wait(IDLE_S)

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
        )
        lease = Lease(self._engine, held, self._stopping)
        try:
            for result in runner.run(task, lease.keep):
                with writing(self._engine) as session:
                    record(session, shard_id=held.shard_id, attempt=held.attempt, result=result)
        except RunnerUnavailable as error:
            lease.end(CellStatus.CRASHED, f"no runner could be started: {error}")
            return
        if lease.cancelled:
            lease.end(CellStatus.CANCELLED, "cancelled while it ran")
        elif self._stopping.is_set():
            with writing(self._engine) as session:
                give_back(session, held)


class Lease:
    """A shard in hand: kept by a heartbeat, lost to a later attempt, ended by a cancel."""

    def __init__(self, engine: Engine, held: Claim, stopping: threading.Event) -> None:
        self._engine, self._held, self._stopping = engine, held, stopping
        self.cancelled = False

    def keep(self, progress: str) -> bool:
        """Extend the lease; False tells the runner to stop."""
        with writing(self._engine) as session:
            answer = heartbeat(session, self._held, progress)
        if answer is None:
            raise StaleTokenError(f"the lease of shard {self._held.shard_id} was lost")
        self.cancelled = answer
        return not self.cancelled and not self._stopping.is_set()

    def end(self, status: CellStatus, reason: str) -> None:
        """End what is left of the shard."""
        with writing(self._engine) as session:
            end_shard(
                session,
                shard_id=self._held.shard_id,
                attempt=self._held.attempt,
                status=status,
                reason=reason,
            )
