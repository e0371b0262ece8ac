"""The pages: each endpoint reads one consistent picture and renders it."""

from collections.abc import Callable, Iterable
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from noisefloor.contract.base import Digest, Identifier, Name, Text
from noisefloor.contract.job import Git
from noisefloor.contract.resources import CellView, EnvironmentView
from noisefloor.contract.scheme import Grid
from noisefloor.contract.subject import Subject
from noisefloor.contract.trend import Order
from noisefloor.dashboard import compare, login
from noisefloor.dashboard.attention import attention
from noisefloor.dashboard.chart import BARS, CROSS, chart
from noisefloor.dashboard.earlier import document
from noisefloor.dashboard.grid import grid_of_cells, grid_of_latest
from noisefloor.dashboard.history import history
from noisefloor.dashboard.layers import edges
from noisefloor.dashboard.matrix import matrix
from noisefloor.dashboard.rendering import HEADERS, rendered
from noisefloor.dashboard.repro import Repro, repro
from noisefloor.dashboard.route import PageRoute
from noisefloor.errors import NotFoundError
from noisefloor.store import bisections, cells, commits, conformance, jobs, measurements, series
from noisefloor.store.session import reading
from noisefloor.store.tables import Job, Series
from noisefloor.store.trends import Window
from noisefloor.workflow.bisections import view
from noisefloor.workflow.trends import View, trend
from noisefloor.workflow.views import cell_views, conformance_view, job_view, job_views, layer_view

JOBS_A_PAGE = 50
LATEST_JOBS = 5
CELLS_A_PAGE = 240  # a multiple of 1 to 4 engines, so that a page ends with a row of the matrix
CONCERNS = 50
POINTS = 500
STEPS = 500
CHANGES = 20
SIBLINGS = 50
RESULTS = 50

Project = Annotated[Name, Path()]
Filter = Annotated[Text, Query()]
After = Annotated[int, Query(ge=-1, le=2**31 - 1)]


def router(*, engine: Engine, token: str | None) -> APIRouter:
    """The dashboard's pages over one database."""
    pages = Pages(engine)
    routes = APIRouter(route_class=PageRoute, include_in_schema=False)
    endpoints: dict[str, Callable[..., Response]] = {
        "/": pages.home,
        "/projects/{project}": pages.project,
        "/projects/{project}/jobs/{job_id}": pages.job,
        "/projects/{project}/jobs/{job_id}/cells/{cell_id}": pages.cell,
        "/projects/{project}/bisections/{bisection_id}": pages.bisection,
        "/projects/{project}/series/{key}": pages.series,
        "/environments/{key}": pages.environment,
        "/conformance": pages.conformance,
    }
    for path, endpoint in endpoints.items():
        routes.add_api_route(path, endpoint)
    routes.include_router(compare.router(engine))
    routes.include_router(login.router(token))
    return routes


def static() -> StaticFiles:
    """The style sheet, the icon, and the script of the buttons that copy."""
    return StaticFiles(directory=FilePath(__file__).parent / "static")


