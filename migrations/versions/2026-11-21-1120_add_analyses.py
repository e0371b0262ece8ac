"""add analyses."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "analyses",
        sa.Column("cell_id", sa.String(length=32), nullable=False),
        sa.Column("document", Document, nullable=False),
        sa.ForeignKeyConstraint(["cell_id"], ["cells.id"], name="fk_analyses_cell_id_cells"),
        sa.PrimaryKeyConstraint("cell_id", name="pk_analyses"),
    )


def downgrade() -> None:
    op.drop_table("analyses")
