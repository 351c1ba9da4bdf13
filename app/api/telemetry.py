"""What is told of each request: an id, one log line, a few counts; nothing of what it holds."""

import logging
import re
from http import HTTPStatus
from time import perf_counter
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem, problem_response
from app.metrics import Metrics

logger = logging.getLogger(__name__)

CLIENT_LEFT = 499
"""What is counted where nobody waited for the answer; nginx's number."""

_HEADER = b"x-request-id"
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_UNMATCHED = "unmatched"

_KINDS = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.REQUEST_TIMEOUT: "slow_sender",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported",
    HTTPStatus.UNPROCESSABLE_ENTITY: "invalid",
    HTTPStatus.TOO_MANY_REQUESTS: "overload",
    CLIENT_LEFT: "client_left",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}


def error_kind(status: int) -> str | None:
    """The kind of error that a status stands for; None for none."""
    if status < HTTPStatus.BAD_REQUEST:
        return None
    if status in _KINDS:
        return _KINDS[status]
    return "malformed" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal"


class Telemetry:
    """Gives each request an id, logs and counts it, and answers 500 where the application fails."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and tell of it once it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = perf_counter()
        exchange = _Exchange(_request_id(scope), receive, send)
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            logger.exception("the application failed", extra={"request_id": exchange.request_id})
            if exchange.status is None:
                await problem_response(failure(exchange.request_id))(
                    scope, exchange.receive, exchange.send
                )
        finally:
            self._tell(scope, exchange, perf_counter() - start)

    def _tell(self, scope: Scope, exchange: "_Exchange", seconds: float) -> None:
        left = exchange.status is None or scope["state"].get("client_left", False)
        status = CLIENT_LEFT if left else exchange.status or CLIENT_LEFT
        route = getattr(scope.get("route"), "path", _UNMATCHED)
        kind = scope["state"].get("error_kind") or error_kind(status)
        self._metrics.count(route, status, seconds, kind)
        logger.info(
            "request",
            extra={
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 3),
                "request_id": exchange.request_id,
                "bytes_in": exchange.bytes_in,
                "bytes_out": exchange.bytes_out,
            },
        )


class _Exchange:
    """One request and its answer as they pass by."""

    def __init__(self, request_id: str, receive: Receive, send: Send) -> None:
        self.request_id = request_id
        self.status: int | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        self.bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = [*message["headers"], (_HEADER, self.request_id.encode())]
            message = {**message, "headers": headers}
        self.bytes_out += len(message.get("body", b""))
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """The client's own id if it is sane, else a new one."""
    given: bytes = dict(scope["headers"]).get(_HEADER, b"")
    return given.decode("ascii") if _SANE_ID.fullmatch(given) else uuid4().hex


def failure(request_id: str) -> Problem:
    """500: what nobody foresaw; nothing of it is told but where to look."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        f"The server failed; its log says why, under the request id {request_id}.",
    )
