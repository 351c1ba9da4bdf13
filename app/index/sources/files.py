"""Files as readers want them: opened with or without gzip, and with the share that was read."""

import gzip
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_GZIP = ".gz"

DAMAGE = (OSError, EOFError, ValueError)
"""What reading a damaged or vanished file raises (gzip and UTF-8 errors are among them)."""


def format_suffix(path: Path) -> str:
    """The suffix that tells the format: `.tsv` for `captions.tsv.gz`."""
    name = path.name.lower()
    return Path(name.removesuffix(_GZIP)).suffix


def fingerprint(*paths: Path) -> str:
    """Changes when one of the files gets another name, size or date."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class OpenFile:
    """A file being read, unpacked where it is gzip."""

    def __init__(self, raw: BinaryIO, data: BinaryIO, size: int) -> None:
        self.data = data
        self._raw = raw
        self._size = max(1, size)

    @property
    def position(self) -> float:
        """The share of the file's bytes that was read, in [0, 1]."""
        return min(1.0, self._raw.tell() / self._size)

    def lines(self) -> Iterator[str]:
        """Lines of UTF-8 text without their ends; a byte order mark is dropped.

        Bytes that are not UTF-8 become surrogates, which `captions_of` refuses: one bad line
        should not cost those after it.
        """
        for number, line in enumerate(self.data):
            encoding = "utf-8-sig" if number == 0 else "utf-8"
            yield line.decode(encoding, "surrogateescape").rstrip("\r\n")


@contextmanager
def open_file(path: Path) -> Iterator[OpenFile]:
    """Open a file for reading, through gzip where its name ends in `.gz`."""
    with path.open("rb") as raw:
        size = path.stat().st_size
        if path.name.lower().endswith(_GZIP):
            with gzip.GzipFile(fileobj=raw, mode="rb") as unpacked:
                yield OpenFile(raw, unpacked, size)  # type: ignore[arg-type]  # reads as one
        else:
            yield OpenFile(raw, raw, size)
