"""add what a claim looks at to shards: their project, their memory, and when they were claimed."""

import sqlalchemy as sa
from alembic import op

revision = "0011_queue"
down_revision = "0010_bisections"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # with a default, so that SQLite adds it without making the table anew
    op.add_column("shards", sa.Column("project", sa.String(length=63), nullable=False, server_default=""))
    op.add_column("shards", sa.Column("memory_gib", sa.Float(precision=53), nullable=True))
    op.add_column("shards", sa.Column("claimed_at", sa.Float(precision=53), nullable=True))
    shards = sa.table("shards", *map(sa.column, ("job_id", "project")))
    jobs = sa.table("jobs", *map(sa.column, ("id", "project")))
    its_project = sa.select(jobs.c.project).where(jobs.c.id == shards.c.job_id).scalar_subquery()
    op.execute(shards.update().values(project=its_project))
    op.drop_index("ix_shards_status_priority_id", table_name="shards")
    op.create_index("ix_shards_project_status_priority_id", "shards", ["project", "status", "priority", "id"])
    op.create_index("ix_shards_project_claimed_at", "shards", ["project", "claimed_at"])
    op.create_index("ix_shards_status_torch", "shards", ["status", "torch"])


def downgrade() -> None:
    for index in ("status_torch", "project_claimed_at", "project_status_priority_id"):
        op.drop_index(f"ix_shards_{index}", table_name="shards")
    op.create_index("ix_shards_status_priority_id", "shards", ["status", "priority", "id"])
    for column in ("claimed_at", "memory_gib", "project"):
        op.drop_column("shards", column)
