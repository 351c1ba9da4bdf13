"""SIGHUP: load the caption collections again, as `POST /v1/index/reload` does."""

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.index.catalog import ReloadError
from app.service import Service

logger = logging.getLogger(__name__)


@contextmanager
def reload_on_hangup(service: Service) -> Iterator[None]:
    """Reload at every SIGHUP while the context lasts.

    Signals reach the main thread only; an application that runs in another has the route.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    # The loop itself holds tasks only weakly.
    tasks: set[asyncio.Task[None]] = set()

    def begin() -> None:
        task = loop.create_task(_reload(service))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _reload(service: Service) -> None:
    try:
        await service.reload()
    except ReloadError as error:
        logger.error("The caption collections were not reloaded. %s", error)  # noqa: TRY400 - told in words
    else:
        names = ", ".join(service.engine.catalog.collections)
        logger.warning("The caption collections were reloaded: %s.", names)
