"""create tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "environments",
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("document", Document, nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_environments"),
    )
    op.create_table(
        "projects",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_projects"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("spec", Document, nullable=False),
        sa.Column("git", Document, nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("verdict", sa.String(length=32), nullable=False),
        sa.Column("verdict_message", sa.Text(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("branch", sa.String(length=512), nullable=True),
        sa.Column("sha", sa.String(length=64), nullable=True),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_jobs_project_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_project_branch_measured_at", "jobs", ["project", "branch", "measured_at"])
    op.create_index("ix_jobs_project_id", "jobs", ["project", "id"])

    op.create_table(
        "series",
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("identity", Document, nullable=False),
        sa.Column("subject", sa.String(length=512), nullable=False),
        sa.Column("scheme", sa.String(length=512), nullable=False),
        sa.Column("edge", sa.String(length=32), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=False),
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("isa", sa.String(length=32), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("metric", sa.String(length=32), nullable=False),
        sa.Column("place", sa.String(length=512), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_series_project_projects"),
        sa.PrimaryKeyConstraint("key", name="pk_series"),
    )
    op.create_index("ix_series_project_key", "series", ["project", "key"])

    op.create_table(
        "idempotency_keys",
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_digest", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_idempotency_keys_job_id_jobs"),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name="fk_idempotency_keys_project_projects"),
        sa.PrimaryKeyConstraint("project", "key", name="pk_idempotency_keys"),
    )
    op.create_table(
        "shards",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("isa", sa.String(length=32), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Float(precision=53), nullable=True),
        sa.Column("worker", sa.String(length=512), nullable=True),
        sa.Column("progress", sa.String(length=512), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_shards_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_shards"),
    )
    op.create_index("ix_shards_job_id", "shards", ["job_id"])
    op.create_index("ix_shards_status_priority_id", "shards", ["status", "priority", "id"])

    op.create_table(
        "cells",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("shard_id", sa.String(length=32), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("subject", Document, nullable=False),
        sa.Column("scheme", Document, nullable=False),
        sa.Column("lane", Document, nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("executed_engine", sa.String(length=32), nullable=True),
        sa.Column("inputs_digest", sa.String(length=32), nullable=True),
        sa.Column("environment_key", sa.String(length=32), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("duration_s", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(
            ["environment_key"], ["environments.key"], name="fk_cells_environment_key_environments"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_cells_job_id_jobs"),
        sa.ForeignKeyConstraint(["shard_id"], ["shards.id"], name="fk_cells_shard_id_shards"),
        sa.PrimaryKeyConstraint("id", name="pk_cells"),
        sa.UniqueConstraint("job_id", "ordinal", name="uq_cells_job_id_ordinal"),
    )
    op.create_index("ix_cells_shard_id", "cells", ["shard_id"])

    op.create_table(
        "measurements",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("cell_id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("series_key", sa.String(length=32), nullable=False),
        sa.Column("edge", sa.String(length=32), nullable=False),
        sa.Column("place", sa.String(length=512), nullable=False),
        sa.Column("metric", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("detail", Document, nullable=False),
        sa.ForeignKeyConstraint(["cell_id"], ["cells.id"], name="fk_measurements_cell_id_cells"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_measurements_job_id_jobs"),
        sa.ForeignKeyConstraint(["series_key"], ["series.key"], name="fk_measurements_series_key_series"),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
        sa.UniqueConstraint(
            "cell_id", "edge", "place", "metric", name="uq_measurements_cell_id_edge_place_metric"
        ),
    )
    op.create_index("ix_measurements_job_id", "measurements", ["job_id"])
    op.create_index("ix_measurements_series_key_job_id", "measurements", ["series_key", "job_id"])

    op.create_table(
        "findings",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("cell_id", sa.String(length=32), nullable=False),
        sa.Column("measurement_id", sa.String(length=32), nullable=True),
        sa.Column("verdict", sa.String(length=32), nullable=False),
        sa.Column("floor_db", sa.Float(precision=53), nullable=True),
        sa.Column("document", Document, nullable=False),
        sa.ForeignKeyConstraint(["cell_id"], ["cells.id"], name="fk_findings_cell_id_cells"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_findings_job_id_jobs"),
        sa.ForeignKeyConstraint(
            ["measurement_id"], ["measurements.id"], name="fk_findings_measurement_id_measurements"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_findings"),
        sa.UniqueConstraint("cell_id", "measurement_id", name="uq_findings_cell_id_measurement_id"),
    )
    op.create_index("ix_findings_job_id", "findings", ["job_id"])
    op.create_index("ix_findings_measurement_id", "findings", ["measurement_id"])


def downgrade() -> None:
    op.drop_index("ix_findings_measurement_id", table_name="findings")
    op.drop_index("ix_findings_job_id", table_name="findings")

    op.drop_table("findings")
    op.drop_index("ix_measurements_series_key_job_id", table_name="measurements")
    op.drop_index("ix_measurements_job_id", table_name="measurements")

    op.drop_table("measurements")
    op.drop_index("ix_cells_shard_id", table_name="cells")

    op.drop_table("cells")
    op.drop_index("ix_shards_status_priority_id", table_name="shards")
    op.drop_index("ix_shards_job_id", table_name="shards")

    op.drop_table("shards")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_series_project_key", table_name="series")

    op.drop_table("series")
    op.drop_index("ix_jobs_project_id", table_name="jobs")
    op.drop_index("ix_jobs_project_branch_measured_at", table_name="jobs")

    op.drop_table("jobs")
    op.drop_table("projects")
    op.drop_table("environments")
