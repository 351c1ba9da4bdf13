"""Limits on a request's size, enforced while it is read."""

from http import HTTPStatus
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem, problem_response
from app.settings import Settings

_OTHER_FIELDS = 16
_MIN_PART_BYTES = 2**20
_MAX_BYTES_PER_CHARACTER = 6  # "\uXXXX" in JSON


class BodyLimit:
    """Stops reading a request body at `max_bytes` and answers 413."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass requests on, counting what they send."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The request is larger than {self._max_bytes} bytes.",
            headers={"Connection": "close"},
        )
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await problem_response(problem)(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise problem
            return message

        await self._app(scope, limited, send)


class FormLimits(NamedTuple):
    """How much of a form is parsed."""

    max_files: int
    max_fields: int
    max_part_size: int


def form_limits(settings: Settings) -> FormLimits:
    """How many files and fields a form may have, and the bytes of one field.

    One file more than allowed is let through, so that the route can name the limit that was broken;
    a field is large enough for all labels as one JSON array.
    """
    return FormLimits(
        max_files=settings.max_images + 1,
        max_fields=settings.max_labels + settings.max_templates + _OTHER_FIELDS,
        max_part_size=max(
            _MIN_PART_BYTES,
            _MAX_BYTES_PER_CHARACTER * settings.max_labels * (settings.max_label_length + 4),
        ),
    )
