"""db: the schema of the database, and what is kept in it."""

from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Annotated

import typer

from noisefloor.cli.options import settings
from noisefloor.cli.serve import Database, sole_writer
from noisefloor.store import jobs, schema
from noisefloor.store.session import open_engine, reading
from noisefloor.workflow.keeper import Keeper
from noisefloor.workflow.retain import due

app = typer.Typer(help="The database: its schema, and what is kept in it.", no_args_is_help=True)


@app.command()
def upgrade(database: Database = None, revision: Annotated[str, typer.Option()] = "head") -> None:
    """Bring the database to the code's schema."""
    given = settings(database=database)
    with sole_writer(given):
        typer.echo(f"schema {schema.upgrade(open_engine(given.database), revision)}")


@app.command()
def prune(
    database: Database = None,
    project: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
) -> None:
    """Delete what projects no longer keep, as the service does by itself each hour."""
    given = settings(database=database)
    now = datetime.now(UTC)
    with nullcontext() if dry_run else sole_writer(given):
        engine = open_engine(given.database)
        schema.require_current(engine)
        with reading(engine) as session:
            names = [name for name in jobs.projects(session) if project in {None, name}]
            found = {name: due(session, name, now) for name in names}
        if not dry_run:
            Keeper(engine).sweep(now, project)
        engine.dispose()
    for name, pruned in found.items():
        typer.echo(f"{name}: layers of {pruned.layers} cells, {pruned.jobs} jobs")
