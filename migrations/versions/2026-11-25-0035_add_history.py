"""add history."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
BATCH = 1000

revision = "0005_history"
down_revision = "0004_gate"
branch_labels = None
depends_on = None


findings = sa.table(
    "findings",
    sa.column("id", sa.String),
    sa.column("document", Document),
    sa.column("baseline_id", sa.String),
)


def _name_baselines() -> None:
    """The baseline that each finding's document names, as a column."""
    connection = op.get_bind()
    after = ""
    query = sa.select(findings.c.id, findings.c.document).order_by(findings.c.id).limit(BATCH)
    while rows := connection.execute(query.where(findings.c.id > after)).all():
        after = rows[-1].id
        for row in rows:
            if row.document.get("baseline"):
                named = {"baseline_id": row.document["baseline"]["measurement_id"]}
                connection.execute(findings.update().where(findings.c.id == row.id).values(named))


def upgrade() -> None:
    op.add_column("projects", sa.Column("settings", Document, nullable=True))
    op.add_column("projects", sa.Column("retention", Document, nullable=True))
    op.add_column("findings", sa.Column("baseline_id", sa.String(length=32), nullable=True))
    op.create_index("ix_findings_baseline_id", "findings", ["baseline_id"])
    _name_baselines()
    op.add_column("cells", sa.Column("lineage", sa.String(length=32), nullable=True))
    op.create_index("ix_cells_lineage", "cells", ["lineage"])
    op.add_column("jobs", sa.Column("imported", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    op.drop_index("ix_findings_baseline_id", "findings")
    op.drop_column("findings", "baseline_id")
    op.drop_column("projects", "retention")
    op.drop_column("projects", "settings")
    op.drop_column("jobs", "imported")
    op.drop_index("ix_cells_lineage", "cells")
    op.drop_column("cells", "lineage")
