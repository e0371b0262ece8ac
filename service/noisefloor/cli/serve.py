"""serve: the API and the dashboard, without a worker."""

import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI
from rich.console import Console
from rich.text import Text
from sqlalchemy import Engine

from noisefloor.cli.options import settings
from noisefloor.cli.stopping import on_stop
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.dispatch.port import Dispatch
from noisefloor.errors import UnavailableError
from noisefloor.settings import Settings
from noisefloor.store import schema
from noisefloor.store.condition import QUICKLY_CHECKED_BYTES, require_sound
from noisefloor.store.session import only_writer, open_engine, shown
from noisefloor.telemetry import logs, traces

GRACE_S = 12

log = logging.getLogger(__name__)
say = Console(stderr=True, highlight=False, soft_wrap=True)

Database = Annotated[
    str | None, typer.Option(help="sqlite:///path or postgresql://… [env NOISEFLOOR_DATABASE]")
]
Host = Annotated[str | None, typer.Option(help="Address to bind to; loopback unless a token is set.")]
Port = Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")]


def serve(database: Database = None, host: Host = None, port: Port = None) -> None:
    """Serve the API and the dashboard. The database must be at the code's schema."""
    from noisefloor.api.app import create_app

    given = settings(database=database, host=host, port=port)
    observe(given)
    with opened(given, makes=False) as engine, listen(given) as listener:
        require_sound(engine, limit_bytes=QUICKLY_CHECKED_BYTES)
        schema.require_usable(engine)
        app = create_app(settings=given, engine=engine, dispatch=dispatch_for(engine))
        http = server(given, app)
        on_stop(http.stop, within_s=given.stop_s)
        announce(given, listener)
        http.run(sockets=[listener])
    traces.finish()


def observe(given: Settings) -> None:
    """Log and trace as the operator asked."""
    as_json = given.log == "json"
    logs.configure(as_json=as_json, level=given.log_level or ("info" if as_json else "warning"))
    traces.configure()


def dispatch_for(engine: Engine) -> Dispatch:
    """How queued shards are announced: to this process on SQLite, to every worker on PostgreSQL."""
    if engine.dialect.name == "sqlite":
        return LocalDispatch()
    from noisefloor.dispatch.procrastinate import ProcrastinateDispatch

    return ProcrastinateDispatch()


@contextmanager
def opened(given: Settings, *, writes: bool = True, makes: bool = True) -> Iterator[Engine]:
    """The database, with the right to write it: exclusive on SQLite, shared on PostgreSQL.

    Who makes none is refused where there is no file, before a folder or a lock file is made for it.
    """
    if not makes:
        schema.require_there(given.sqlite_path, given.database)
    with only_writer(given.sqlite_path) if writes and given.sqlite_path else nullcontext():
        engine = open_engine(given.database)
        try:
            yield engine
        finally:
            engine.dispose()


def server(given: Settings, app: FastAPI) -> "Server":
    """The HTTP server of the settings."""
    config = uvicorn.Config(
        app, host=given.host, port=given.port, log_config=None, timeout_graceful_shutdown=GRACE_S
    )
    return Server(config, app.state.service.stopping, drain_s=given.drain_s)


class Server(uvicorn.Server):
    """A server that stops in two steps.

    Told by a signal, it says at once that it is not ready, so that no balancer sends it more, and whoever
    waits or streams gets what is known. After `drain_s` it takes no more connections, and what is in flight
    ends.
    """

    def __init__(self, config: uvicorn.Config, stopping: threading.Event, *, drain_s: float) -> None:
        super().__init__(config)
        self._stopping, self._drain_s = stopping, drain_s
        self._closes_at_s: float | None = None

    def stop(self, told_by: signal.Signals) -> None:
        """Begin to stop; at a keyboard's word, without draining."""
        drain_s = self._drain_s if told_by is signal.SIGTERM else 0.0
        self._closes_at_s = time.monotonic() + drain_s

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave signals to `on_stop`."""
        return nullcontext()

    async def on_tick(self, counter: int) -> bool:
        """Whether to close, asked ten times a second."""
        if self._closes_at_s is not None:
            self._stopping.set()
            self.should_exit |= time.monotonic() >= self._closes_at_s
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of whoever waits, and then of the connections."""
        self._stopping.set()
        await super().shutdown(sockets)


def listen(given: Settings) -> socket.socket:
    """The socket to serve on, or the error that says why there is none."""
    family = socket.AF_INET6 if ":" in given.host else socket.AF_INET
    try:
        return socket.create_server((given.host, given.port), family=family)
    except OSError as error:
        raise UnavailableError(
            f"{given.host} port {given.port}: {error.strerror}; --host and --port take others"
        ) from None


def announce(given: Settings, listener: socket.socket) -> str:
    """Say where the service is, and give the address."""
    url = address(given, listener)
    tell(f"[bold]Noisefloor[/] {url}  database {shown(given.database)}")
    return url


def address(given: Settings, listener: socket.socket) -> str:
    """The URL of a socket that is listened on."""
    host = f"[{given.host}]" if ":" in given.host else given.host
    return f"http://{host}:{listener.getsockname()[1]}"


def tell(line: str) -> None:
    """Say something to people, or to those who read lines of JSON."""
    if logs.is_json():
        log.info("%s", Text.from_markup(line).plain)
    else:
        say.print(line)
