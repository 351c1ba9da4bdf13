"""An open collection, wherever it lies, as those see it who serve it."""

from pathlib import Path
from typing import Protocol

from app.index.collection import Collection
from app.index.manifest import Kind, ModelStamp
from app.index.place import MilvusOptions, Place
from app.xmore.retrieval import CaptionCollection


class CollectionManifest(Protocol):
    """What a collection says of itself, on disk and in Milvus."""

    @property
    def name(self) -> str:
        """What answers call it, unless the settings name it."""
        ...

    @property
    def kind(self) -> Kind:
        """What it is searched by."""
        ...

    @property
    def captions(self) -> int:
        """How many."""
        ...

    @property
    def images(self) -> int | None:
        """How many it has of pairs; else None."""
        ...

    @property
    def model(self) -> ModelStamp:
        """Whose embeddings it holds."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies its content; the same on disk and in Milvus."""
        ...


class OpenCollection(CaptionCollection, Protocol):
    """A collection that was opened and checked."""

    @property
    def manifest(self) -> CollectionManifest:
        """What it is."""
        ...

    @property
    def away(self) -> str | None:
        """Why it does not answer now, for logs; None where it does."""
        ...

    @property
    def is_here(self) -> bool:
        """Whether a search asks nobody else, who may let it wait."""
        ...

    def check_model(self, model: ModelStamp) -> None:
        """Refuse a model whose embeddings are not those of the collection.

        Raises:
            CollectionError: the weights differ.
        """
        ...

    def check_query(self) -> None:
        """Ask one query, so that what opens but does not answer is found before it serves.

        Raises:
            CollectionError: the answer is no caption with a unit-norm embedding.
        """
        ...


def open_collection(place: Place, verify: bool, milvus: MilvusOptions) -> OpenCollection:
    """Open a collection and check that it is whole.

    Args:
        place: where it lies.
        verify: of a directory, whether to compare checksums or sizes only.
        milvus: how Milvus is reached.

    Raises:
        CollectionError: it is missing, damaged, half loaded, or its engine does not answer.
    """
    if isinstance(place, Path):
        return Collection.open(place, verify)
    from app.index.milvus.collection import MilvusCollection

    return MilvusCollection.open(place, milvus)
