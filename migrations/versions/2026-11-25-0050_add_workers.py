"""add workers, and what a shard asks of one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0007_workers"
down_revision = "0006_conformance"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("capabilities", Document, nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )
    op.add_column("shards", sa.Column("torch", sa.String(length=512), nullable=True))
    cells = sa.table("cells", sa.column("lane", Document), *map(sa.column, ("engine", "device")))
    for name in ("engine", "device"):
        # with a default, so that SQLite adds it without making the table anew
        op.add_column("cells", sa.Column(name, sa.String(length=32), nullable=False, server_default=""))
        op.execute(cells.update().values({name: cells.c.lane[name].as_string()}))


def downgrade() -> None:
    for table, column in (("cells", "device"), ("cells", "engine"), ("shards", "torch")):
        op.drop_column(table, column)
    op.drop_table("workers")
