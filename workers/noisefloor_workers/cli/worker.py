"""worker: measure for a service on another machine, over its PostgreSQL."""

import signal
import time
from contextlib import nullcontext
from typing import Annotated

import typer

from noisefloor.api.app import create_worker_app
from noisefloor.cli.offers import Checkout, Commit, command_of, offered
from noisefloor.cli.options import require_torch, settings
from noisefloor.cli.serve import Database, address, dispatch_for, listen, observe, server, tell
from noisefloor.cli.stopping import on_stop
from noisefloor.contract.worker import Capabilities
from noisefloor.errors import InvalidRequestError, SettingsError, UnavailableError
from noisefloor.store import clock, schema
from noisefloor.store.session import open_engine
from noisefloor.telemetry import traces
from noisefloor_workers.lanes.capabilities import probe
from noisefloor_workers.worker import Worker, news_for

POLL_S = 0.1
CLOCK_OFF_S = 2.0  # worth a word


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
    commit: Commit = None,
    checkout: Checkout = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Serve /metrics, /healthz and /readyz here; 0 takes a free port. Default: not.",
        ),
    ] = None,
) -> None:
    """Measure what the service queues in its PostgreSQL, until it is told to stop.

    It takes the lanes that this machine has, and leaves the others to other workers. On SIGTERM it takes no
    more, and gives back what it has in hand.
    """
    require_torch()
    given = settings(database=database, slots=slots, port=metrics_port)
    observe(given)
    if given.sqlite_path is not None:
        raise SettingsError(
            "a SQLite file is for one process: `noisefloor up` measures there; give postgresql://…"
        )
    command = command_of(checkout, given.slots)
    offers = offered(commit, command)
    tables = open_engine(given.database)
    dispatch = dispatch_for(tables)
    app = create_worker_app(settings=given, engine=tables, dispatch=dispatch)
    stopping = app.state.service.stopping
    http = server(given, app)
    told: list[signal.Signals] = []
    on_stop(told.append if metrics_port is None else http.stop, within_s=given.stop_s)
    schema.require_usable(tables)
    takes = _narrowed(probe(), engine, isa).replace(**offers)
    _say_if_clock_is_off(clock.off_s())
    news = news_for(tables, dispatch, takes.devices)
    with (
        nullcontext() if metrics_port is None else listen(given) as listener,
        Worker(
            engine=tables,
            dispatch=dispatch,
            news=news,
            settings=given,
            ask=lambda: takes,
            checkout=command,
            stopping=stopping,
        ) as started,
    ):
        watched = "" if listener is None else f"  watched at {address(given, listener)}"
        what = f"{', '.join(takes.engines)} under {', '.join(takes.isas)}"
        memory = f"{takes.shared(given.slots).memory_gib:.1f} GiB a slot"
        tell(f"[bold]worker[/] {started.name}  takes {what}, {memory}{watched}")
        if listener is not None:
            http.run(sockets=[listener])
        while listener is None and not told:
            time.sleep(POLL_S)
        stopping.set()
    traces.finish()


def _say_if_clock_is_off(off_s: float) -> None:
    if abs(off_s) >= CLOCK_OFF_S:
        where = "ahead of" if off_s > 0 else "behind"
        tell(
            f"this machine's clock is {abs(off_s):.0f} s {where} the database's, which alone counts: going on"
        )


def _narrowed(has: Capabilities, engines: list[str] | None, isas: list[str] | None) -> Capabilities:
    for name, asked, accepted in (
        ("engine", engines, has.engines),
        ("isa", isas, has.isas),
    ):
        wrong = [one for one in asked or () if one not in accepted]
        if wrong:
            raise InvalidRequestError(f"{name} = {wrong[0]!r}: this machine has: {', '.join(accepted)}")
    if not has.engines:
        raise UnavailableError("this machine has no engine to measure with: its torch was built without any")
    return has.replace(engines=tuple(engines or has.engines), isas=tuple(isas or has.isas))
