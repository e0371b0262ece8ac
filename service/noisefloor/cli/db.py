"""db: the schema of the database, what is kept in it, and how it is moved, backed up and restored."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from sqlalchemy import Engine

from noisefloor.cli.options import settings
from noisefloor.cli.serve import Database, dispatch_for, opened
from noisefloor.errors import CannotMoveError, NotFoundError
from noisefloor.store import backup as backups
from noisefloor.store import jobs, schema
from noisefloor.store.condition import require_sound
from noisefloor.store.session import reading, shown
from noisefloor.workflow import move as moving
from noisefloor.workflow.keeper import Keeper
from noisefloor.workflow.retain import due, untidy

app = typer.Typer(help="The database: its schema, and what is kept in it.", no_args_is_help=True)

STEPS = ("looked at", "copied", "compared")


@app.command()
def upgrade(database: Database = None, revision: Annotated[str, typer.Option()] = "head") -> None:
    """Bring the database to the code's schema."""
    with _opened(database) as engine:
        require_sound(engine)
        typer.echo(f"schema {schema.upgrade(engine, revision)}")


@app.command()
def move(
    to: Annotated[str, typer.Option(help="An empty database: postgresql://… or sqlite:///path")],
    database: Annotated[
        str | None, typer.Option("--from", help="The database that has it. [env NOISEFLOOR_DATABASE]")
    ] = None,
) -> None:
    """Move the whole history to an empty database, and compare it there row by row.

    All services and workers must be stopped. The database that had it stays as it was.
    """
    given, taken = settings(database=database), settings(database=to)
    if given.sqlite_path and taken.sqlite_path and given.sqlite_path.resolve() == taken.sqlite_path.resolve():
        raise CannotMoveError(f"source and target are the same database: {shown(given.database)}")
    with opened(given, makes=False) as source, opened(taken) as target, _progress() as watch:
        require_sound(source)
        moved = moving.move(source, target, dispatch_for(target), watch)
        _print_counts(moved)
        typer.echo(f"moved to {shown(target.url)}: every row was compared")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="A new file.")],
    database: Database = None,
) -> None:
    """Write one moment of the database to a file; the service may run meanwhile."""
    with _opened(database, writes=False) as engine:
        _print_counts(backups.back_up(engine, file))
    typer.echo(f"backed up to {file}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `noisefloor db backup` wrote.")],
    database: Database = None,
) -> None:
    """Make a database of a backup, where there is none."""
    with _opened(database) as engine:
        at, rows = backups.restore(engine, file)
        _print_counts(rows)
        head = schema.head()
        then = "" if at == head else f"; the code is at {head}: run `noisefloor db upgrade`"
        typer.echo(f"restored to {shown(engine.url)}, at schema {at}{then}")


@app.command()
def prune(
    database: Database = None,
    project: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
) -> None:
    """Delete what projects no longer keep, as the service does by itself each hour."""
    now = datetime.now(UTC)
    with opened(settings(database=database), writes=not dry_run, makes=False) as engine:
        require_sound(engine)
        schema.require_current(engine) if dry_run else schema.require_usable(engine)
        with reading(engine) as session:
            names = [name for name in jobs.projects(session) if project in {None, name}]
            if project is not None and not names:
                raise NotFoundError(f"there is no project {project!r} in {shown(engine.url)}")
            found = {name: due(session, name, now) for name in names}
            rest = untidy(session, now) if project is None else {}
        if not dry_run:
            Keeper(engine).sweep(now, project)
    for name, pruned in found.items():
        typer.echo(f"{name}: layers of {pruned.layers} cells, {pruned.jobs} jobs")
    for name, count in rest.items():
        typer.echo(f"{name}: {count}")


def _opened(database: str | None, *, writes: bool = True) -> AbstractContextManager[Engine]:
    return opened(settings(database=database), writes=writes)


@contextmanager
def _progress() -> Iterator[moving.Watch]:
    """Rows by step, on standard error."""
    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        TextColumn("{task.completed} rows  {task.fields[table]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks = {step: bar.add_task(step, total=None, table="") for step in STEPS}
        yield lambda step, table, more: bar.update(tasks[step], advance=more, table=table)


def _print_counts(rows: Mapping[str, int]) -> None:
    width = max(map(len, rows))
    for table, count in rows.items():
        typer.echo(f"{table:{width}}  {count}")
