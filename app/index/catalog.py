"""The collections that are open, by name; swapped as one while requests go on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import Self

from app.index.manifest import CollectionError, ModelStamp
from app.index.opening import OpenCollection, open_collection
from app.index.place import MilvusOptions, Place


class UnknownCollectionError(Exception):
    """A request names a collection that is not open."""


class ReloadError(Exception):
    """A collection cannot take the place of the one that serves; the message holds no path."""


@dataclass(frozen=True, slots=True)
class NamedPlace:
    """Where a collection lies, and its name; None: the one in its manifest."""

    name: str | None
    place: Place


class Catalog:
    """Open collections by name, the first of them the default.

    A request takes one collection and keeps it to its end; what a reload puts in its place serves
    the requests after it. The old one's files are unmapped, or its connection is closed, when its
    last request is done.
    """

    def __init__(
        self,
        collections: Mapping[str, OpenCollection],
        places: Mapping[str, Place],
        milvus: MilvusOptions,
    ) -> None:
        """Make a catalog; `open` is the usual way.

        Args:
            collections: at least one, the default first.
            places: where each lies, for reloading.
            milvus: how Milvus is reached.
        """
        self._collections = MappingProxyType(dict(collections))
        self._places = dict(places)
        self._milvus = milvus
        self._reloading = Lock()

    @classmethod
    def open(
        cls, places: Sequence[NamedPlace], verify: bool = True, milvus: MilvusOptions | None = None
    ) -> Self:
        """Open every collection.

        Raises:
            CollectionError: one cannot be opened, or two have the same name.
        """
        milvus = milvus or MilvusOptions()
        collections: dict[str, OpenCollection] = {}
        lying: dict[str, Place] = {}
        for named in places:
            collection = open_collection(named.place, verify, milvus)
            name = named.name or collection.manifest.name
            collections[name] = collection
            lying[name] = named.place
        return cls(collections, lying, milvus)

    @property
    def collections(self) -> Mapping[str, OpenCollection]:
        """What is open now, the default first; the mapping never changes."""
        return self._collections

    def choose(self, name: str | None = None) -> tuple[str, OpenCollection]:
        """A collection by its name, or the default.

        Raises:
            UnknownCollectionError: there is none of this name.
        """
        collections = self._collections
        if name is None:
            return next(iter(collections.items()))
        if name not in collections:
            known = ", ".join(collections)
            raise UnknownCollectionError(f"there is no collection '{name}'; there are: {known}")
        return name, collections[name]

    def check_model(self, model: ModelStamp) -> None:
        """Refuse a model that is not that of every collection.

        Raises:
            CollectionError: see `Collection.check_model`.
        """
        for collection in self._collections.values():
            collection.check_model(model)

    def reload(self, model: ModelStamp, verify: bool = True) -> None:
        """Open every collection again beside what serves, check it, then swap all at once.

        Raises:
            ReloadError: one of them is bad; all go on serving as they were.
        """
        with self._reloading:
            fresh = {
                name: _checked(name, place, model, verify, self._milvus)
                for name, place in self._places.items()
            }
            self._collections = MappingProxyType(fresh)


def _checked(
    name: str, place: Place, model: ModelStamp, verify: bool, milvus: MilvusOptions
) -> OpenCollection:
    try:
        collection = open_collection(place, verify, milvus)
        collection.check_model(model)
        collection.check_query()
    except CollectionError as error:
        raise ReloadError(f"{name}: {error.reason}") from error
    return collection
