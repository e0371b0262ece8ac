"""add history."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cells", sa.Column("lineage", sa.String(length=32), nullable=True))
    op.create_index("ix_cells_lineage", "cells", ["lineage"])
    op.add_column("jobs", sa.Column("imported", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index("ix_jobs_project_sha", "jobs", ["project", "sha"])


def downgrade() -> None:
    op.drop_index("ix_jobs_project_sha", "jobs")
    op.drop_column("jobs", "imported")
    op.drop_index("ix_cells_lineage", "cells")
    op.drop_column("cells", "lineage")
