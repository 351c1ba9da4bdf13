"""From form fields and JSON to a checked `Question` and `ImageFile`s."""

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from fastapi import Request, UploadFile
from python_multipart.multipart import parse_options_header

from app.api.problems import FieldProblem, Problem, field_problem
from app.engine import ImageFile
from app.settings import Settings

UNNAMED = "image"

MULTIPART = "multipart/form-data"
URL_ENCODED = "application/x-www-form-urlencoded"
JSON = "application/json"
_NAMED = 5
"""How many of many are named in an error."""

_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Unicode's categories Cc and Cs: control characters and halves of surrogate pairs."""


def parse_labels(values: list[str], settings: Settings) -> list[str]:
    """Labels from a repeated field, or from one JSON array.

    Raises:
        Problem: none, too many, blank, too long, or the same one twice.
    """
    labels = values
    if len(values) == 1 and values[0].lstrip().startswith("["):
        labels = _json_strings(values[0])
    labels = [label.strip() for label in labels]
    return check_labels(labels, "labels", settings)


def _json_strings(text: str) -> list[str]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise field_problem("labels", f"not a JSON array of strings ({error})") from error
    if not isinstance(parsed, list) or not all(isinstance(item, str) for item in parsed):
        raise field_problem("labels", "not a JSON array of strings")
    return parsed


def check_labels(labels: list[str], field: str, settings: Settings) -> list[str]:
    """The labels, if a request may ask for them.

    Raises:
        Problem: none, too many, blank, too long, not plain text, or the same one twice.
    """
    if not labels:
        raise field_problem(field, "at least one label is needed")
    if len(labels) > settings.max_labels:
        raise field_problem(
            field, f"{len(labels)} labels, at most {settings.max_labels} are allowed"
        )
    # All at once first: there may be a thousand of them, and hardly ever is one to be refused.
    all_good = all(map(str.strip, labels)) and not _NO_TEXT.search("".join(labels))
    if not all_good or max(map(len, labels)) > settings.max_label_length:
        for position, label in enumerate(labels):
            _check_label(label, field, f"label {position + 1}", settings.max_label_length)
    if len(set(labels)) < len(labels):
        repeated = [label for label, count in Counter(labels).items() if count > 1]
        named = ", ".join(repr(label) for label in repeated[:_NAMED])
        raise field_problem(field, f"the same label more than once: {named}")
    return labels


def _check_label(label: str, field: str, name: str, longest: int) -> None:
    if not label.strip():
        raise field_problem(field, f"{name} is blank")
    if len(label) > longest:
        raise field_problem(
            field, f"{name} has {len(label)} characters, at most {longest} are allowed"
        )
    _check_text(label, field, name)


def check_templates(templates: list[str], field: str, settings: Settings) -> list[str]:
    """The templates, if each has one `{}`.

    Raises:
        Problem: too many, too long, not plain text, or not one `{}`.
    """
    if len(templates) > settings.max_templates:
        raise field_problem(
            field, f"{len(templates)} templates, at most {settings.max_templates} are allowed"
        )
    for position, template in enumerate(templates):
        _check_text(template, field, f"template {position + 1}")
        if template.count("{}") != 1:
            raise field_problem(field, f"{template!r} needs exactly one {{}} for the label")
        if len(template) > settings.max_label_length:
            raise field_problem(
                field,
                f"{len(template)} characters, at most {settings.max_label_length} are allowed",
            )
    return templates


def _check_text(text: str, field: str, name: str) -> None:
    """Refuse what no label holds and no model reads: it came there by mistake or to do harm."""
    found = _NO_TEXT.search(text)
    if found:
        raise field_problem(field, f"{name} holds the control character U+{ord(found[0]):04X}")


async def refuse_other_content(request: Request) -> None:
    """A dependency of routes that take a form: other content, half a form, and unknown fields.

    Raises:
        Problem: 415, 400 or 422.
    """
    _check_content_type(request, MULTIPART)
    await _check_form(request)


async def refuse_other_forms(request: Request) -> None:
    """The same for routes that need no file, which also take what plain HTML forms send.

    Raises:
        Problem: 415, 400 or 422.
    """
    _check_content_type(request, MULTIPART, URL_ENCODED)
    await _check_form(request)


async def _check_form(request: Request) -> None:
    kind, options = parse_options_header(request.headers["content-type"])
    # The parser takes a form that breaks off for one that ends, without the part it was in.
    if kind == MULTIPART.encode() and not _ends(request, options[b"boundary"]):
        raise broken_form()
    known = {field.alias for field in request.scope["route"].dependant.body_params}
    unknown = [name for name in await request.form() if name not in known]
    if unknown:
        raise unknown_fields(unknown, known)


def broken_form() -> Problem:
    """400: a form without its end."""
    return Problem(HTTPStatus.BAD_REQUEST, "The form breaks off before its last boundary.")


def unknown_fields(unknown: Sequence[str], known: Iterable[str]) -> Problem:
    """422: fields that the route has not."""
    named = unknown[:_NAMED]
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        f"unknown fields: {', '.join(repr(name) for name in named)}; "
        f"there are {', '.join(sorted(known))}",
        [FieldProblem(field=name, detail="there is no such field") for name in named],
    )


def _ends(request: Request, boundary: bytes) -> bool:
    return b"--%b--" % boundary in request.state.body_tail()


async def require_json(request: Request) -> None:
    """A dependency of routes that take JSON.

    Raises:
        Problem: 415, it is something else.
    """
    _check_content_type(request, JSON)


def _check_content_type(request: Request, *wanted: str) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in wanted:
        raise other_content(given, *wanted)


def other_content(given: str, *wanted: str) -> Problem:
    """415: the body's content type is not one that the route takes."""
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"The content type is {given or 'missing'}; it must be {' or '.join(wanted)}.",
    )


async def read_images(uploads: list[UploadFile], settings: Settings) -> list[ImageFile]:
    """The uploaded files, if they are not too many or too large.

    Raises:
        Problem: too many files, or one is too large.
    """
    if len(uploads) > settings.max_images:
        raise too_many_files(settings.max_images)
    files = []
    for upload in uploads:
        name = _printable(upload.filename or UNNAMED)
        if upload.size is not None and upload.size > settings.max_image_bytes:
            raise file_too_large(name, upload.size, settings.max_image_bytes)
        files.append(ImageFile(name, await upload.read()))
    return files


def _printable(name: str) -> str:
    """A file name that can be sent back and shown."""
    return _NO_TEXT.sub("\ufffd", name)


def read_base64(text: str, settings: Settings) -> ImageFile:
    """An image that came as base64, with or without a `data:` prefix.

    Raises:
        Problem: not base64, or too large.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise not_base64(str(error)) from error
    if len(data) > settings.max_image_bytes:
        raise file_too_large("inputs", len(data), settings.max_image_bytes)
    return ImageFile("inputs", data)


def too_many_files(most: int) -> Problem:
    """413: more image files than a request may have."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"image: too many files, at most {most} are allowed",
        [FieldProblem(field="image", detail=f"at most {most} files")],
    )


def not_base64(why: str) -> Problem:
    """400: text that encodes no bytes."""
    return Problem(
        HTTPStatus.BAD_REQUEST,
        f"inputs: not base64 ({why})",
        [FieldProblem(field="inputs", detail="not base64")],
    )


def file_too_large(name: str, size: int, most: int) -> Problem:
    """413: an image file of too many bytes."""
    detail = f"the file has {size} bytes, at most {most} are allowed"
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"{name}: {detail}",
        [FieldProblem(field=name, detail=detail)],
    )
