"""add procrastinate's schema, on PostgreSQL alone: a copy of what version 3.10.0 brings."""

from pathlib import Path

from alembic import op

revision = "0008_procrastinate"
down_revision = "0007_workers"
branch_labels = None
depends_on = None

SCHEMA = Path(__file__).parents[1] / "sql" / "procrastinate-3.10.0.sql"
DROP = """
DROP TABLE procrastinate_events, procrastinate_periodic_defers, procrastinate_jobs, procrastinate_workers
    CASCADE;
DO $$
DECLARE routine regprocedure;
BEGIN
    FOR routine IN SELECT oid::regprocedure FROM pg_proc
        WHERE proname LIKE 'procrastinate\\_%' AND pronamespace = current_schema()::regnamespace
    LOOP EXECUTE format('DROP FUNCTION %s CASCADE', routine); END LOOP;
END $$;
DROP TYPE procrastinate_job_to_defer_v1, procrastinate_job_status, procrastinate_job_event_type CASCADE;
"""


def upgrade() -> None:
    _execute(SCHEMA.read_text(encoding="utf-8"))


def downgrade() -> None:
    _execute(DROP)


def _execute(script: str) -> None:
    """Many statements at once, with percent signs in them: by the driver itself."""
    bind = op.get_bind()
    if bind.dialect.name == "postgresql":
        bind.connection.driver_connection.execute(script)
