"""What a project decides for itself."""

from fastapi import APIRouter
from sqlalchemy.orm import Session

from noisefloor.api.dependencies import ProjectName, ServiceDep
from noisefloor.contract.project import ProjectSettings, Retention
from noisefloor.errors import NotFoundError
from noisefloor.store import clock, jobs, projects
from noisefloor.store.session import reading, writing

router = APIRouter(prefix="/v1/projects/{project}", tags=["projects"])


@router.get("/settings")
def get_settings(project: ProjectName, to: ServiceDep) -> ProjectSettings:
    """The project's settings."""
    with reading(to.engine) as session:
        _require(session, project)
        return projects.settings(session, project)


@router.put("/settings")
def put_settings(project: ProjectName, given: ProjectSettings, to: ServiceDep) -> ProjectSettings:
    """Replace the project's settings; what is left out is the default."""
    with writing(to.engine, "settings") as session:
        jobs.ensure_project(session, project, clock.now())
        projects.write_settings(session, project, given)
    return given


@router.get("/retention")
def get_retention(project: ProjectName, to: ServiceDep) -> Retention:
    """How long the project keeps what was measured."""
    with reading(to.engine) as session:
        _require(session, project)
        return projects.retention(session, project)


@router.put("/retention")
def put_retention(project: ProjectName, given: Retention, to: ServiceDep) -> Retention:
    """Replace it; what is left out is kept forever. The service deletes by it within the hour."""
    with writing(to.engine, "retention") as session:
        jobs.ensure_project(session, project, clock.now())
        projects.write_retention(session, project, given)
    return given


def _require(session: Session, project: str) -> None:
    if not projects.exists(session, project):
        raise NotFoundError(f"there is no project {project!r}")
