"""What a client raises.

    XmoreError
    ├── BadImageError             an image cannot be sent; nothing was asked (also a ValueError)
    ├── ConnectionFailedError     no server, or the connection broke off before the answer
    │   └── AnswerTimeoutError    the server did not answer in time
    ├── UnexpectedAnswerError     an answer that is not the service's: a proxy's, another server's
    └── ProblemError              the service says no, and why (RFC 9457)
        ├── InvalidRequestError   400, 408, 413, 415, 422: ask differently
        ├── UnauthorizedError     401: no key, or a wrong one
        ├── UnavailableError      429, 503: too busy or not ready, after all retries
        └── InternalServerError   500: a fault of the service; give `request_id` to who runs it

Wrong use of the client itself (no such option, an address without `http://`) is a TypeError or a
ValueError, as of any other function.
"""

from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field, or with one file by its name."""

    field: str
    detail: str


class XmoreError(Exception):
    """Anything that goes wrong between asking and the answer."""


class BadImageError(XmoreError, ValueError):
    """An image that cannot be sent; the message names it and says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class ConnectionFailedError(XmoreError):
    """No server answers at the address, or the connection broke off."""


class AnswerTimeoutError(ConnectionFailedError):
    """The server did not answer in time. It may still be computing."""


class UnexpectedAnswerError(XmoreError):
    """An answer that this client does not understand.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ProblemError(XmoreError):
    """The service's own refusal, with the fields of its problem document (RFC 9457).

    Attributes:
        status: HTTP status.
        title: the status in words.
        detail: what is wrong.
        errors: one entry a field or file at fault; empty where the service names none.
        type: a URI for the kind of problem; `about:blank` where the status says it all.
        request_id: identifies the request in the service's log.
        retry_after_s: seconds after which the service wants to be asked again; None if it said
            nothing.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: tuple[FieldProblem, ...] = (),
        *,
        type: str = "about:blank",  # noqa: A002 - the field's name in RFC 9457
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors
        self.type = type
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class InvalidRequestError(ProblemError):
    """The request cannot be answered as it was; `errors` names the fields or files."""


class UnauthorizedError(ProblemError):
    """The service wants an API key, or another one."""


class UnavailableError(ProblemError):
    """The service was too busy or not ready, also after all retries."""


class InternalServerError(ProblemError):
    """A fault of the service."""


def problem_class(status: int) -> type[ProblemError]:
    """The class of the problem that a status stands for."""
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return UnauthorizedError
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            return UnavailableError
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return InternalServerError
        case _:
            return InvalidRequestError
