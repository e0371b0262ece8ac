"""add bisections, and of which one a job is a step."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0010_bisections"
down_revision = "0009_wants"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bisections",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("spec", Document, nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("state", Document, nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("request_digest", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_bisections_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_bisections"),
        sa.UniqueConstraint("project", "idempotency_key", name="uq_bisections_project_idempotency_key"),
    )
    op.create_index("ix_bisections_project_id", "bisections", ["project", "id"])
    # with the reference inside, so that SQLite adds the column without making the table anew
    reference = sa.ForeignKey("bisections.id", name="fk_jobs_bisection_id_bisections")
    column = sa.Column("bisection_id", sa.String(length=32), reference, nullable=True)
    op.add_column("jobs", column, inline_references=True)
    op.create_index("ix_jobs_bisection_id", "jobs", ["bisection_id"])


def downgrade() -> None:
    op.drop_index("ix_jobs_bisection_id", "jobs")
    op.drop_column("jobs", "bisection_id")
    op.drop_table("bisections")
