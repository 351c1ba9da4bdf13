"""Who does the work of a build: this process, or many (`app.index.on_ray`)."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from app.index.embedder import Embedder
from app.index.folding import SeenCaptions, caption_key, caption_keys
from app.index.making import Progress, ShardMaker, ShardRules, Step
from app.index.manifest import Kind, ModelStamp
from app.index.reading import START, Read, read_on, spans
from app.index.search import Part, write_parts
from app.index.shard import Shard
from app.index.sources.record import Source


class Workers(Protocol):
    """Those who embed, and who add vectors to the index."""

    @property
    def stamp(self) -> ModelStamp:
        """The model that they embed with."""
        ...

    def make_shards(
        self, sources: Sequence[Source], rules: ShardRules, progress: Progress
    ) -> list[Shard]:
        """All shards in their order, those that stand included.

        Raises:
            CollectionError: the rules are strict and something could not be used, or the workers
                were lost.
        """
        ...

    def write_parts(self, parts: Sequence[Part]) -> None:
        """Write every part of the index."""
        ...


class InProcess:
    """This process does it all, shard after shard."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @property
    def stamp(self) -> ModelStamp:
        """The model that it embeds with."""
        return self._embedder.stamp

    def make_shards(
        self, sources: Sequence[Source], rules: ShardRules, progress: Progress
    ) -> list[Shard]:
        """All shards in their order, those that stand included."""
        seen = SeenCaptions()
        maker = ShardMaker(rules, self._embedder)
        shards: list[Shard] = []
        items: Iterator[Read] | None = None
        while not (shards and shards[-1].state.last):
            shard = standing(rules, len(shards), seen, progress)
            if shard is not None:
                items = None
            else:
                start = shards[-1].state.reached if shards else START
                items = items or read_on(spans(sources), start.place, rules.kind is Kind.PAIRS)
                shard = maker.make(
                    len(shards), start, items, lambda text: seen.add(caption_key(text)), progress
                )
            shards.append(shard)
        return shards

    def write_parts(self, parts: Sequence[Part]) -> None:
        """Write every part of the index, one after the other."""
        write_parts(parts)


def standing(
    rules: ShardRules, number: int, seen: SeenCaptions, progress: Progress
) -> Shard | None:
    """A shard that an earlier run finished; its captions are noted as seen."""
    shard = rules.folder.find(number)
    if shard is not None:
        if rules.kind is Kind.CAPTIONS:
            seen.add_all(caption_keys(shard.captions))
        progress(Step(shard.state.captions, shard.state.share))
    return shard
