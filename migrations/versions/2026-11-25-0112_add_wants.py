"""add what a shard wants of its worker, and whose losses a job explains."""

import sqlalchemy as sa
from alembic import op

revision = "0009_wants"
down_revision = "0008_procrastinate"
branch_labels = None
depends_on = None

# with the reference inside, so that SQLite adds the column without making the table anew
REFERRING = (
    ("shards", "wants_environment", "environments", "key"),
    ("jobs", "explains", "jobs", "id"),
)


def upgrade() -> None:
    for table, column, referred, key in REFERRING:
        name = f"fk_{table}_{column}_{referred}"
        reference = sa.ForeignKey(f"{referred}.{key}", name=name)
        op.add_column(
            table, sa.Column(column, sa.String(length=32), reference, nullable=True), inline_references=True
        )
        op.create_index(f"ix_{table}_{column}", table, [column])
    op.add_column("shards", sa.Column("wants_commit", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("shards", "wants_commit")
    for table, column, _referred, _key in reversed(REFERRING):
        op.drop_index(f"ix_{table}_{column}", table)
        op.drop_column(table, column)
