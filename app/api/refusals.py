"""What each route may answer besides 200: the `responses` of the OpenAPI document.

The examples are made by the functions that make the answers, with the default limits, so that they
say what a client gets.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from app.api import admission, parsing, problems
from app.api.access import unauthorized
from app.api.problems import FieldProblem, Problem, field_problem
from app.api.telemetry import failure
from app.clip.decode import ImageError, ImageFault
from app.engine import BadImageError
from app.index.catalog import ReloadError, UnknownCollectionError
from app.index.manifest import CollectionAwayError
from app.service import TooSlowError
from app.settings import Settings

Responses = dict[int | str, dict[str, Any]]
Examples = dict[str, Problem]

PROBLEM = "#/components/schemas/ProblemDocument"

_MEANING = {
    HTTPStatus.BAD_REQUEST: "Malformed: half a form, no JSON, or no base64.",
    HTTPStatus.UNAUTHORIZED: "No key, or a wrong one, where the service has keys.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not come within `XMORE_BODY_TIMEOUT_S` seconds.",
    HTTPStatus.CONFLICT: "A collection cannot be used; those that served go on serving.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too large: the body, a file, its pixels, or the number "
    "of files. The limits stand in `GET /v1/info`.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Another content type than the route takes, or a file that "
    "cannot be read as an image.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A value out of range, a field that is missing, or one that "
    "does not exist.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too busy: try again after `Retry-After` seconds.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The server failed; its log says why, under the request id.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not now: it is loading, stopping, stuck, or was too slow; or "
    "the Milvus of the caption collection does not answer.",
}

_HEADERS: dict[str, dict[str, Any]] = {
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate: always `Bearer`.",
        "schema": {"type": "string", "const": "Bearer"},
    },
}


def documented(examples: Examples) -> Responses:
    """Problems, by a name for each, as the `responses` of a route."""
    statuses = sorted({problem.status_code for problem in examples.values()})
    return {
        status: _response(
            HTTPStatus(status),
            {name: it for name, it in examples.items() if it.status_code == status},
        )
        for status in statuses
    }


def _response(status: HTTPStatus, examples: Examples) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": _MEANING[status],
        "content": {
            problems.MEDIA_TYPE: {
                "schema": {"$ref": PROBLEM},
                "examples": {
                    name: {"value": problems.problem_document(problem)}
                    for name, problem in examples.items()
                },
            }
        },
    }
    headers = _headers(examples.values())
    return response | ({"headers": headers} if headers else {})


def _headers(examples: Iterable[Problem]) -> dict[str, Any]:
    given = [dict(problem.headers or {}) for problem in examples]
    names = sorted({name for headers in given for name in headers})
    return {
        name: _HEADERS[name] | {"required": all(name in headers for headers in given)}
        for name in names
    }


def _bad_image(filename: str, fault: ImageFault, message: str) -> Problem:
    return problems.from_bad_image(BadImageError(0, filename, ImageError(fault, message)))


_LIMITS = Settings.model_construct()
_IMAGE_BYTES = _LIMITS.max_image_bytes + 1
_REQUEST_ID = "5b1c1b7f0e8a4a0c9f6f3b1d2a7c4e90"

GUARDED: Examples = {"no key": unauthorized(), "failed": failure(_REQUEST_ID)}
"""Of everything under `/v1`."""

NOT_READY: Examples = {
    "loading": admission.not_ready(),
    "stopping": admission.stopping(),
}

STUCK: Examples = {
    "stuck": Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The inference worker has been busy with one computation for 121 seconds.",
    )
}

AWAY: Examples = {"collection away": problems.from_away(CollectionAwayError("photos"))}
"""Of everything that searches a collection."""

_ADMITTED: Examples = {
    **GUARDED,
    **NOT_READY,
    "slow sender": admission.slow_sender(_LIMITS.body_timeout_s),
    "large body": admission.body_too_large(_LIMITS.max_body_bytes),
    "too many requests": admission.too_many_requests(_LIMITS.max_queue),
    "too many bytes": admission.too_many_bytes(),
}


def _computed(filename: str) -> Examples:
    """Of routes that read an image, search a collection and compute."""
    return {
        **_ADMITTED,
        **AWAY,
        "large file": parsing.file_too_large(filename, _IMAGE_BYTES, _LIMITS.max_image_bytes),
        "many pixels": _bad_image(
            filename,
            ImageFault.TOO_MANY_PIXELS,
            f"the image has 9000 x 6000 pixels; at most {_LIMITS.max_pixels} are allowed",
        ),
        "no image": _bad_image(
            filename,
            ImageFault.UNREADABLE,
            "PDF is a document, not an image; send its pages as PNG or JPEG",
        ),
        "too slow": problems.from_too_slow(
            TooSlowError(f"The request took longer than {_LIMITS.request_timeout_s:g} seconds.")
        ),
    }


_UNKNOWN_COLLECTION = problems.from_unknown_collection(
    UnknownCollectionError("there is no collection 'art'; there are: default")
)

CLASSIFY: Examples = {
    **_computed("photo.jpg"),
    "half a form": parsing.broken_form(),
    "other content": parsing.other_content(parsing.JSON, parsing.MULTIPART),
    "many files": parsing.too_many_files(_LIMITS.max_images),
    "no label": field_problem("labels", "at least one label is needed"),
    "repeated label": field_problem("labels", "the same label more than once: 'cat'"),
    "out of range": field_problem("captions", "Input should be less than or equal to 64"),
    "no such collection": _UNKNOWN_COLLECTION,
    "no such field": parsing.unknown_fields(
        ["lables"],
        [
            "captions",
            "crops",
            "fusion",
            "image",
            "index",
            "labels",
            "normalization",
            "template",
            "top_k",
            "votes",
        ],
    ),
}

ZERO_SHOT: Examples = {
    **_computed("inputs"),
    "no JSON": Problem(
        HTTPStatus.BAD_REQUEST,
        "1: JSON decode error",
        [FieldProblem(field="1", detail="JSON decode error")],
    ),
    "no base64": parsing.not_base64("Incorrect padding"),
    "other content": parsing.other_content("text/plain", parsing.JSON),
    "no label": field_problem("candidate_labels", "at least one label is needed"),
    "missing key": field_problem("parameters.candidate_labels", "Field required"),
}

SEARCH: Examples = {
    **_computed("photo.jpg"),
    "half a form": parsing.broken_form(),
    "other content": parsing.other_content(parsing.JSON, parsing.MULTIPART, parsing.URL_ENCODED),
    "image or text": field_problem("image", "give either an image file or `text`"),
    "blank text": field_problem("text", "is blank"),
    "no such collection": _UNKNOWN_COLLECTION,
}

RELOAD: Examples = {
    **_ADMITTED,
    "damaged": problems.from_reload(
        ReloadError(
            "default: captions.txt is damaged: its size or checksum is not the one in "
            "manifest.json. Copy it anew or build the collection again."
        )
    ),
}
