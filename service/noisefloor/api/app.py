"""The application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import Engine

from noisefloor.api import conformance, deliveries, errors, health, hooks, jobs, series, suites
from noisefloor.api.dependencies import Service
from noisefloor.api.guard import Guard
from noisefloor.dashboard import pages
from noisefloor.dispatch.port import Dispatch
from noisefloor.settings import Settings
from noisefloor.workflow.courier import Courier


def create_app(*, settings: Settings, engine: Engine, dispatch: Dispatch) -> FastAPI:
    """The REST API and the dashboard over one database and one execution engine."""
    courier = Courier(engine=engine, settings=settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with courier:
            yield

    app = FastAPI(title="Noisefloor", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = Service(settings=settings, engine=engine, dispatch=dispatch)
    errors.install(app)
    of_projects = (jobs.router, series.router, suites.router, hooks.router, deliveries.router)
    for router in (health.router, *of_projects, conformance.router):
        app.include_router(router)
    token = settings.token.get_secret_value() if settings.token else None
    app.include_router(pages.router(engine=engine, token=token, waiting_for=dispatch.waiting_for))
    app.mount("/static", pages.static())
    app.add_middleware(Guard, settings=settings)
    return app
