"""The engine for many machines: Procrastinate on PostgreSQL, one queue a device.

It carries news alone. A message is deferred in the transaction that queues its shard; whichever worker hears
of it looks for the best shard that it can run, by the same claim as everywhere. A message that is lost costs
the second until workers look by themselves; what a dead worker held is found by its lease.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import ProcrastinateException
from procrastinate.types import JSONDict
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from noisefloor.dispatch.bell import Bell
from noisefloor.errors import UnavailableError
from noisefloor.failpoints import reach
from noisefloor.store import shards

TASK = "noisefloor.shard"
RECONNECT_S = 1.0
STOP_S = 10.0
CONNECTIONS = 2  # a fleet shares what the database allows; one more listens

log = logging.getLogger(__name__)


class ProcrastinateDispatch:
    """Defers a message a shard and device, on the session's own connection."""

    def __init__(self) -> None:
        self._app = App(connector=SyncPsycopgConnector())

    def send(self, session: Session, shard_ids: Sequence[str]) -> None:
        """Announce queued shards: a rollback leaves no message."""
        connection = session.connection().connection.driver_connection
        reach("news.before_send")
        try:
            for queue, priority, ids in shards.queues(session, shard_ids):
                messages: list[JSONDict] = [{"shard": shard_id} for shard_id in ids]
                self._app.configure_task(
                    TASK, queue=queue, priority=priority, connection=connection
                ).batch_defer(*messages)
        except ProcrastinateException as error:
            raise UnavailableError(
                f"the shards could not be announced: {error.__cause__ or error}"
            ) from error
        reach("news.after_send")


class ProcrastinateNews(Bell):
    """Listens in a thread of its own."""

    def __init__(self, engine: Engine, *, queues: Sequence[str]) -> None:
        super().__init__()
        conninfo = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._app = App(connector=PsycopgConnector(conninfo=conninfo, min_size=1, max_size=CONNECTIONS))
        self._app.task(name=TASK)(self._heard)
        self._queues = queues
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="news", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stopping.set()
        self.wake()
        if self._loop is not None and self._listening is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._listening.cancel)
        self._thread.join(STOP_S)

    def _heard(self, shard: str) -> None:
        log.debug("shard %s is queued", shard)
        self.wake()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                asyncio.run(self._listen())
            except asyncio.CancelledError:
                return
            except Exception as error:  # noqa: BLE001 - the slots look by themselves meanwhile
                log.warning("no news: %s; trying again", error.__cause__ or error)
            self._stopping.wait(RECONNECT_S)

    async def _listen(self) -> None:
        self._loop, self._listening = asyncio.get_running_loop(), asyncio.current_task()
        async with self._app.open_async():
            await self._app.run_worker_async(
                queues=list(self._queues),
                install_signal_handlers=False,
                delete_jobs="always",
            )
