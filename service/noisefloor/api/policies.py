"""Stored policies."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from noisefloor.api.dependencies import Limit, ProjectName, ServiceDep
from noisefloor.contract.base import Name
from noisefloor.contract.gate import DryRunRequest, DryRunView, PolicyView
from noisefloor.contract.policy import Policy
from noisefloor.contract.resources import Page
from noisefloor.store import policies
from noisefloor.store.session import reading, writing
from noisefloor.workflow.policies import dry_run, found, put, view

router = APIRouter(prefix="/v1/projects/{project}/policies", tags=["policies"])

PolicyName = Annotated[Name, Path(description="a policy's name")]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="the latest by default")]


@router.put("/{name}", responses={201: {"model": PolicyView, "description": "A new version"}})
def put_policy(
    project: ProjectName, name: PolicyName, policy: Policy, to: ServiceDep, response: Response
) -> PolicyView:
    """Keep a policy; one that differs from the latest version is a new version."""
    with writing(to.engine, "policy") as session:
        row, is_new = put(session, project, name, policy)
        response.status_code = 201 if is_new else 200
        return view(row)


@router.get("")
def list_policies(
    project: ProjectName, to: ServiceDep, limit: Limit = 100, cursor: Annotated[Name | None, Query()] = None
) -> Page[PolicyView]:
    """The latest version of each policy, by name."""
    with reading(to.engine) as session:
        rows = policies.page(session, project, limit=limit + 1, after=cursor)
        views = tuple(view(row) for row in rows[:limit])
    return Page(items=views, next_cursor=views[-1].name if len(rows) > limit else None)


@router.get("/{name}")
def get_policy(project: ProjectName, name: PolicyName, to: ServiceDep, version: Version = None) -> PolicyView:
    """One policy: its latest version, or the one that is asked for."""
    with reading(to.engine) as session:
        return view(found(session, project, name, version))


@router.get("/{name}/versions")
def list_versions(project: ProjectName, name: PolicyName, to: ServiceDep) -> Page[PolicyView]:
    """All versions of a policy, newest first."""
    with reading(to.engine) as session:
        found(session, project, name)
        return Page(items=tuple(view(row) for row in policies.versions(session, project, name)))


@router.post("/{name}/dry-run")
def post_dry_run(project: ProjectName, name: PolicyName, to: ServiceDep, asked: DryRunRequest) -> DryRunView:
    """What the policy would have said of past jobs, beside what they got. Writes nothing."""
    with reading(to.engine) as session:
        return dry_run(session, project, name, asked)
