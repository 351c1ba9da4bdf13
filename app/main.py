"""`create_app`: wires settings, engine, service and routes into one application."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.concurrency import run_in_threadpool

from app import __version__
from app.api import docs, openapi, page, problems
from app.api.access import KeyCheck, Keys
from app.api.admission import Admission, Gate, LingeringClose
from app.api.collections import router as collections_router
from app.api.limits import form_limits
from app.api.routes import router
from app.api.telemetry import Telemetry
from app.batching import Worker
from app.engine import Engine
from app.metrics import Metrics
from app.service import Service, inference_worker
from app.settings import Settings
from app.signals import reload_on_hangup

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Zero-shot image classification with the reasons attached.

Each image is compared with the labels (CLIP). Captions retrieved for it from a caption collection
vote on the same labels, and each of the two votes counts by its confidence (X-MoRe,
[arXiv 2308.15273](https://arxiv.org/abs/2308.15273)).

To try it on this page without a photo at hand, take [this drawing](docs/example.png), which is what
the examples ask about. Errors are `application/problem+json` (RFC 9457).
"""


def create_app(
    settings: Settings | None = None,
    load_engine: Callable[[Settings], Engine] = Engine.load,
    worker: Worker | None = None,
) -> FastAPI:
    """Make the application; the engine is loaded when it starts.

    Args:
        settings: read from the environment if not given.
        load_engine: how to make the engine; called in the worker's thread.
        worker: does all inference; made when the application starts if not given.
    """
    settings = settings or Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        inference = worker or inference_worker(settings)
        loading = asyncio.wrap_future(inference.call(partial(load_engine, settings)))
        try:
            (engine,) = (await loading).rows
        except BaseException:
            inference.close(patience_s=0)
            raise
        service = Service(engine, settings, metrics, inference)
        metrics.watch_labels(engine.labels)
        metrics.watch_collections(engine.catalog)
        app.state.service = service
        with reload_on_hangup(service):
            yield
        app.state.service = None
        if not await run_in_threadpool(service.close):
            logger.error("the inference worker is stuck and is left behind")

    limits = form_limits(settings)
    app = FastAPI(
        title="xmore",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_tags=openapi.TAGS,
        generate_unique_id_function=openapi.operation_id,
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
    app.state.metrics = metrics
    app.state.keys = Keys(settings.api_keys)
    app.state.gate = Gate(settings.max_queue, settings.max_queue_bytes)
    metrics.watch_queue(app.state.gate)
    _install_middleware(app, settings)
    app.include_router(router)
    app.include_router(collections_router)
    openapi.install(app, app.state.keys)
    docs.install(app)
    page.install(app)
    problems.install(app)
    return app


def _install_middleware(app: FastAPI, settings: Settings) -> None:
    """What a request passes on its way in, the innermost first."""
    app.add_middleware(Admission, gate=app.state.gate, settings=settings)
    app.add_middleware(KeyCheck, keys=app.state.keys, guard_metrics=settings.metrics_need_key)
    app.add_middleware(Telemetry, metrics=app.state.metrics)
    app.add_middleware(LingeringClose)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
