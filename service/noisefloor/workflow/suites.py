"""Suites: kept, shown, and refused where their job would be."""

from sqlalchemy.orm import Session

from noisefloor.contract.resources import FieldError
from noisefloor.contract.suite import Suite, SuiteView
from noisefloor.errors import NoisefloorError
from noisefloor.settings import Settings
from noisefloor.store import clock, jobs, suites, tables
from noisefloor.workflow.check import check


def put_suite(session: Session, *, project: str, name: str, suite: Suite, settings: Settings) -> SuiteView:
    """Keep a suite under its name, in place of the one before. Its job is checked as if it were posted."""
    if suite.job is not None:
        try:
            check(suite.job, project=project, settings=settings)
        except NoisefloorError as error:
            raise type(error)(error.detail, [_below_job(field) for field in error.errors]) from None
    now = clock.now()
    jobs.ensure_project(session, project, now)
    row = suites.find(session, project, name) or tables.Suite(project=project, name=name)
    row.provider, row.repository = suite.provider, suite.repository.lower()
    row.document = suite.model_dump(mode="json", by_alias=True)
    row.updated_at = now
    session.add(row)
    session.flush()
    return suite_view(row)


def suite_of(row: tables.Suite) -> Suite:
    """The suite that a row keeps."""
    return Suite.model_validate(row.document)


def suite_view(row: tables.Suite) -> SuiteView:
    """The suite as it is shown."""
    named = {"project": row.project, "name": row.name, "updated_at": row.updated_at}
    return SuiteView.model_validate({**row.document, **named})


def _below_job(field: FieldError) -> FieldError:
    return field.replace(field=f"job.{field.field}")
