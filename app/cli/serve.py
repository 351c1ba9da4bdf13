"""`xmore serve`."""

from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from app import process
from app.cli.terminal import failures_in_words, read_settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [XMORE_HOST]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to listen on. [XMORE_PORT]")
    ] = None,
) -> None:
    """Serve the REST API until stopped."""
    process.prepare()
    from app import logs
    from app.engine import Engine
    from app.main import create_app
    from app.server import Server
    from app.service import inference_worker

    settings = read_settings(host=host, port=port)
    logs.configure(settings.log_level)
    # Loaded before the server is made: what cannot be loaded is told in one line.
    worker = inference_worker(settings)
    with failures_in_words():
        (engine,) = worker.call(partial(Engine.load, settings)).result().rows
    process.settle()
    server = Server(create_app(settings, lambda _: engine, worker), settings)
    # uvicorn exits with a number of its own; the log has said why.
    with suppress(SystemExit):
        server.run()
    if not server.started:
        raise typer.Exit(1)
