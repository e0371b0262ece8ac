"""worker: measure for a service on another machine, over its PostgreSQL."""

import logging
import os
import shlex
import signal
import threading
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from noisefloor.cli.options import require_torch, settings
from noisefloor.cli.serve import Database, dispatch_for, say
from noisefloor.contract.job import Sha
from noisefloor.contract.worker import Capabilities
from noisefloor.errors import InvalidRequestError, SettingsError
from noisefloor.store import schema
from noisefloor.store.session import open_engine
from noisefloor_workers.lanes.capabilities import probe
from noisefloor_workers.worker import Worker, news_for

log = logging.getLogger(__name__)


def worker(
    database: Database = None,
    slots: Annotated[int | None, typer.Option(help="Shards measured at once.")] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Take lanes of this engine alone; repeatable. Default: all it has."),
    ] = None,
    isa: Annotated[
        list[str] | None,
        typer.Option(help="Take lanes under this cap alone; repeatable. Default: all it has."),
    ] = None,
    commit: Annotated[
        str | None, typer.Option(help="The whole sha of the commit that the files here are of.")
    ] = None,
    checkout: Annotated[
        str | None,
        typer.Option(help="A command that checks a commit out here; {sha} stands for it. One slot only."),
    ] = None,
) -> None:
    """Measure what the service queues in its PostgreSQL, until it is told to stop.

    It takes the lanes that this machine has, and leaves the others to other workers. On SIGTERM it takes no
    more, and gives back what it has in hand.
    """
    require_torch()
    given = settings(database=database, slots=slots)
    if given.sqlite_path is not None:
        raise SettingsError(
            "a SQLite file is for one process: `noisefloor up` measures there; give postgresql://…"
        )
    command = _command(checkout, given.slots)
    offers = {"commit": _commit(commit), "checks_out": bool(command)}
    tables = open_engine(given.database)
    schema.require_usable(tables)
    takes = _narrowed(probe(), engine, isa).replace(**offers)
    dispatch = dispatch_for(tables)
    news = news_for(tables, dispatch, takes.devices)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Worker(
        engine=tables, dispatch=dispatch, news=news, settings=given, ask=lambda: takes, checkout=command
    ) as started:
        say.print(
            f"[bold]worker[/] {started.name}  takes {', '.join(takes.engines)} under {', '.join(takes.isas)}"
        )
        stop.wait()


def _commit(sha: str | None) -> str | None:
    try:
        return TypeAdapter(Sha | None).validate_python(sha)
    except ValidationError:
        raise InvalidRequestError(f"commit = {sha!r}: give a sha, 7 to 64 hexadecimal digits") from None


def _command(checkout: str | None, slots: int) -> list[str]:
    if checkout is None:
        return []
    try:
        command = shlex.split(checkout)
    except ValueError as error:
        raise InvalidRequestError(f"checkout = {checkout!r}: {error}") from None
    if not command:
        raise InvalidRequestError("checkout = '': give a command, such as 'git -C /src checkout -q {sha}'")
    if slots > 1:
        raise InvalidRequestError(
            f"slots = {slots}: with --checkout accepted: 1, since one commit is checked out"
        )
    # bytecode is told apart by seconds and sizes: that of one commit would pass for another's
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    return command


def _narrowed(has: Capabilities, engines: list[str] | None, isas: list[str] | None) -> Capabilities:
    for name, asked, accepted in (
        ("engine", engines, has.engines),
        ("isa", isas, has.isas),
    ):
        wrong = [one for one in asked or () if one not in accepted]
        if wrong:
            raise InvalidRequestError(f"{name} = {wrong[0]!r}: this machine has: {', '.join(accepted)}")
    return has.replace(engines=tuple(engines or has.engines), isas=tuple(isas or has.isas))
