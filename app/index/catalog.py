"""The collections that are open, by name; swapped as one while requests go on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Self

from app.index.collection import Collection
from app.index.manifest import CollectionError, ModelStamp


class UnknownCollectionError(Exception):
    """A request names a collection that is not open."""


class ReloadError(Exception):
    """A collection cannot take the place of the one that serves; the message holds no path."""


@dataclass(frozen=True, slots=True)
class NamedDirectory:
    """Where a collection lies, and its name; None: the one in its manifest."""

    name: str | None
    directory: Path


class Catalog:
    """Open collections by name, the first of them the default.

    A request takes one collection and keeps it to its end; what a reload puts in its place serves
    the requests after it. The old one's files are unmapped when its last request is done.
    """

    def __init__(self, collections: Mapping[str, Collection], places: Mapping[str, Path]) -> None:
        """Make a catalog; `open` is the usual way.

        Args:
            collections: at least one, the default first.
            places: the directory of each, for reloading.
        """
        self._collections = MappingProxyType(dict(collections))
        self._places = dict(places)
        self._reloading = Lock()

    @classmethod
    def open(cls, places: Sequence[NamedDirectory], verify: bool = True) -> Self:
        """Open every collection.

        Raises:
            CollectionError: one cannot be opened, or two have the same name.
        """
        collections: dict[str, Collection] = {}
        directories: dict[str, Path] = {}
        for place in places:
            collection = Collection.open(place.directory, verify)
            name = place.name or collection.manifest.name
            collections[name] = collection
            directories[name] = place.directory
        return cls(collections, directories)

    @property
    def collections(self) -> Mapping[str, Collection]:
        """What is open now, the default first; the mapping never changes."""
        return self._collections

    def choose(self, name: str | None = None) -> tuple[str, Collection]:
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
        """Open every directory again beside what serves, check it, then swap all at once.

        Raises:
            ReloadError: one of them is bad; all go on serving as they were.
        """
        with self._reloading:
            fresh = {
                name: _checked(name, directory, model, verify)
                for name, directory in self._places.items()
            }
            self._collections = MappingProxyType(fresh)


def _checked(name: str, directory: Path, model: ModelStamp, verify: bool) -> Collection:
    try:
        collection = Collection.open(directory, verify)
        collection.check_model(model)
        collection.check_query()
    except CollectionError as error:
        raise ReloadError(f"{name}: {error.reason}") from error
    return collection
