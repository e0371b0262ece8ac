"""add to cells of which commit the files were that they were measured from."""

import sqlalchemy as sa
from alembic import op

from noisefloor.store.tables import Document

revision = "0012_files"
down_revision = "0011_queue"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cells", sa.Column("files", Document, nullable=True))


def downgrade() -> None:
    op.drop_column("cells", "files")
