"""Who may come in: requests under way, and the bytes and time that their bodies may take.

All of it happens before and while a body is read, so that what is refused takes no memory.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem, problem_response
from app.settings import Settings

_RETRY_AFTER = {"Retry-After": "1"}
_LINGER_S = 5.0
_TAIL_BYTES = 1024


class Gate:
    """Counts the requests under way and the bytes of their bodies. Lives on the event loop."""

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._empty = asyncio.Event()
        self._empty.set()
        self.closed = False
        self.aborted = asyncio.Event()
        self.depth = 0
        self.held_bytes = 0
        self._inside = 0

    @contextmanager
    def enter(self, declared_bytes: int) -> Iterator["Ticket"]:
        """Take a place, and the bytes that the request says it will send.

        Raises:
            Problem: 503 at a stop, 429 where there is no place or too many bytes are held.
        """
        if self.closed:
            raise stopping()
        if self.depth >= self._max_requests:
            raise too_many_requests(self.depth)
        ticket = Ticket(self)
        self._inside += 1
        self._empty.clear()
        try:
            ticket.hold(declared_bytes)
            yield ticket
        finally:
            ticket.give_back()
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    def has_room(self, more_bytes: int) -> bool:
        """Whether more may be held; a request that is alone always fits."""
        return self.depth <= 1 or self.held_bytes + more_bytes <= self._max_bytes

    def close(self) -> None:
        """Let nobody in any more; those inside go on."""
        self.closed = True

    def abort(self) -> None:
        """Give up the requests that are still inside: each is answered with 503."""
        self.aborted.set()

    async def wait_until_empty(self) -> None:
        """Wait until every request that came in has its answer."""
        await self._empty.wait()


class Ticket:
    """The place of one request, and the bytes it holds."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._is_held = True
        self.held_bytes = 0
        gate.depth += 1

    def give_back(self) -> None:
        """Let go of the place and the bytes, once."""
        if self._is_held:
            self._is_held = False
            self._gate.depth -= 1
            self._gate.held_bytes -= self.held_bytes

    def hold(self, total: int) -> None:
        """Hold `total` bytes if that is more than now.

        Raises:
            Problem: 429 if all requests together would hold too many.
        """
        more = max(0, total - self.held_bytes)
        if not self._gate.has_room(more):
            raise too_many_bytes()
        self.held_bytes += more
        self._gate.held_bytes += more


def not_ready() -> Problem:
    """503 while model and collections are loaded."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The service is not ready; try again soon.",
        headers={"Retry-After": "5"},
    )


def stopping() -> Problem:
    """503 for what comes while the service stops."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "The service is stopping.", headers={"Retry-After": "5"}
    )


def too_many_requests(depth: int) -> Problem:
    """429 for what finds no place."""
    return _busy(f"{depth} requests are under way")


def too_many_bytes() -> Problem:
    """429 for what would hold more memory than there is."""
    return _busy("the requests under way hold as many bytes as they may")


def _busy(why: str) -> Problem:
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"The service is busy: {why}. Try again after a second.",
        headers=_RETRY_AFTER,
    )


class _ClientStalledError(Exception):
    """The client takes no more of its answer."""


