"""The migrations build the tables, on both databases, and can be taken back with rows in them."""

import pytest
from sqlalchemy import Engine, inspect, select
from tests.measuring import measure
from tests.samples import spec

from noisefloor.contract.verdict import Verdict
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import SettingsError
from noisefloor.settings import Settings
from noisefloor.store import schema
from noisefloor.store.session import reading, writing
from noisefloor.store.tables import Job


def test_the_tables_are_what_the_migrations_build(engine: Engine) -> None:
    schema.check(engine)


def test_the_check_notices_a_difference(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN surplus INTEGER")
    with pytest.raises(Exception, match="surplus"):
        schema.check(engine)


def test_up_down_up_with_rows(engine: Engine, settings: Settings) -> None:
    with writing(engine, "test") as session:
        measure(session, settings, LocalDispatch(), spec())
    with reading(engine) as session:
        assert session.scalars(select(Job.verdict)).all() == [Verdict.PASS]
    schema.downgrade(engine, "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    schema.upgrade(engine)
    schema.check(engine)
    with writing(engine, "test") as session:
        measure(session, settings, LocalDispatch(), spec())


def test_a_database_without_the_schema_is_refused_in_one_sentence(engine: Engine) -> None:
    schema.downgrade(engine, "base")
    with pytest.raises(SettingsError, match="noisefloor db upgrade"):
        schema.require_current(engine)
