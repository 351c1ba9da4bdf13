"""Read sources one after the other: each item with its place, and the share that is behind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from app.index.sources.record import Item, Source


class Place(BaseModel):
    """Where reading stands: the source, and how many of its items are behind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: int = 0
    item: int = 0


@dataclass(frozen=True, slots=True)
class Reached:
    """How far reading has come: the place, and the share of all sources in [0, 1]."""

    place: Place
    share: float


START = Reached(Place(), 0.0)


@dataclass(frozen=True, slots=True)
class Read:
    """An item as it was read.

    Attributes:
        item: what was read.
        source: its source's number.
        number: its place among the source's items, from 1.
        share: how much of all sources is behind with it, in [0, 1].
    """

    item: Item
    source: int
    number: int
    share: float

    @property
    def reached(self) -> Reached:
        """Where reading stands after it."""
        return Reached(Place(source=self.source, item=self.number), self.share)


@dataclass(frozen=True, slots=True)
class Span:
    """A source as one of several.

    Attributes:
        source: the source.
        number: its place among them, from 0.
        start: the share of all sources that lies before it.
        end: the share that is behind with it.
    """

    source: Source
    number: int
    start: float
    end: float

    def read(self, images: bool, behind: int = 0) -> Iterator[Read]:
        """Its items in order, after so many that are behind; images only where asked for."""
        for number, item in enumerate(self.source.read(images), 1):
            if number > behind:
                share = self.start + item.position * (self.end - self.start)
                yield Read(item, self.number, number, share)


def spans(sources: Sequence[Source]) -> list[Span]:
    """Sources with their shares, by their sizes."""
    bounds = np.cumsum([0, *(max(1, source.size) for source in sources)])
    shares = (bounds / bounds[-1]).tolist()
    return [
        Span(source, number, shares[number], shares[number + 1])
        for number, source in enumerate(sources)
    ]


def read_on(sources: Sequence[Span], place: Place, images: bool) -> Iterator[Read]:
    """Every item from a place on."""
    for span in sources[place.source :]:
        yield from span.read(images, place.item if span.number == place.source else 0)
