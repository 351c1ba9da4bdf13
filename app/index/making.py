"""Make one shard: fold its records' captions, embed them and their images, keep it on disk."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from app.index.embedder import Embedder
from app.index.folding import SeenCaptions, caption_key, tidied
from app.index.manifest import CollectionError, Kind
from app.index.reading import Reached, Read
from app.index.report import Report
from app.index.search import FloatArray
from app.index.shard import ImageVectors, Shard, ShardFolder, ShardState
from app.index.sources.record import Fault, Record

_TEXT_BATCH = 512
_IMAGE_BATCH = 32

IsNew = Callable[[str], bool]
"""Whether a folded caption is no repeat of an earlier one; asked once for each, in their order."""


@dataclass(frozen=True, slots=True)
class Step:
    """Progress: how many captions were embedded, and the share of the sources that was read."""

    captions: int
    share: float


Progress = Callable[[Step], object]


@dataclass(frozen=True, slots=True)
class ShardRules:
    """What decides the contents of shards, besides the sources and the model.

    Attributes:
        folder: where they lie.
        kind: `pairs` reads and embeds images too.
        records: how many items of the sources make a shard.
        strict: stop at a fault.
    """

    folder: ShardFolder
    kind: Kind
    records: int
    strict: bool


@dataclass(slots=True)
class _Contents:
    """What a shard in the making holds."""

    report: Report = field(default_factory=Report)
    captions: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    image_vectors: list[FloatArray] = field(default_factory=list)


class ShardMaker:
    """Makes shards by given rules with a model."""

    def __init__(self, rules: ShardRules, embedder: Embedder) -> None:
        self._rules = rules
        self._embedder = embedder

    def make(
        self, number: int, start: Reached, items: Iterator[Read], is_new: IsNew, progress: Progress
    ) -> Shard:
        """Make a shard of at most `records` items; one of fewer is the last.

        Args:
            number: the shard's place among all.
            start: where reading stands before it.
            items: what follows; the shard takes its own and leaves the rest.
            is_new: for captions; among pairs the same words about another image are no repeat.
            progress: called after every batch.

        Raises:
            CollectionError: the rules are strict, and something could not be used.
        """
        contents = _Contents()
        end, taken = start, 0
        waiting: list[Record] = []
        for read in islice(items, self._rules.records):
            taken += 1
            end = read.reached
            if isinstance(read.item, Fault):
                self._note(contents.report, read.item.origin, read.item.reason)
            elif self._rules.kind is Kind.CAPTIONS:
                contents.report.records += 1
                contents.captions += _folded(read.item, contents.report, is_new)
            else:
                waiting.append(read.item)
                if len(waiting) == _IMAGE_BATCH:
                    self._take_images(waiting, contents)
                    waiting = []
                    progress(Step(0, end.share))
        self._take_images(waiting, contents)
        last = taken < self._rules.records
        state = ShardState(
            end=end.place,
            share=1.0 if last else end.share,
            last=last,
            captions=len(contents.captions),
            report=contents.report,
        )
        before = start.share if self._rules.kind is Kind.CAPTIONS else end.share

        def embedded(count: int, done: float) -> None:
            progress(Step(count, before + done * (state.share - before)))

        shard = self._keep(number, contents, state, embedded)
        embedded(0, 1.0)
        return shard

    def _take_images(self, records: Sequence[Record], contents: _Contents) -> None:
        usable = []
        for record in records:
            found = _folded(record, contents.report, _new_of_its_image())
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
        if self._rules.strict:
            raise CollectionError(f"{origin}: {reason} (the build is --strict)")
        report.note(origin, reason)

    def _keep(
        self,
        number: int,
        contents: _Contents,
        state: ShardState,
        embedded: Callable[[int, float], object],
    ) -> Shard:
        dim = self._embedder.stamp.embed_dim
        vectors = np.empty((len(contents.captions), dim), np.float16)
        for start in range(0, len(contents.captions), _TEXT_BATCH):
            batch = contents.captions[start : start + _TEXT_BATCH]
            vectors[start : start + len(batch)] = self._embedder.texts(batch)
            embedded(len(batch), (start + len(batch)) / len(contents.captions))
        images = None
        if self._rules.kind is Kind.PAIRS:
            of_images = np.zeros((len(contents.counts), dim), np.float16)
            if contents.image_vectors:
                of_images[:] = np.stack(contents.image_vectors)
            images = ImageVectors(of_images, np.asarray(contents.counts, np.int64))
        return self._rules.folder.keep(number, state, contents.captions, vectors, images)


def _folded(record: Record, report: Report, is_new: IsNew) -> list[str]:
    """A record's captions on one line each, without blanks and repeats."""
    kept = []
    for text, folded in tidied(record.captions):
        if not folded:
            report.blanks += 1
        elif is_new(folded):
            kept.append(text)
        else:
            report.repeats += 1
    return kept


def _new_of_its_image() -> IsNew:
    seen = SeenCaptions()
    return lambda folded: seen.add(caption_key(folded))
