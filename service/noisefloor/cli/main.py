"""The command line's root. Verbs that need torch are contributed through the entry point group."""

import logging
import os
import signal
import sys
from importlib.metadata import entry_points, version
from typing import Annotated, Any, NoReturn

import typer
from alembic.util import CommandError
from rich.console import Console
from sqlalchemy.exc import DBAPIError
from typer.core import TyperCommand

from noisefloor.cli import accept, compare, db, gate, jobs, keep, records, schema, serve, trend, up
from noisefloor.client import RefusedError
from noisefloor.contract.resources import FieldError
from noisefloor.errors import (
    InvalidRequestError,
    NoisefloorError,
    SettingsError,
    UnauthorizedError,
    UnavailableError,
)
from noisefloor.problems import summary
from noisefloor.store.condition import cause
from noisefloor.telemetry import logs

COMMANDS = "noisefloor.commands"
ERROR_EXIT = 2

GIVEN = "What was given cannot be used"
USER_COMMAND = "a command of yours stands after --, as in: -- git checkout -q {sha}"

log = logging.getLogger("noisefloor")


class Verb(TyperCommand):
    """A verb that may be given a command of the user's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual; an option of the user's command that was taken for one of ours is told how to stand."""
        told_apart = "--" in args or all(parameter.name != "command" for parameter in self.params)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            said: Any = error  # Typer's own class of it has no public name
            if not told_apart and hasattr(said, "option_name"):
                said.message = f"{said.message}; {USER_COMMAND}"
            raise


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
    app.command(contributed.name, cls=Verb)(contributed.load())


def run() -> None:
    """Run a verb; an error of ours, or of the database, becomes one clear sentence and exit code 2."""
    try:
        try:
            app()
        finally:
            _flush()
    except BrokenPipeError:
        _end_unread()
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # Typer and Rich make it exit code 1
            _end_unread()
        raise
    except NoisefloorError as error:
        _say(error)
    except DBAPIError as error:
        _say(UnavailableError(f"the database cannot be used: {cause(error)}"))
    except CommandError as error:
        _say(SettingsError(f"the schema cannot be changed: {error}"))
    except Exception:
        # Exit code 1 says `regressed`, so a fault of our own must not end with Python's.
        if logs.is_json():
            log.exception("a fault of Noisefloor's own")
        else:
            Console(stderr=True).print_exception(width=None)
        sys.exit(ERROR_EXIT)


def _end_unread() -> None:
    """End as everything does whose reader has gone: exit code 1 says `regressed`, and that is not known."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        pass  # a full disk is no verdict either, and Python says so when it ends


def _say(error: NoisefloorError) -> NoReturn:
    # what the service refuses is a RefusedError: here, nothing was asked of it yet
    title = GIVEN if type(error) is InvalidRequestError else error.problem.title
    detail = error.detail
    if isinstance(error, RefusedError) and error.code == UnauthorizedError.code:
        detail = f"{detail.partition(':')[0]}: give --token, or set NOISEFLOOR_TOKEN"
    if logs.is_json():
        log.critical("%s: %s", title, detail)
        sys.exit(ERROR_EXIT)
    detail = detail.removesuffix(summary(error.errors))  # the lines say the same, and more
    lines = [line for line in (detail.rstrip(": "), *map(_line, error.errors)) if line]
    say = Console(stderr=True, soft_wrap=True, highlight=False)
    say.print(f"[bold red]{title}:[/] ", end="")
    say.print("\n  ".join(lines), markup=False)
    sys.exit(ERROR_EXIT)


def _line(field: FieldError) -> str:
    accepted = f"; accepted: {', '.join(map(str, field.accepted))}" if field.accepted else ""
    return f"{field.field} = {field.value!r}: {field.message}{accepted}"
