"""add suites, checks, webhooks, deliveries."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0003_ci"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "suites",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("repository", sa.String(length=512), nullable=False),
        sa.Column("document", Document, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_suites_project_projects"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_suites"),
    )
    op.create_index("ix_suites_provider_repository", "suites", ["provider", "repository"])

    op.create_table(
        "checks",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("suite", sa.String(length=63), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("repository", sa.String(length=512), nullable=False),
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("context", sa.String(length=512), nullable=False),
        sa.Column("branch", sa.String(length=512), nullable=True),
        sa.Column("line", sa.String(length=512), nullable=True),
        sa.Column("before", sa.String(length=64), nullable=True),
        sa.Column("head_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("job_id", sa.String(length=32), nullable=True),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("deadline", sa.Float(precision=53), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("installation", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_checks_job_id_jobs", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_checks_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_checks"),
        sa.UniqueConstraint(
            "project", "suite", "repository", "sha", name="uq_checks_project_suite_repository_sha"
        ),
    )
    op.create_index("ix_checks_job_id", "checks", ["job_id"])
    op.create_index("ix_checks_open_deadline", "checks", ["open", "deadline"])
    op.create_index("ix_checks_project_suite_line", "checks", ["project", "suite", "line"])

    op.create_table(
        "hook_receipts",
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("delivery", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=32), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", "delivery", name="pk_hook_receipts"),
        sa.UniqueConstraint("provider", "digest", name="uq_hook_receipts_provider_digest"),
    )
    op.create_table(
        "webhooks",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("verdicts", Document, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_webhooks_project_projects"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_webhooks"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("target", sa.String(length=512), nullable=False),
        sa.Column("topic", sa.String(length=512), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("check_id", sa.String(length=32), nullable=True),
        sa.Column("announcement", Document, nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(precision=53), nullable=False),
        sa.Column("lease_until", sa.Float(precision=53), nullable=True),
        sa.Column("response_status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["check_id"], ["checks.id"], name="fk_deliveries_check_id_checks"),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_deliveries_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("topic", "sequence", name="uq_deliveries_topic_sequence"),
    )
    op.create_index("ix_deliveries_project_id", "deliveries", ["project", "id"])
    op.create_index("ix_deliveries_status_due_at", "deliveries", ["status", "due_at"])


def downgrade() -> None:
    for table in ("deliveries", "webhooks", "hook_receipts", "checks", "suites"):
        op.drop_table(table)
