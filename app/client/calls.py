"""What both clients share: requests as values, and answers from responses. No input or output."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from app import __version__
from app.client.errors import (
    AnswerTimeoutError,
    ConnectionFailedError,
    FieldProblem,
    ProblemError,
    UnexpectedAnswerError,
    problem_class,
)
from app.client.images import Upload
from app.client.results import CaptionsFound, Classification, Info
from app.client.retry import retry_after_s

T = TypeVar("T")

FusionName: TypeAlias = Literal["confidence", "product", "mean", "image", "text"]
NormalizationName: TypeAlias = Literal["request", "batch"]

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0

_PROBLEM = "application/problem+json"
_CLASSIFICATION = TypeAdapter(Classification)
_CAPTIONS_FOUND = TypeAdapter(CaptionsFound)
_INFO = TypeAdapter(Info)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and the type of its answer.

    Attributes:
        repeatable: whether it is asked again after a connection that broke off.
    """

    method: str
    path: str
    answer: TypeAdapter[T]
    fields: dict[str, Any] = field(default_factory=dict)
    images: Sequence[Upload] = ()
    repeatable: bool = False

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """For either of httpx's clients; made anew for each try."""
        if self.method == "GET":
            return http.build_request("GET", self.path)
        # A form is multipart where it has a file; a text alone may go as plain form fields.
        files = [("image", (image.name, image.data)) for image in self.images]
        return http.build_request(self.method, self.path, data=self.fields, files=files or None)


def classify_call(
    images: Sequence[Upload],
    labels: Sequence[str],
    *,
    template: str | Sequence[str] | None,
    captions: int | None,
    fusion: FusionName | None,
    normalization: NormalizationName | None,
    crops: bool | None,
    top_k: int | None,
    index: str | None,
    votes: bool | None,
) -> Call[Classification]:
    """`POST /v1/classify`; what is None is left to the service's default."""
    if isinstance(labels, str):
        raise TypeError("labels is a list of strings, not one string")
    if not images:
        raise ValueError("no image was given")
    fields: dict[str, Any] = {
        # As one JSON array, a single label that begins with a bracket stays what it is.
        "labels": json.dumps(list(labels)),
        "template": [template] if isinstance(template, str) else template and list(template),
        "captions": captions,
        "fusion": fusion,
        "normalization": normalization,
        "crops": crops,
        "top_k": top_k,
        "index": index,
        "votes": votes,
    }
    return Call("POST", "v1/classify", _CLASSIFICATION, _given(fields), images)


def search_call(query: Upload | str, *, k: int | None, index: str | None) -> Call[CaptionsFound]:
    """`POST /v1/captions/search` by an image, or by a text."""
    by_text = isinstance(query, str)
    fields = _given({"text": query if by_text else None, "k": k, "index": index})
    images = [] if isinstance(query, str) else [query]
    return Call("POST", "v1/captions/search", _CAPTIONS_FOUND, fields, images)


def info_call() -> Call[Info]:
    """`GET /v1/info`."""
    return Call("GET", "v1/info", _INFO, repeatable=True)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def http_options(url: str, api_key: str | None, timeout: float | httpx.Timeout) -> dict[str, Any]:
    """How httpx's client is made, sync or async.

    Raises:
        ValueError: the address has no `http://` or `https://`, or no host.
    """
    base = httpx.URL(url)
    if base.scheme not in ("http", "https") or not base.host:
        raise ValueError(f"{url!r} is no address of a server; it looks like {DEFAULT_URL}")
    headers = {"User-Agent": f"xmore/{__version__}", "Accept": "application/json"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    if not isinstance(timeout, httpx.Timeout):
        timeout = httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT_S))
    return {"base_url": base, "headers": headers, "timeout": timeout}


def read_answer(call: Call[T], response: httpx.Response) -> T:
    """The typed answer.

    Raises:
        ProblemError: the service refuses.
        UnexpectedAnswerError: this is not the service's answer.
    """
    if not response.is_success:
        raise problem(response)
    try:
        return call.answer.validate_json(response.content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise UnexpectedAnswerError(
            f"{response.url} answered {response.status_code}, but not as this version of xmore "
            f"does ({where}: {first['msg']}).",
            response.status_code,
        ) from error


def problem(response: httpx.Response) -> ProblemError | UnexpectedAnswerError:
    """The error that a response other than 2xx stands for."""
    document = _problem_document(response)
    status = response.status_code
    if document is None:
        where = response.headers.get("location")
        hint = f" It leads to {where}." if where else ""
        phrase = response.reason_phrase
        return UnexpectedAnswerError(
            f"{response.url} answered {status} {phrase}, and not in xmore's words. Is the address "
            f"right, and is a proxy in between?{hint}",
            status,
        )
    return problem_class(status)(
        status,
        str(document.get("title", response.reason_phrase)),
        str(document.get("detail", "")),
        tuple(
            FieldProblem(str(entry.get("field", "")), str(entry.get("detail", "")))
            for entry in document.get("errors") or ()
        ),
        type=str(document.get("type", "about:blank")),
        request_id=response.headers.get("x-request-id"),
        retry_after_s=retry_after_s(response.headers),
    )


def _problem_document(response: httpx.Response) -> dict[str, Any] | None:
    if response.headers.get("content-type", "").partition(";")[0].strip() != _PROBLEM:
        return None
    try:
        document = json.loads(response.content)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def connection_error(error: httpx.TransportError, url: httpx.URL) -> ConnectionFailedError:
    """Httpx's error in our words."""
    if isinstance(error, httpx.ConnectTimeout):
        return ConnectionFailedError(f"No server answers at {url} (it does not even connect).")
    if isinstance(error, httpx.TimeoutException):
        return AnswerTimeoutError(
            f"{url} did not answer in time. Ask for fewer images or labels at once, or allow more "
            "time with `timeout`."
        )
    if isinstance(error, httpx.ConnectError):
        return ConnectionFailedError(f"No server answers at {url} ({error}).")
    return ConnectionFailedError(f"The connection to {url} broke off ({error}).")


def is_ready(response: httpx.Response) -> bool:
    """What an answer of `GET /readyz` says.

    Raises:
        UnexpectedAnswerError: this is not the service's answer.
        ProblemError: it is, but none that the probe gives.
    """
    if response.is_success:
        return True
    if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        return False
    raise problem(response)
