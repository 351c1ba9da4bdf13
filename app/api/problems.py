"""Errors as RFC 9457 `application/problem+json`, for everything that can go wrong in a request."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from app.clip.decode import ImageFault
from app.engine import BadImageError
from app.index.catalog import ReloadError, UnknownCollectionError
from app.index.manifest import CollectionAwayError
from app.service import TooSlowError

MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """What is wrong with one field or file."""

    field: Annotated[
        str,
        Field(
            description="The form field, the JSON key with dots between levels, or the file by "
            "its name.",
            examples=["labels"],
        ),
    ]
    detail: Annotated[
        str,
        Field(
            description="What is wrong with it, in words.",
            examples=["at least one label is needed"],
        ),
    ]


class ProblemDocument(BaseModel):
    """An error, by RFC 9457."""

    type: Annotated[
        str,
        Field(
            description="Always `about:blank`: the status says what kind of error it is.",
            examples=["about:blank"],
        ),
    ] = "about:blank"
    title: Annotated[
        str, Field(description="The status in words.", examples=["Unprocessable Content"])
    ]
    status: Annotated[
        int, Field(ge=400, le=599, description="The HTTP status once more.", examples=[422])
    ]
    detail: Annotated[
        str,
        Field(
            description="What is wrong and what to do, in words.",
            examples=["labels: at least one label is needed"],
        ),
    ]
    errors: Annotated[
        list[FieldProblem] | None,
        Field(description="One entry a field or file at fault; left out where none is named."),
    ] = None


class Problem(HTTPException):
    """A request that cannot be answered: status, and what is wrong with which field."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        errors: Sequence[FieldProblem] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.errors = list(errors)


def field_problem(field: str, detail: str) -> Problem:
    """A value of one field is out of range: 422."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"{field}: {detail}",
        [FieldProblem(field=field, detail=detail)],
    )


class _ProblemResponse(JSONResponse):
    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """As ASCII: an error may quote text that UTF-8 cannot hold, such as half an emoji."""
        return json.dumps(content).encode("ascii")


_RENAMED = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Content",
}
"""What RFC 9110 calls them, as Python does from 3.13 on."""


def _title(status: int) -> str:
    return _RENAMED.get(HTTPStatus(status), HTTPStatus(status).phrase)


def problem_document(problem: Problem) -> dict[str, Any]:
    """A problem as it goes over the wire."""
    document = ProblemDocument(
        title=_title(problem.status_code),
        status=problem.status_code,
        detail=problem.detail,
        errors=problem.errors or None,
    )
    return document.model_dump(exclude_none=True)


def problem_response(problem: Problem) -> JSONResponse:
    """Render a problem."""
    return _ProblemResponse(
        problem_document(problem),
        status_code=problem.status_code,
        headers=dict(problem.headers or {}),
    )


_IMAGE_STATUS = {
    ImageFault.UNREADABLE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ImageFault.TOO_MANY_PIXELS: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


def from_bad_image(error: BadImageError) -> Problem:
    """415 or 413, and the name of the file."""
    return Problem(
        _IMAGE_STATUS[error.cause.fault],
        str(error),
        [FieldProblem(field=error.filename, detail=str(error.cause))],
    )


def _from_validation(error: RequestValidationError) -> Problem:
    errors = [
        FieldProblem(field=_location(item["loc"]), detail=item["msg"]) for item in error.errors()
    ]
    malformed = any(item["type"] == "json_invalid" for item in error.errors())
    status = HTTPStatus.BAD_REQUEST if malformed else HTTPStatus.UNPROCESSABLE_ENTITY
    return Problem(status, "; ".join(f"{e.field}: {e.detail}" for e in errors), errors)


def _location(loc: Sequence[str | int]) -> str:
    """`('body', 'labels', 0)` as `labels.0`."""
    return ".".join(str(part) for part in loc if part not in ("body", "query")) or "body"


def from_too_slow(error: TooSlowError) -> Problem:
    """503: it waited or computed for too long."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{error} Ask for fewer images or labels at once, or try again later.",
        headers={"Retry-After": "5"},
    )


def from_away(error: CollectionAwayError) -> Problem:
    """503: the engine of the collection does not answer."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": "5"})


def from_unknown_collection(error: UnknownCollectionError) -> Problem:
    """422: no collection of that name."""
    return field_problem("index", str(error))


def from_reload(error: ReloadError) -> Problem:
    """409: a collection is bad."""
    return Problem(HTTPStatus.CONFLICT, f"{error} The collections that served go on serving.")


def _from_http(error: HTTPException) -> Problem:
    headers = dict(error.headers) if error.headers else None
    return Problem(HTTPStatus(error.status_code), error.detail, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every error as a problem document; unexpected ones are `Telemetry`'s."""

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> JSONResponse:
        return problem_response(error)

    @app.exception_handler(BadImageError)
    async def bad_image(_: Request, error: BadImageError) -> JSONResponse:
        return problem_response(from_bad_image(error))

    @app.exception_handler(UnknownCollectionError)
    async def unknown_collection(_: Request, error: UnknownCollectionError) -> JSONResponse:
        return problem_response(from_unknown_collection(error))

    @app.exception_handler(ReloadError)
    async def reload_failed(_: Request, error: ReloadError) -> JSONResponse:
        return problem_response(from_reload(error))

    @app.exception_handler(TooSlowError)
    async def too_slow(request: Request, error: TooSlowError) -> JSONResponse:
        request.state.error_kind = "timeout"
        return problem_response(from_too_slow(error))

    @app.exception_handler(CollectionAwayError)
    async def away(request: Request, error: CollectionAwayError) -> JSONResponse:
        request.state.error_kind = "index_away"
        return problem_response(from_away(error))

    @app.exception_handler(RequestValidationError)
    async def validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return problem_response(_from_validation(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return problem_response(_from_http(error))
