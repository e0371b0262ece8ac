"""The keeper: a thread of the service that deletes what projects no longer keep, and what nobody asks for."""

import logging
import threading
from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from noisefloor.contract.project import Pruned, Retention
from noisefloor.store import clock, jobs, projects
from noisefloor.store.condition import DAMAGED
from noisefloor.store.session import is_damage, reading, writing
from noisefloor.workflow.retain import prune, tidy

SWEEP_S = 3600.0
PAUSE_S = 0.05  # between batches others write
STOP_S = 5.0

log = logging.getLogger(__name__)


class Keeper:
    """Sweeps when the service starts, and then each hour."""

    def __init__(self, engine: Engine, stopping: threading.Event | None = None) -> None:
        self._engine = engine
        self._stopping = stopping or threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(STOP_S)

    def sweep(self, now: datetime, only: str | None = None) -> None:
        """Delete all that is due in every project, or in one alone, until it is done or the service stops."""
        with reading(self._engine) as session:
            names = [
                name
                for name in jobs.projects(session)
                if only in {None, name} and projects.retention(session, name) != Retention()
            ]
        for name in names:
            while not self._stopping.is_set():
                with writing(self._engine, "prune") as session:
                    pruned = prune(session, name, now)
                if pruned == Pruned():
                    break
                log.info("project %s: %s", name, pruned)
                self._stopping.wait(PAUSE_S)

        if only is None:
            self._tidy(now)

    def _tidy(self, now: datetime) -> None:
        while not self._stopping.is_set():
            with writing(self._engine, "tidy") as session:
                gone = tidy(session, now)
            if not gone:
                return
            log.info("no longer needed: %s", gone)
            self._stopping.wait(PAUSE_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.sweep(clock.now())
            except SQLAlchemyError as error:
                if is_damage(error):
                    log.error("nothing old is deleted: %s", DAMAGED)  # noqa: TRY400 - that says it all
                else:
                    log.exception("the sweep of old results failed; it is tried again in an hour")
            self._stopping.wait(SWEEP_S)
