"""Structured logs: one JSON object a line on stderr, for our own loggers and the libraries'.

They go through the standard library's logging, which uvicorn, torch and open_clip use as well.
Nothing that a client sent is logged; the message of an unexpected error may quote it, so it is
left out unless debugging is asked for.
"""

import logging
import sys
import traceback
import warnings
from types import TracebackType

from pythonjsonlogger.json import JsonFormatter

from app.settings import LogLevel

_FIELDS = {"levelname": "level", "name": "logger", "message": "message"}

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Formatter(JsonFormatter):
    def __init__(self, with_error_messages: bool) -> None:
        super().__init__(list(_FIELDS), rename_fields=_FIELDS, timestamp=True)
        self._with_error_messages = with_error_messages

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's own name
        """Where it happened and the type of the error, and its message if asked for."""
        kind, _, stack = ei
        if self._with_error_messages or kind is None:
            return str(super().formatException(ei))
        return "".join([*traceback.format_tb(stack), kind.__qualname__])


def configure(level: LogLevel) -> None:
    """Send every log line of the process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(with_error_messages=level is LogLevel.DEBUG))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # What Pillow and the form parser find wrong with a request is its sender's business.
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
