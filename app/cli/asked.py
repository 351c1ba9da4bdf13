"""A question of `xmore classify` and the answers to it, whoever gives them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    # The client's HTTP library is not wanted for `xmore --help`.
    from app.client.results import ImageResult


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about each image; None is left to the default."""

    labels: Sequence[str]
    templates: Sequence[str] | None
    captions: int | None
    fusion: str | None
    crops: bool
    top_k: int | None
    index: str | None


@dataclass(frozen=True, slots=True)
class BadImage:
    """An image that could not be used, and why."""

    filename: str
    reason: str


Answer: TypeAlias = "ImageResult | BadImage"


def shown(path: str) -> str:
    """A path that can be written anywhere: bytes that are no text as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
