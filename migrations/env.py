"""Alembic's entry: runs on the connection that it is given, on SQLite and PostgreSQL alike."""

from alembic import context

from noisefloor.store.tables import Base


def ours(_object: object, name: str | None, *_: object) -> bool:
    """Procrastinate's tables are no business of the check."""
    return not (name or "").startswith("procrastinate_")


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    include_object=ours,
)
with context.begin_transaction():
    context.run_migrations()
