"""When to ask again, and after how long."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

RETRIED = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""Statuses that say: not now."""

_NOTHING_WAS_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
_BROKEN_OFF = (httpx.NetworkError, httpx.RemoteProtocolError)

_FIRST_S = 0.5
_LONGEST_S = 8.0


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how long.

    Attributes:
        retries: how often a request is asked again.
        max_wait_s: longest wait that the service may ask for; if it wants more, its refusal is
            raised at once, since asking sooner would be refused again.
        uniform: a random number between two; tests give their own.
    """

    retries: int
    max_wait_s: float
    uniform: Callable[[float, float], float] = random.uniform

    def after_response(self, attempt: int, response: httpx.Response) -> float | None:
        """Seconds until the next try, or None where the response is the answer.

        Args:
            attempt: how often it was asked already, from 1.
            response: what came back.
        """
        if response.status_code not in RETRIED:
            return None
        return self._wait_s(attempt, retry_after_s(response.headers))

    def after_error(
        self, attempt: int, error: httpx.TransportError, *, repeatable: bool
    ) -> float | None:
        """Seconds until the next try after a failed connection, or None for no further one.

        Asking again is safe where nothing was sent. Where the connection broke off, only cheap
        questions are asked again: a request that brings a server down should not be sent to it
        once more. After a timeout the server may still be computing.

        Args:
            attempt: how often it was asked already, from 1.
            error: why there was no response.
            repeatable: whether the question is a cheap one.
        """
        broken_off = repeatable and isinstance(error, _BROKEN_OFF)
        if not (broken_off or isinstance(error, _NOTHING_WAS_SENT)):
            return None
        return self._wait_s(attempt, None)

    def _wait_s(self, attempt: int, wanted_s: float | None) -> float | None:
        """Seconds until the next try.

        The service's own word counts, and a little chance on top of it, so that many clients that
        were refused together do not come back together. Without it: exponential backoff with full
        jitter.
        """
        if attempt > self.retries:
            return None
        backoff = self.uniform(0.0, min(_LONGEST_S, _FIRST_S * 2 ** (attempt - 1)))
        if wanted_s is None:
            return min(backoff, self.max_wait_s)
        if wanted_s > self.max_wait_s:
            return None
        return wanted_s + min(backoff, _FIRST_S)


def retry_after_s(headers: httpx.Headers, now: datetime | None = None) -> float | None:
    """Seconds by the header `Retry-After`, a number or an HTTP date; None if it says neither."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # A date without a zone (`-0000`) is in UTC.
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
