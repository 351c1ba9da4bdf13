"""Shards of a build: so many records read, folded, embedded and kept on disk.

A shard that stands under its final name is whole; a build that was killed goes on after it.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from app.index.embedder import Embedder
from app.index.manifest import CollectionError, Kind, sync
from app.index.report import Report
from app.index.search import FloatArray, HalfArray
from app.index.sources.record import Fault, Item, Record, Source
from app.xmore.retrieval import fold

_STATE = "shard.json"
_TEXT = "captions.txt"
_CAPTION_VECTORS = "captions.npy"
_IMAGE_VECTORS = "images.npy"
_COUNTS = "counts.npy"

_TEXT_BATCH = 512
_IMAGE_BATCH = 32


class Place(BaseModel):
    """Where reading stands: the source, and how many of its items are behind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: int = 0
    item: int = 0


class ShardState(BaseModel):
    """`shard.json`: where reading goes on after the shard, and what was left out of it."""

    model_config = ConfigDict(extra="forbid")

    end: Place
    last: bool
    captions: int
    report: Report


@dataclass(frozen=True, slots=True)
class Step:
    """Progress: how many captions were embedded, and the share of the sources that was read."""

    captions: int
    share: float


Progress = Callable[[Step], object]


class SeenCaptions:
    """Which captions were there before: eight bytes each, a digest of the folded text.

    Two different captions have the same digest once in a thousand builds of 200 million.
    """

    def __init__(self) -> None:
        self._sorted = np.empty(0, np.uint64)
        self._fresh: set[int] = set()

    def add(self, caption: str) -> bool:
        """Note a folded caption; False if it was there."""
        key = int.from_bytes(blake2b(caption.encode(), digest_size=8).digest(), "little")
        if key in self._fresh:
            return False
        place = int(np.searchsorted(self._sorted, np.uint64(key)))
        if place < len(self._sorted) and int(self._sorted[place]) == key:
            return False
        self._fresh.add(key)
        return True

    def settle(self) -> None:
        """Move what was added since the last call to where it takes less memory."""
        fresh = np.fromiter(self._fresh, np.uint64, len(self._fresh))
        self._sorted = np.union1d(self._sorted, fresh)
        self._fresh.clear()


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
    def caption_vectors(self) -> HalfArray:
        """(captions, d) fp16, mapped."""
        return _mapped(self.directory / _CAPTION_VECTORS)

    @property
    def image_vectors(self) -> HalfArray:
        """(images, d) fp16, mapped."""
        return _mapped(self.directory / _IMAGE_VECTORS)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Captions of each image, (images,)."""
        counts: npt.NDArray[np.int64] = np.load(self.directory / _COUNTS)
        return counts


def _mapped(path: Path) -> HalfArray:
    vectors: HalfArray = np.load(path, mmap_mode="r")
    return vectors


@dataclass(slots=True)
class _Contents:
    """What a shard in the making holds."""

    report: Report = field(default_factory=Report)
    captions: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    image_vectors: list[FloatArray] = field(default_factory=list)


class ShardWriter:
    """Makes shard after shard from the sources, and finds those that an earlier run made."""

    def __init__(
        self,
        directory: Path,
        sources: Sequence[Source],
        kind: Kind,
        embedder: Embedder,
        records: int,
        strict: bool = False,
    ) -> None:
        """Make a writer.

        Args:
            directory: where the shards lie.
            sources: what to read, in order.
            kind: `pairs` reads and embeds images too.
            embedder: the model.
            records: how many items of the sources make a shard.
            strict: stop at the first fault.
        """
        self._directory = directory
        self._sources = sources
        self._kind = kind
        self._embedder = embedder
        self._records = records
        self._strict = strict
        self._seen = SeenCaptions()
        self._reached = 0.0
        self._weights = np.cumsum([0, *(max(1, source.size) for source in sources)])

    def has_begun(self) -> bool:
        """Whether an earlier run finished a shard."""
        return (self._directory / f"{0:06d}").is_dir()

    def write(self, progress: Progress) -> list[Shard]:
        """All shards, those that were there included.

        Raises:
            CollectionError: `strict`, and something could not be used.
        """
        shards = self._finished(progress)
        place = shards[-1].state.end if shards else Place()
        if shards and shards[-1].state.last:
            return shards
        items = self._items(place)
        last = False
        while not last:
            chunk = islice(items, self._records)
            shard = self._write_one(len(shards), place, chunk, progress)
            shards.append(shard)
            place, last = shard.state.end, shard.state.last
        return shards

    def _finished(self, progress: Progress) -> list[Shard]:
        shards: list[Shard] = []
        while (directory := self._directory / f"{len(shards):06d}").is_dir():
            state = ShardState.model_validate_json((directory / _STATE).read_text())
            shard = Shard(directory, state)
            if self._kind is Kind.CAPTIONS:
                for caption in shard.captions:
                    self._seen.add(fold(caption))
                self._seen.settle()
            shards.append(shard)
            self._reached = 1.0 if state.last else self._share(state.end, 0.0)
            progress(Step(state.captions, self._reached))
        return shards

    def _items(self, start: Place) -> Iterator[tuple[Place, Item]]:
        """Every item from a place on, with the place after it."""
        images = self._kind is Kind.PAIRS
        for number in range(start.source, len(self._sources)):
            skipped = start.item if number == start.source else 0
            for item, content in enumerate(self._sources[number].read(images), 1):
                if item > skipped:
                    yield Place(source=number, item=item), content

    def _share(self, place: Place, position: float) -> float:
        if place.source >= len(self._sources):
            return 1.0
        before, after = self._weights[place.source : place.source + 2]
        return float((before + position * (after - before)) / self._weights[-1])

    def _write_one(
        self,
        number: int,
        start: Place,
        items: Iterator[tuple[Place, Item]],
        progress: Progress,
    ) -> Shard:
        contents = _Contents()
        end, taken, share = start, 0, self._reached
        waiting: list[Record] = []
        for end, item in items:
            taken += 1
            share = self._share(end, item.position)
            if isinstance(item, Fault):
                self._note(contents.report, item.origin, item.reason)
            elif self._kind is Kind.CAPTIONS:
                contents.report.records += 1
                contents.captions += self._folded(item, contents.report)
            else:
                waiting.append(item)
                if len(waiting) == _IMAGE_BATCH:
                    self._take_images(waiting, contents)
                    waiting = []
                    progress(Step(0, share))
        self._take_images(waiting, contents)
        state = ShardState(
            end=end,
            last=taken < self._records,
            captions=len(contents.captions),
            report=contents.report,
        )
        before = share if self._kind is Kind.PAIRS else self._reached
        self._reached = 1.0 if state.last else share

        def embedded(count: int, done: float) -> None:
            progress(Step(count, before + done * (self._reached - before)))

        shard = self._keep(number, contents, state, embedded)
        embedded(0, 1.0)
        return shard

    def _folded(self, record: Record, report: Report) -> list[str]:
        """A record's captions on one line each, without blanks and repeats.

        Among pairs, the same words about another image are no repeat: retrieval folds them.
        """
        if self._kind is Kind.PAIRS:
            self._seen = SeenCaptions()
        kept = []
        for caption in record.captions:
            text = " ".join(caption.split())
            folded = fold(text)
            if not folded:
                report.blanks += 1
            elif self._seen.add(folded):
                kept.append(text)
            else:
                report.repeats += 1
        return kept

    def _take_images(self, records: Sequence[Record], contents: _Contents) -> None:
        captions = [self._folded(record, contents.report) for record in records]
        usable = []
        for record, found in zip(records, captions, strict=True):
            if record.image is None:
                self._note(contents.report, record.origin, "it has no image")
            elif not found:
                self._note(contents.report, record.origin, "it has no caption")
            else:
                usable.append((record, found, record.image))
        vectors = self._embedder.images([image for _, _, image in usable]) if usable else []
        for (record, found, _), vector in zip(usable, vectors, strict=True):
            if isinstance(vector, str):
                self._note(contents.report, record.origin, vector)
                continue
            contents.report.records += 1
            contents.captions += found
            contents.counts.append(len(found))
            contents.image_vectors.append(vector)

    def _note(self, report: Report, origin: str, reason: str) -> None:
        if self._strict:
            raise CollectionError(f"{origin}: {reason} (the build is --strict)")
        report.note(origin, reason)

    def _keep(
        self,
        number: int,
        contents: _Contents,
        state: ShardState,
        embedded: Callable[[int, float], object],
    ) -> Shard:
        """Embed the captions and put the shard in its place, at once and for good."""
        partial = self._directory / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        dim = self._embedder.stamp.embed_dim
        vectors = np.empty((len(contents.captions), dim), np.float16)
        for start in range(0, len(contents.captions), _TEXT_BATCH):
            batch = contents.captions[start : start + _TEXT_BATCH]
            vectors[start : start + len(batch)] = self._embedder.texts(batch)
            embedded(len(batch), (start + len(batch)) / len(contents.captions))
        np.save(partial / _CAPTION_VECTORS, vectors)
        if self._kind is Kind.PAIRS:
            images = np.zeros((len(contents.counts), dim), np.float16)
            if contents.image_vectors:
                images[:] = np.stack(contents.image_vectors)
            np.save(partial / _IMAGE_VECTORS, images)
            np.save(partial / _COUNTS, np.asarray(contents.counts, np.int64))
        text = "".join(f"{caption}\n" for caption in contents.captions)
        (partial / _TEXT).write_bytes(text.encode())
        (partial / _STATE).write_text(state.model_dump_json(), encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            sync(path)
        final = self._directory / f"{number:06d}"
        partial.rename(final)
        sync(self._directory)
        self._seen.settle()
        return Shard(final, state)
