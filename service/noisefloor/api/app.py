"""The application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from sqlalchemy import Engine

from noisefloor.api import (
    baselines,
    bisections,
    compare,
    conformance,
    deliveries,
    errors,
    gates,
    health,
    hooks,
    jobs,
    metrics,
    pictures,
    policies,
    projects,
    records,
    results,
    series,
    suites,
    workers,
)
from noisefloor.api.census import Census
from noisefloor.api.dependencies import Service
from noisefloor.api.document import Documented
from noisefloor.api.guard import Guard
from noisefloor.api.observer import Observer
from noisefloor.api.queries import known_parameters
from noisefloor.dashboard import pages
from noisefloor.dispatch.port import Dispatch
from noisefloor.settings import Settings
from noisefloor.workflow.courier import Courier
from noisefloor.workflow.keeper import Keeper


def create_app(*, settings: Settings, engine: Engine, dispatch: Dispatch) -> FastAPI:
    """The REST API and the dashboard over one database and one execution engine."""
    to = Service(settings=settings, engine=engine, dispatch=dispatch, census=Census(engine))
    courier = Courier(engine=engine, settings=settings, stopping=to.stopping)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with courier, Keeper(engine, to.stopping):
            yield

    app = Documented(title="Noisefloor", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = to
    errors.install(app)
    for part in (health, metrics, hooks):
        app.include_router(part.router)
    closed = (
        jobs,
        bisections,
        results,
        series,
        compare,
        conformance,
        records,
        projects,
        pictures,
        policies,
        baselines,
        gates,
        suites,
        deliveries,
        workers,
    )
    for part in closed:
        app.include_router(part.router, dependencies=[Depends(known_parameters)])
    token = settings.token.get_secret_value() if settings.token else None
    app.include_router(pages.router(engine=engine, token=token))
    app.mount("/static", pages.static())
    _watch(app, settings)
    return app


def create_worker_app(*, settings: Settings, engine: Engine, dispatch: Dispatch) -> FastAPI:
    """A worker's health and what it counts; what the database says is for the services to say."""
    app = FastAPI(title="Noisefloor worker", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = Service(settings=settings, engine=engine, dispatch=dispatch)
    errors.install(app)
    for part in (health, metrics):
        app.include_router(part.router)
    _watch(app, settings)
    return app


def _watch(app: FastAPI, settings: Settings) -> None:
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Observer)
