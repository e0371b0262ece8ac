"""The command line's root. Verbs that need torch are contributed through the entry point group."""

import logging
import sys
from importlib.metadata import entry_points, version
from typing import Annotated, NoReturn

import typer
from alembic.util import CommandError
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from noisefloor.cli import accept, compare, db, gate, jobs, keep, records, schema, serve, trend, up
from noisefloor.errors import NoisefloorError, SettingsError, UnavailableError
from noisefloor.telemetry import logs

COMMANDS = "noisefloor.commands"
ERROR_EXIT = 2

log = logging.getLogger("noisefloor")

app = typer.Typer(
    name="noisefloor",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as Typer calls it
    if wanted:
        typer.echo(f"noisefloor {version('noisefloor')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Numerical accuracy regression service for quantized PyTorch models."""


app.command()(up.up)
app.command()(serve.serve)
app.command()(jobs.submit)
app.command()(jobs.wait)
app.command()(jobs.show)
app.command()(jobs.cancel)
app.command()(jobs.retry)
app.command()(trend.trend)
app.command()(compare.compare)
app.command()(records.export)
app.command("import")(records.import_)
app.command()(gate.gate)
app.command()(accept.accept)
app.command()(keep.policy)
app.command()(keep.suite)
app.command()(schema.schema)
app.add_typer(db.app, name="db")
for contributed in sorted(entry_points(group=COMMANDS), key=lambda entry: entry.name):
    app.command(contributed.name)(contributed.load())


def run() -> None:
    """Run a verb; an error of ours, or of the database, becomes one clear sentence and exit code 2."""
    try:
        app()
    except NoisefloorError as error:
        _say(error)
    except DBAPIError as error:
        cause = str(error.orig).strip().splitlines()[0]
        _say(UnavailableError(f"the database cannot be used: {cause}"))
    except CommandError as error:
        _say(SettingsError(f"the schema cannot be changed: {error}"))
    except Exception:
        # Exit code 1 says `regressed`, so a fault of our own must not end with Python's.
        if logs.is_json():
            log.exception("a fault of Noisefloor's own")
        else:
            Console(stderr=True).print_exception(width=None)
        sys.exit(ERROR_EXIT)


def _say(error: NoisefloorError) -> NoReturn:
    if logs.is_json():
        log.critical("%s: %s", error.problem.title, error.detail)
        sys.exit(ERROR_EXIT)
    say = Console(stderr=True, soft_wrap=True, highlight=False)
    say.print(f"[bold red]{error.problem.title}:[/] ", end="")
    say.print(error.detail, markup=False)
    for field in error.errors:
        accepted = f"; accepted: {', '.join(map(str, field.accepted))}" if field.accepted else ""
        say.print(f"  {field.field} = {field.value!r}: {field.message}{accepted}", markup=False)
    sys.exit(ERROR_EXIT)
