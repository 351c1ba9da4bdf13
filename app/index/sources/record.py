"""What every reader yields: a record, or a fault in its place."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.index.manifest import CollectionError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic"}
)


class SourceError(CollectionError):
    """A source cannot be read at all; the message names it and says what to do."""


class CaptionError(ValueError):
    """A caption that is none; the message says what it is instead."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image with its captions, or captions alone.

    Attributes:
        captions: as they stand in the source; blanks and repeats included.
        origin: where they came from, for the report: file and row, or file and key.
        image: the bytes of an image file; None where there is none or none was asked for.
        position: how much of its source has been read, in [0, 1].
    """

    captions: tuple[str, ...]
    origin: str
    image: bytes | None = None
    position: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A row or file that cannot be used: why, and where it is."""

    reason: str
    origin: str
    position: float = 0.0


Item = Record | Fault
Read = Callable[[bool], Iterator[Item]]


@dataclass(frozen=True, slots=True)
class Source:
    """One file or folder, opened only when it is read.

    Attributes:
        name: for the report.
        size: its bytes, or a guess; the weight of the source in the progress bar.
        fingerprint: changes when the source does, so that a build does not go on with another.
        has_images: whether records come with images.
        read: yields the records in an order that never changes; images only where True is given.
        path: the file or folder; None for what is in memory.
    """

    name: str
    size: int
    fingerprint: str
    has_images: bool
    read: Read
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns (or JSON keys) hold the caption and the image; None: those of usual names.

    A number means the column at that place, from 1, of a table without a header.
    """

    text: str | None = None
    image: str | None = None


def captions_of(value: object) -> tuple[str, ...]:
    """The captions in a cell: one, or a list of them.

    Raises:
        CaptionError: it holds something else, or what is not Unicode text.
    """
    captions = value if isinstance(value, list) else [value]
    for caption in captions:
        if not isinstance(caption, str):
            raise CaptionError(f"the caption is not text but {type(caption).__name__}")
        try:
            caption.encode()
        except UnicodeEncodeError:
            raise CaptionError("the caption is not UTF-8 text") from None
    return tuple(captions)
