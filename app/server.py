"""uvicorn with what a public endpoint needs: idle senders cut off, a stop that drains."""

import asyncio
import logging
import signal
import socket
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.api.admission import Gate
from app.settings import Settings

logger = logging.getLogger(__name__)

_KEEP_ALIVE_S = 75
"""How long a connection is kept for the next request. Clients and proxies give theirs up earlier (5
seconds in httpx, 60 in nginx), so none of them sends on a connection that is just being closed."""

_GOODBYE_S = 2
"""How long the last answers may take to leave once everything else is done."""


class Server(uvicorn.Server):
    """Serves an application until SIGTERM or SIGINT, then lets accepted requests finish."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        timeout_s = settings.body_timeout_s

        class Protocol(_PatientProtocol):
            header_timeout_s = timeout_s

        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                root_path=settings.root_path,
                http=Protocol,
                ws="none",
                log_config=None,
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GOODBYE_S,
            )
        )
        self._gate: Gate = app.state.gate
        self._drain_timeout_s = settings.drain_timeout_s

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped by a signal; a stop that was asked for is no failure.

        uvicorn sends itself the signal again once it is done, which would end the process with
        that signal's exit code.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        super().run(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Be not ready, but go on listening until accepted requests are answered."""
        logger.info("stopping: waiting for accepted requests")
        self._gate.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_timeout_s):
                await self._gate.wait_until_empty()
        self._gate.abort()
        await super().shutdown(sockets)


class _PatientProtocol(H11Protocol):
    """HTTP/1.1 with a limit on how long the head of a request may take; uvicorn has none."""

    header_timeout_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Expect a request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Time the head of a request from its first byte, or from the connection's beginning."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_head()
        elif self._head_timer is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self.header_timeout_s, self.transport.close)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
