"""`create_app`: wires settings, engine, service and routes into one application."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from app import __version__
from app.api import docs, problems
from app.api.collections import router as collections_router
from app.api.limits import BodyLimit, form_limits
from app.api.routes import router
from app.engine import Engine
from app.service import Service
from app.settings import Settings
from app.signals import reload_on_hangup

DESCRIPTION = """\
Zero-shot image classification with the reasons attached.

Each image is compared with the labels (CLIP). Captions retrieved for it from a caption collection
vote on the same labels, and each of the two votes counts by its confidence (X-MoRe,
[arXiv 2308.15273](https://arxiv.org/abs/2308.15273)).
"""


def create_app(
    settings: Settings | None = None, load_engine: Callable[[Settings], Engine] = Engine.load
) -> FastAPI:
    """Make the application; the engine is loaded when it starts.

    Args:
        settings: read from the environment if not given.
        load_engine: how to make the engine; tests give a small one.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(await run_in_threadpool(load_engine, settings))
        app.state.service = service
        with reload_on_hangup(service):
            yield
        app.state.service = None
        await run_in_threadpool(service.close)

    limits = form_limits(settings)
    app = FastAPI(
        title="xmore",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        form_limits={
            "max_files": limits.max_files,
            "max_fields": limits.max_fields,
            "max_part_size": limits.max_part_size,
        },
    )
    app.state.settings = settings
    app.state.service = None
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.include_router(router)
    app.include_router(collections_router)
    docs.install(app)
    problems.install(app)
    return app