class Pages:
    """The endpoints, with what they read from."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def home(self) -> Response:
        """The projects with their latest jobs; straight to the only one."""
        with reading(self.engine) as session:
            names = jobs.projects(session)
            if len(names) == 1:
                return RedirectResponse(f"/projects/{names[0]}", headers=HEADERS)
            rows = {
                name: jobs.page(session, name, limit=LATEST_JOBS, before=None, counts=True) for name in names
            }
            latest = {name: job_views(session, found) for name, found in rows.items()}
        return rendered("home.html", latest=latest)

    def project(
        self,
        project: Project,
        cursor: Identifier | None = None,
        branch: Annotated[Text | None, Query()] = None,
        *,
        counts: Annotated[bool, Query()] = True,
    ) -> HTMLResponse:
        """The jobs of a project, newest first: those that count, or those that decide nothing."""
        branch = branch or None
        with reading(self.engine) as session:
            if project not in jobs.projects(session):
                raise NotFoundError(f"there is no project {project!r}")
            rows = jobs.page(
                session, project, limit=JOBS_A_PAGE + 1, before=cursor, branch=branch, counts=counts
            )
            views = job_views(session, rows[:JOBS_A_PAGE])
        older = views[-1].id if len(rows) > JOBS_A_PAGE else None
        return rendered(
            "project.html",
            project=project,
            jobs=views,
            older=older,
            cursor=cursor,
            shown={"branch": branch or "", "counts": str(counts).lower()},
        )

    def job(self, project: Project, job_id: Identifier, after: After = -1) -> HTMLResponse:
        """A job: its verdict, what needs attention, the matrix, and the cells one by one."""
        with reading(self.engine) as session:
            row = jobs.find(session, project, job_id)
            if row is None:
                raise NotFoundError(f"project {project!r} has no job {job_id}")
            view = job_view(session, row)
            shown = cell_views(session, row, cells.page(session, job_id, limit=CELLS_A_PAGE, after=after))
            concerns = attention(session, row, limit=CONCERNS) if after < 0 else None
            environments = _environments(session, (cell.environment for cell in shown))
            documents = {view.key: view.document for view in environments}
            git = Git.model_validate(row.git)
            base = _baseline(row, shown) or commits.before(session, row)
        return rendered(
            "job.html",
            job=view,
            attention=concerns,
            matrix=matrix([cell for cell in shown if cell.subject.conformance is None]),
            grid=grid_of_cells(shown, f"/projects/{project}"),
            cells=shown,
            repros={cell.id: repro(cell, git, documents.get(cell.environment or "")) for cell in shown},
            environments=environments,
            base=base,
            cells_a_page=CELLS_A_PAGE,
        )

    def bisection(self, project: Project, bisection_id: Identifier) -> HTMLResponse:
        """A bisection: what was found, the steps, and the command that shows the first bad one."""
        with reading(self.engine) as session:
            row = bisections.find(session, project, bisection_id)
            if row is None:
                raise NotFoundError(f"project {project!r} has no bisection {bisection_id}")
            shown = view(session, row)
            first = shown.found.first_bad if shown.found is not None else None
            job = jobs.find(session, project, first.job or "") if first is not None else None
            measured = cell_views(session, job, cells.page(session, job.id, limit=1)) if job else ()
            sha = first.name if first is not None and shown.spec.over == "commits" else row.state.get("sha")
            command = _repro(session, Git(sha=sha), measured[0]) if measured else None
        return rendered("bisection.html", bisection=shown, repro=command)

    def cell(self, project: Project, job_id: Identifier, cell_id: Identifier) -> HTMLResponse:
        """A cell: its figures in short, and where in the model its error comes from."""
        with reading(self.engine) as session:
            job = jobs.find(session, project, job_id)
            row = cells.find(session, job_id, cell_id) if job is not None else None
            if job is None or row is None:
                raise NotFoundError(f"project {project!r} has no cell {cell_id} of job {job_id}")
            (view,) = cell_views(session, job, [row])
            if view.conformance is not None:
                return self._kernel(session, job, view)
            layers = layer_view(session, row)
            found = list(edges(session, job, view, layers, document(session, view.environment)))
            command = _repro(session, Git.model_validate(job.git), view)
        return rendered(
            "layers.html", project=project, job=job, cell=view, layers=layers, edges=found, repro=command
        )

    def _kernel(self, session: Session, job: Job, cell: CellView) -> HTMLResponse:
        """An operator's cell: what was found of the kernel, how to see it, and what was found before."""
        row = conformance.of_cells(session, [cell.id])[cell.id]
        found = conformance.history(session, row, limit=RESULTS)
        (environment,) = _environments(session, [cell.environment]) or (None,)
        return rendered(
            "kernel.html",
            job=job,
            cell=cell,
            found=cell.conformance,
            environment=environment,
            repro=repro(cell, Git.model_validate(job.git), environment.document if environment else None),
            results=[conformance_view(one) for one in found],
        )

    def conformance(self, op: Filter = "*", torch: Filter = "", mode: Grid | None = None) -> HTMLResponse:
        """The latest of every kernel, on one grid of cases: the full one if there is one."""
        with reading(self.engine) as session:
            latest = conformance.latest(session, op=op or "*", torch=torch or None)
            versions = conformance.torch_versions(session)
            full = any(one.row.mode == "full" for one in latest)
            shown = mode or ("full" if full or not latest else "quick")
            views = [conformance_view(one) for one in latest if one.row.mode == shown]
            environments = _environments(session, (view.environment for view in views))
        return rendered(
            "conformance.html",
            grid=grid_of_latest(views),
            op=op,
            torch=torch,
            mode=shown,
            versions=versions,
            environments=environments,
        )

    def series(
        self,
        project: Project,
        key: Digest,
        branch: Annotated[Text | None, Query()] = None,
        x: Order = Order.COMMIT,
    ) -> HTMLResponse:
        """A series: its identity, its line, and its points."""
        branch = branch or None
        with reading(self.engine) as session:
            row = series.find(session, project, key)
            if row is None:
                raise NotFoundError(f"project {project!r} has no series {key}")
            line = trend(session, row, Window(branch=branch), View(x=x, points=POINTS))
            siblings = _siblings(session, row)
        return rendered(
            "series.html",
            trend=line,
            subject=Subject.model_validate(row.identity["subject"]),
            chart=chart(line),
            cross=CROSS,
            bars=BARS,
            steps=history(line)[:STEPS],
            branch=branch,
            changes_shown=CHANGES,
            siblings=siblings,
        )

    def environment(self, key: Digest) -> HTMLResponse:
        """An environment, whole."""
        with reading(self.engine) as session:
            found = _environment(session, key)
        if found is None:
            raise NotFoundError(f"there is no environment {key}")
        return rendered("environment.html", environment=found)


def _environment(session: Session, key: str) -> EnvironmentView | None:
    row = measurements.environment(session, key)
    if row is None:
        return None
    return EnvironmentView(key=row.key, first_seen_at=row.first_seen_at, document=row.document)


def _baseline(job: Job, shown: Iterable[CellView]) -> str | None:
    """The commit of the first baseline that is another than the job's."""
    findings = (m.finding for cell in shown for m in cell.measurements if m.finding is not None)
    shas = (finding.baseline.sha for finding in findings if finding.baseline is not None)
    return next((sha for sha in shas if sha is not None and sha != job.sha), None) if job.sha else None


def _repro(session: Session, git: Git, cell: CellView) -> Repro:
    return repro(cell, git, document(session, cell.environment))


def _environments(session: Session, keys: Iterable[str | None]) -> list[EnvironmentView]:
    found = (_environment(session, key) for key in dict.fromkeys(keys) if key is not None)
    return [view for view in found if view is not None]


def _siblings(session: Session, row: Series) -> dict[str, str]:
    """The series that differ in the engine alone, by engine: what a comparison of engines follows."""
    names = [name for name in series.FILTERS if name != "engine"]
    filters = {name: getattr(row, name) for name in names}
    same = {name: value for name, value in row.identity.items() if name != "engine"}
    found = series.page(session, row.project, filters=filters, limit=SIBLINGS, after=None)
    return {
        other.engine: other.key
        for other in sorted(found, key=lambda other: other.engine)
        if {name: value for name, value in other.identity.items() if name != "engine"} == same
    }
