"""add conformance."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Document = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0006_conformance"
down_revision = "0005_history"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "conformance",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("cell_id", sa.String(length=32), nullable=False),
        sa.Column("op", sa.String(length=512), nullable=False),
        sa.Column("engine", sa.String(length=32), nullable=False),
        sa.Column("isa", sa.String(length=32), nullable=False),
        sa.Column("mode", sa.String(length=32), nullable=False),
        sa.Column("torch", sa.String(length=512), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("document", Document, nullable=False),
        sa.ForeignKeyConstraint(["cell_id"], ["cells.id"], name="fk_conformance_cell_id_cells"),
        sa.PrimaryKeyConstraint("id", name="pk_conformance"),
        sa.UniqueConstraint("cell_id", name="uq_conformance_cell_id"),
    )
    op.create_index(
        "ix_conformance_op_engine_isa_mode_id", "conformance", ["op", "engine", "isa", "mode", "id"]
    )


def downgrade() -> None:
    op.drop_table("conformance")
