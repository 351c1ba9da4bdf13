"""Shards of a build on disk: so many records of the sources, folded and embedded.

A shard that stands under its final name is whole; a build that was killed keeps it.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from app.index.manifest import sync
from app.index.reading import Place, Reached
from app.index.report import Report
from app.index.search import Block, HalfArray

_STATE = "shard.json"
_TEXT = "captions.txt"
_CAPTION_VECTORS = "captions.npy"
_IMAGE_VECTORS = "images.npy"
_COUNTS = "counts.npy"

_FINISHED = re.compile(r"\d{6,}")


class ShardState(BaseModel):
    """`shard.json`: where reading goes on after the shard, and what was left out of it.

    Attributes:
        end: the place after it.
        share: how much of all sources is behind there, in [0, 1].
        last: whether nothing comes after it.
        captions: how many it holds.
        report: what was read and left out.
    """

    model_config = ConfigDict(extra="forbid")

    end: Place
    share: float
    last: bool
    captions: int
    report: Report

    @property
    def reached(self) -> Reached:
        """Where reading stands after it."""
        return Reached(self.end, self.share)


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished shard on disk."""

    directory: Path
    state: ShardState

    @property
    def captions(self) -> Iterator[str]:
        """Its captions in order."""
        with (self.directory / _TEXT).open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line.removesuffix("\n")

    @property
    def caption_vectors(self) -> Block:
        """(captions, d) fp16."""
        return Block(self.state.captions, _Mapped(self.directory / _CAPTION_VECTORS))

    @property
    def image_vectors(self) -> Block:
        """(images, d) fp16."""
        return Block(len(self.counts), _Mapped(self.directory / _IMAGE_VECTORS))

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Captions of each image, (images,)."""
        counts: npt.NDArray[np.int64] = np.load(self.directory / _COUNTS)
        return counts


@dataclass(frozen=True, slots=True)
class _Mapped:
    """Maps a file of vectors when it is called, in whichever process that is."""

    path: Path

    def __call__(self) -> HalfArray:
        vectors: HalfArray = np.load(self.path, mmap_mode="r")
        return vectors


@dataclass(frozen=True, slots=True)
class ImageVectors:
    """The images of a shard: their vectors (images, d) fp16, and the captions of each (images,)."""

    vectors: HalfArray
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """Where the shards of a build lie."""

    path: Path

    def has_begun(self) -> bool:
        """Whether an earlier run finished a shard."""
        return self.path.is_dir() and any(
            _FINISHED.fullmatch(path.name) for path in self.path.iterdir()
        )

    def find(self, number: int) -> Shard | None:
        """A shard, if it is finished."""
        directory = self._finished(number)
        if not directory.is_dir():
            return None
        return Shard(directory, ShardState.model_validate_json((directory / _STATE).read_text()))

    def clear(self) -> None:
        """Make the folder, or remove what runs that were killed left unfinished in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        for path in self.path.iterdir():
            if not _FINISHED.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def keep(
        self,
        number: int,
        state: ShardState,
        captions: Sequence[str],
        caption_vectors: HalfArray,
        images: ImageVectors | None,
    ) -> Shard:
        """Write a shard and give it its name, at once and for good.

        Another process may have made it too, from the same records: the first one stands.
        """
        partial = self.path / f".{uuid4().hex}"
        partial.mkdir()
        np.save(partial / _CAPTION_VECTORS, caption_vectors)
        if images is not None:
            np.save(partial / _IMAGE_VECTORS, images.vectors)
            np.save(partial / _COUNTS, images.counts)
        (partial / _TEXT).write_bytes("".join(f"{caption}\n" for caption in captions).encode())
        (partial / _STATE).write_text(state.model_dump_json(), encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            sync(path)
        final = self._finished(number)
        try:
            partial.rename(final)
        except OSError:
            found = self.find(number)
            if found is None:
                raise
            shutil.rmtree(partial)
            return found
        sync(self.path)
        return Shard(final, state)

    def _finished(self, number: int) -> Path:
        return self.path / f"{number:06d}"