class Admission:
    """Lets a POST in if there is room, limits its body, and drops it when its client leaves."""

    def __init__(self, app: ASGIApp, gate: Gate, settings: Settings) -> None:
        self._app = app
        self._gate = gate
        self._max_bytes = settings.max_body_bytes
        self._body_timeout_s = settings.body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may come in; answer the rest at once."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        declared_bytes = int(declared) if declared.isdigit() else 0
        try:
            if declared_bytes > self._max_bytes:
                raise body_too_large(self._max_bytes)
            with self._gate.enter(declared_bytes) as ticket:
                body = _Body(receive, ticket, self._max_bytes, self._body_timeout_s)
                scope["state"]["body_tail"] = lambda: body.tail
                await self._answer(scope, body, self._watched(send, body, ticket))
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)

    async def _answer(self, scope: Scope, body: "_Body", send: Send) -> None:
        """Run the application until it has answered, its client has left, or the server stops.

        Raises:
            Problem: 503, at a stop.
        """
        answering = asyncio.ensure_future(self._app(scope, body.receive, send))
        leaving = asyncio.create_task(body.wait_until_client_leaves())
        stopping_ = asyncio.create_task(self._gate.aborted.wait())
        try:
            await asyncio.wait((answering, leaving, stopping_), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving, stopping_):
                task.cancel()
            # A cancelled task is done only once it has let go of what it holds.
            await asyncio.wait((answering, leaving, stopping_))
        left = body.client_left
        if not answering.cancelled():
            try:
                answering.result()
            except _ClientStalledError:
                left = True
        elif not left:
            raise stopping()
        scope["state"]["client_left"] = left

    def _watched(self, send: Send, body: "_Body", ticket: Ticket) -> Send:
        """Sending that tells body and gate of the end, and gives up on who does not read."""

        async def limited(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            body.answered |= is_last
            try:
                async with asyncio.timeout(self._body_timeout_s):
                    await send(message)
            except TimeoutError:
                raise _ClientStalledError from None
            if is_last:
                # At once: a client that has its answer may ask again, and needs the place.
                ticket.give_back()

        return limited


class _Body:
    """The body of one request as it comes in, within its limits."""

    def __init__(self, receive: Receive, ticket: Ticket, max_bytes: int, timeout_s: float) -> None:
        self._receive = receive
        self._ticket = ticket
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._received = 0
        self.tail = b""
        self.answered = False
        self._complete = asyncio.Event()
        self._left = asyncio.Event()

    @property
    def client_left(self) -> bool:
        return self._left.is_set()

    async def receive(self) -> Message:
        """The next piece.

        Raises:
            Problem: 408 too slow, 413 too large, 429 too much at once.
        """
        if self._complete.is_set():
            await self._left.wait()
            return {"type": "http.disconnect"}
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise slow_sender(self._timeout_s) from None
        if message["type"] == "http.disconnect":
            self._left.set()
            return message
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            raise body_too_large(self._max_bytes)
        self._ticket.hold(self._received)
        self.tail = (self.tail + message.get("body", b""))[-_TAIL_BYTES:]
        if not message.get("more_body", False):
            self._complete.set()
        return message

    async def wait_until_client_leaves(self) -> None:
        """Return once the client has left after its whole body came; during it, `receive` tells."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            continue
        # Servers say the same to an application whose answer is complete.
        if self.answered:
            await asyncio.Event().wait()
        self._left.set()


def slow_sender(timeout_s: float) -> Problem:
    """408 for a body that does not come."""
    return Problem(
        HTTPStatus.REQUEST_TIMEOUT, f"The request was not received within {timeout_s:g} seconds."
    )


def body_too_large(max_bytes: int) -> Problem:
    """413 for a body over the limit."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The request is larger than {max_bytes} bytes."
    )


class LingeringClose:
    """Makes sure that an answer given before the whole body was read reaches the client.

    A server that closes a connection with unread bytes on it resets it, and the client loses the
    answer. So what comes after the answer is read on for a moment, and thrown away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; hold the end of an early answer back until the body is through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complete = not _has_body(scope)

        async def watched() -> Message:
            nonlocal complete
            message = await receive()
            complete = not message.get("more_body", False)
            return message

        async def lingering(message: Message) -> None:
            if complete:
                await send(message)
            elif message["type"] == "http.response.start":
                headers = [*message["headers"], (b"connection", b"close")]
                await send({**message, "headers": headers})
            elif message.get("more_body", False):
                await send(message)
            else:
                await send({**message, "more_body": True})
                await discard()
                await send({"type": "http.response.body", "body": b""})

        async def discard() -> None:
            try:
                async with asyncio.timeout(_LINGER_S):
                    while not complete:
                        await watched()
            except TimeoutError:
                return

        await self._app(scope, watched, lingering)


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
