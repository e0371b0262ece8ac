"""add gate."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
Moment = sa.DateTime(timezone=True)

revision = "0004_gate"
down_revision = "0003_ci"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("policy", Document, nullable=True))
    op.add_column("jobs", sa.Column("judgement", Document, nullable=True))
    op.create_index("ix_jobs_project_sha", "jobs", ["project", "sha"])
    op.create_table(
        "policies",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", Document, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_policies_project_projects"),
        sa.PrimaryKeyConstraint("project", "name", "version", name="pk_policies"),
    )
    op.create_table(
        "marks",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("whole_commit", sa.Boolean(), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("sha", sa.String(length=64), nullable=True),
        sa.Column("branch", sa.String(length=512), nullable=True),
        sa.Column("measured_at", Moment, nullable=False),
        sa.Column("matches", Document, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("marked_by", sa.String(length=512), nullable=True),
        sa.Column("until", sa.Date(), nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_marks_project_projects"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_marks_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_marks"),
    )
    op.create_index("ix_marks_job_id", "marks", ["job_id"])
    op.create_index("ix_marks_project_kind_id", "marks", ["project", "kind", "id"])
    op.create_table(
        "accepted_levels",
        sa.Column("mark_id", sa.String(length=32), nullable=False),
        sa.Column("series_key", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=True),
        sa.Column("output_digest", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["mark_id"], ["marks.id"], name="fk_accepted_levels_mark_id_marks"),
        sa.ForeignKeyConstraint(["series_key"], ["series.key"], name="fk_accepted_levels_series_key_series"),
        sa.PrimaryKeyConstraint("mark_id", "series_key", name="pk_accepted_levels"),
    )
    op.create_table(
        "absences",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("series_key", sa.String(length=32), nullable=False),
        sa.Column("verdict", sa.String(length=32), nullable=False),
        sa.Column("document", Document, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_absences_job_id_jobs"),
        sa.ForeignKeyConstraint(["series_key"], ["series.key"], name="fk_absences_series_key_series"),
        sa.PrimaryKeyConstraint("id", name="pk_absences"),
        sa.UniqueConstraint("job_id", "series_key", name="uq_absences_job_id_series_key"),
    )
    op.create_index("ix_absences_series_key", "absences", ["series_key"])
    op.create_table(
        "gates",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("expect", Document, nullable=False),
        sa.Column("policy", Document, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("deadline", Moment, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_gates_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_gates"),
    )


def downgrade() -> None:
    op.drop_table("gates")
    op.drop_table("absences")
    op.drop_table("accepted_levels")
    op.drop_table("marks")
    op.drop_table("policies")
    op.drop_index("ix_jobs_project_sha", table_name="jobs")
    op.drop_column("jobs", "judgement")
    op.drop_column("jobs", "policy")
