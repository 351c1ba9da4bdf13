"""Captions on disk: one UTF-8 text file, one caption a line, and the offsets of its lines.

Both are memory-mapped, so a store of any size opens at once and a look-up reads only its rows.
"""

import mmap
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from app.index.manifest import OFFSETS_FILE, TEXT_FILE, CollectionError


class CaptionStore:
    """Read-only captions by row."""

    def __init__(self, text: mmap.mmap | bytes, offsets: npt.NDArray[np.uint64]) -> None:
        self._text = text
        self._offsets = offsets

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Map the two files of a store.

        Raises:
            CollectionError: the offsets do not fit the text.
        """
        offsets = open_array(directory, OFFSETS_FILE)
        path = directory / TEXT_FILE
        size = path.stat().st_size
        if offsets.dtype != np.uint64 or offsets.ndim != 1 or not len(offsets):
            raise CollectionError(f"{OFFSETS_FILE} is not a table of offsets", directory)
        if offsets[0] != 0 or offsets[-1] != size:
            raise CollectionError(
                f"{TEXT_FILE} and {OFFSETS_FILE} are not of the same build", directory
            )
        if size == 0:
            return cls(b"", offsets)
        with path.open("rb") as file:
            return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), offsets)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def texts(self, rows: npt.NDArray[np.int64] | Sequence[int]) -> list[str]:
        """The captions of rows, in the order asked.

        Raises:
            IndexError: a row is negative or past the end.
        """
        wanted = np.asarray(rows, np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"caption row out of range 0..{len(self) - 1}")
        starts = self._offsets[wanted].tolist()
        ends = self._offsets[wanted + 1].tolist()
        return [self._text[s : e - 1].decode() for s, e in zip(starts, ends, strict=True)]


def write_store(captions: Iterable[str], directory: Path) -> int:
    """Write captions in order and return how many there are.

    Raises:
        ValueError: a caption holds a line break.
    """
    offsets = array("Q", [0])
    with (directory / TEXT_FILE).open("wb") as file:
        for caption in captions:
            if "\n" in caption:
                raise ValueError("a caption cannot hold a line break")
            offsets.append(offsets[-1] + file.write(caption.encode() + b"\n"))
    np.save(directory / OFFSETS_FILE, np.frombuffer(offsets, np.uint64), allow_pickle=False)
    return len(offsets) - 1


def open_array(directory: Path, name: str) -> npt.NDArray[Any]:
    """Map a file of numpy's, to be read only where it is looked at.

    Raises:
        CollectionError: it is not such a file.
    """
    try:
        return np.load(directory / name, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (ValueError, EOFError) as error:
        raise CollectionError(
            f"{name} is not an array file ({error}). Build the collection again.", directory
        ) from error
