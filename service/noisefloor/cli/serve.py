"""serve: the API and the dashboard, without a worker."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI
from rich.console import Console
from sqlalchemy import Engine

from noisefloor.cli.options import settings
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.dispatch.port import Dispatch
from noisefloor.errors import UnavailableError
from noisefloor.settings import Settings
from noisefloor.store import schema
from noisefloor.store.session import only_writer, open_engine, shown

GRACE_S = 5

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
    with opened(given) as engine, listen(given) as listener:
        schema.require_usable(engine)
        app = create_app(settings=given, engine=engine, dispatch=dispatch_for(engine))
        announce(given, listener)
        server(given, app).run(sockets=[listener])


def dispatch_for(engine: Engine) -> Dispatch:
    """How queued shards are announced: to this process on SQLite, to every worker on PostgreSQL."""
    if engine.dialect.name == "sqlite":
        return LocalDispatch()
    from noisefloor.dispatch.procrastinate import ProcrastinateDispatch

    return ProcrastinateDispatch()


@contextmanager
def opened(given: Settings, *, writes: bool = True) -> Iterator[Engine]:
    """The database, with the right to write it: exclusive on SQLite, shared on PostgreSQL."""
    with only_writer(given.sqlite_path) if writes and given.sqlite_path else nullcontext():
        engine = open_engine(given.database)
        try:
            yield engine
        finally:
            engine.dispose()


def server(given: Settings, app: FastAPI) -> uvicorn.Server:
    """The HTTP server of the settings."""
    config = uvicorn.Config(
        app, host=given.host, port=given.port, log_level="warning", timeout_graceful_shutdown=GRACE_S
    )
    return Server(config, app.state.service.stopping)


class Server(uvicorn.Server):
    """A server whose waiting requests and streams hear at once that it stops."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

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
    host = f"[{given.host}]" if ":" in given.host else given.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    say.print(f"[bold]Noisefloor[/] {url}  database {shown(given.database)}")
    return url
