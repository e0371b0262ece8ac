"""up: the whole of it on one machine, in one command. The composition root of service and worker."""

import threading
import time
from typing import Annotated

import typer
import uvicorn

from noisefloor.cli.jobs import follow, print_result
from noisefloor.cli.offers import Checkout, Commit, command_of, offered
from noisefloor.cli.options import DEFAULT_PROJECT, Format, client, new_key, read_job, require_torch, settings
from noisefloor.cli.serve import (
    Database,
    Host,
    Port,
    announce,
    dispatch_for,
    listen,
    observe,
    opened,
    say,
    server,
)
from noisefloor.cli.stopping import on_stop
from noisefloor.contract.job import JobSpec
from noisefloor.contract.verdict import Verdict
from noisefloor.errors import InvalidRequestError, NoisefloorError
from noisefloor.settings import Settings
from noisefloor.store import schema
from noisefloor.store.condition import QUICKLY_CHECKED_BYTES, require_sound
from noisefloor.telemetry import traces

START_POLL_S = 0.05


def up(
    database: Database = None,
    host: Host = None,
    port: Port = None,
    slots: Annotated[int | None, typer.Option(help="Shards measured at once.")] = None,
    commit: Commit = None,
    checkout: Checkout = None,
    submit: Annotated[str | None, typer.Option(help="Post this job, show its progress and results.")] = None,
    leave: Annotated[
        bool, typer.Option("--exit", help="Stop after --submit, with the verdict's exit code.")
    ] = False,
) -> None:
    """Start the service, the dashboard and a local worker; the database is made and upgraded as needed."""
    from noisefloor.api.app import create_app
    from noisefloor_workers.worker import Worker, everything, news_for

    require_torch()
    if leave and submit is None:
        raise InvalidRequestError("--exit belongs to --submit: without a job there is nothing to wait for")
    given = settings(database=database, host=host, port=port, slots=slots)
    command = command_of(checkout, given.slots)
    offers = offered(commit, command)
    spec = read_job(submit) if submit is not None else None
    observe(given)
    with opened(given) as engine, listen(given) as listener:
        require_sound(engine, limit_bytes=QUICKLY_CHECKED_BYTES)
        schema.upgrade(engine)
        dispatch = dispatch_for(engine)
        app = create_app(settings=given, engine=engine, dispatch=dispatch)
        http = server(given, app)
        on_stop(http.stop, within_s=given.stop_s)
        url = announce(given, listener)
        submission = Submission(given, url, spec, leave=leave) if spec is not None else None
        news = news_for(engine, dispatch, ("cpu",))
        with Worker(
            engine=engine,
            dispatch=dispatch,
            news=news,
            settings=given,
            ask=lambda: everything().replace(**offers),
            checkout=command,
            stopping=app.state.service.stopping,
        ):
            if submission is not None:
                submission.start(http)
            http.run(sockets=[listener])
    traces.finish()
    if submission is not None and leave:
        raise typer.Exit(submission.exit_code)


class Submission:
    """A job posted to the service that this process is, over HTTP like any other."""

    def __init__(self, given: Settings, url: str, spec: JobSpec, *, leave: bool) -> None:
        self._given, self._url, self._spec, self._leave = given, url, spec, leave
        self.exit_code = Verdict.ERROR.exit_code

    def start(self, service: uvicorn.Server) -> None:
        """Post in the background as soon as the service answers."""
        threading.Thread(target=self._follow, args=(service,), name="submission", daemon=True).start()

    def _follow(self, service: uvicorn.Server) -> None:
        try:
            while not service.started:
                time.sleep(START_POLL_S)
            token = self._given.token.get_secret_value() if self._given.token else None
            with client(self._url, self._spec.project or DEFAULT_PROJECT, token) as own:
                posted = own.submit(self._spec, idempotency_key=new_key())
                job = follow(own, posted.id)
                print_result(own, job, Format.HUMAN)
                self.exit_code = job.verdict.exit_code
        except NoisefloorError as error:
            if not service.should_exit:
                say.print(error.detail, markup=False)
        finally:
            if self._leave:
                service.should_exit = True
