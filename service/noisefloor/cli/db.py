"""db: the schema of the database."""

from typing import Annotated

import typer

from noisefloor.cli.options import settings
from noisefloor.cli.serve import Database, sole_writer
from noisefloor.store import schema
from noisefloor.store.session import open_engine

app = typer.Typer(help="The database's schema.", no_args_is_help=True)


@app.command()
def upgrade(database: Database = None, revision: Annotated[str, typer.Option()] = "head") -> None:
    """Bring the database to the code's schema."""
    given = settings(database=database)
    with sole_writer(given):
        typer.echo(f"schema {schema.upgrade(open_engine(given.database), revision)}")


@app.callback()
def _group() -> None:
    """Keep `upgrade` a sub-command while it is the only one."""
