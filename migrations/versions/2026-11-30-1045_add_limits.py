"""add to accepted levels what the broken rules asked."""

import sqlalchemy as sa
from alembic import op

from noisefloor.store.tables import Document

revision = "0013_limits"
down_revision = "0012_files"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accepted_levels", sa.Column("limits", Document, nullable=True))


def downgrade() -> None:
    op.drop_column("accepted_levels", "limits")
