"""The application."""

from fastapi import FastAPI
from sqlalchemy import Engine

from noisefloor.api import errors, health, jobs, series, workers
from noisefloor.api.dependencies import Service
from noisefloor.api.guard import Guard
from noisefloor.dashboard import pages
from noisefloor.dispatch.port import Dispatch
from noisefloor.settings import Settings


def create_app(*, settings: Settings, engine: Engine, dispatch: Dispatch) -> FastAPI:
    """The REST API and the dashboard over one database and one execution engine."""
    app = FastAPI(title="Noisefloor", version="1", docs_url=None, redoc_url=None)
    app.state.service = Service(settings=settings, engine=engine, dispatch=dispatch)
    errors.install(app)
    for router in (health.router, jobs.router, series.router, workers.router):
        app.include_router(router)
    token = settings.token.get_secret_value() if settings.token else None
    app.include_router(pages.router(engine=engine, token=token))
    app.mount("/static", pages.static())
    app.add_middleware(Guard, settings=settings)
    return app
