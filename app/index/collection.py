"""An opened caption collection: search by embedding, look captions and embeddings up."""

from pathlib import Path
from typing import Self

import numpy as np

from app.index.manifest import (
    CAPTION_VECTORS_FILE,
    FIRST_CAPTION_FILE,
    CollectionError,
    Kind,
    Manifest,
    ModelStamp,
    check_files,
    check_model,
    read_manifest,
)
from app.index.search import (
    FloatArray,
    HalfArray,
    IdArray,
    SearchIndex,
    normalised,
    open_vectors,
)
from app.index.store import CaptionStore, open_array
from app.xmore.retrieval import Hits


class Images:
    """Which captions belong to which image of a collection of kind `pairs`.

    Attributes:
        first: (images + 1,) int64; image i has the captions first[i] to first[i + 1], without the
            last.
        vectors: embeddings of the captions, (captions, d) fp16.
    """

    def __init__(self, first: IdArray, vectors: HalfArray) -> None:
        self.first = first
        self.vectors = vectors

    @classmethod
    def open(cls, directory: Path, manifest: Manifest) -> Self:
        """Map both files.

        Raises:
            CollectionError: they do not fit the manifest.
        """
        first = open_array(directory, FIRST_CAPTION_FILE)
        if (
            first.dtype != np.int64
            or first.shape != (manifest.entries + 1,)
            or first[0] != 0
            or first[-1] != manifest.captions
            or (np.diff(first) < 1).any()
        ):
            raise CollectionError(
                f"{FIRST_CAPTION_FILE} does not divide {manifest.captions} captions among "
                f"{manifest.entries} images. Build the collection again.",
                directory,
            )
        dim = manifest.model.embed_dim
        vectors = open_vectors(directory, CAPTION_VECTORS_FILE, manifest.captions, dim)
        return cls(first, vectors)

    def captions(self, images: IdArray) -> IdArray:
        """Caption ids of images (queries, n), images in order; short rows end in -1."""
        rows = [
            np.concatenate(
                [np.arange(self.first[image], self.first[image + 1]) for image in row[row >= 0]]
                or [np.empty(0, np.int64)]
            )
            for row in images
        ]
        out = np.full((len(rows), max((len(row) for row in rows), default=0)), -1, np.int64)
        for number, row in enumerate(rows):
            out[number, : len(row)] = row
        return out


class Collection:
    """A caption collection on disk, ready for queries from any thread.

    Satisfies `app.index.opening.OpenCollection`.

    Attributes:
        manifest: what it is.
        index: the vectors that are searched.
        images: of pairs, which captions belong to which image; else None.
    """

    away = None
    """Files that are mapped answer always."""

    is_here = True

    def __init__(
        self, manifest: Manifest, index: SearchIndex, store: CaptionStore, images: Images | None
    ) -> None:
        self.manifest = manifest
        self.index = index
        self._store = store
        self.images = images

    @classmethod
    def open(cls, directory: Path, verify: bool = True) -> Self:
        """Check a collection's files and map them.

        Args:
            directory: made by `xmore index build`.
            verify: read every file once and compare its checksum; otherwise its size only.

        Raises:
            CollectionError: the manifest, a checksum, a size or a count is wrong.
        """
        manifest = read_manifest(directory)
        try:
            check_files(directory, manifest, checksums=verify)
            return cls._map(directory, manifest)
        except OSError as error:
            raise CollectionError(f"cannot be read ({error.strerror})", directory) from error

    @classmethod
    def _map(cls, directory: Path, manifest: Manifest) -> Self:
        index = SearchIndex.open(directory, manifest)
        store = CaptionStore.open(directory)
        if len(store) != manifest.captions or len(index) != manifest.entries:
            raise CollectionError(
                f"{manifest.captions} captions and {manifest.entries} vectors by the manifest, "
                f"{len(store)} captions in the store, {len(index)} vectors in the index. "
                "Build the collection again.",
                directory,
            )
        images = Images.open(directory, manifest) if manifest.kind is Kind.PAIRS else None
        return cls(manifest, index, store, images)

    def check_model(self, model: ModelStamp) -> None:
        """Refuse a model whose embeddings are not those of the collection.

        Raises:
            CollectionError: the weights differ; the message says how to build a collection anew.
        """
        check_model(self.manifest.name, self.manifest.model, model)

    def check_query(self) -> None:
        """Ask one query, so that what opens but does not answer is found before it serves.

        Raises:
            CollectionError: the answer is no caption with a unit-norm embedding.
        """
        query = self.index.vectors(np.zeros(1, np.int64))
        try:
            (hits,) = self.search(query, 1)
        except UnicodeDecodeError:
            good = False
        else:
            norms = np.linalg.norm(hits.embeddings, axis=1)
            good = len(hits) > 0 and np.allclose(norms, 1, atol=1e-3)
        if not good:
            raise CollectionError(
                f"The collection '{self.manifest.name}' does not answer a query with captions. "
                "Build it again."
            )

    def __len__(self) -> int:
        return len(self._store)

    def search(self, embeddings: FloatArray, count: int) -> list[Hits]:
        """The captions of the `count` nearest entries to each query, (queries, d), unit-norm."""
        rows = (ids[ids >= 0] for ids in self.nearest(embeddings, count))
        # Captions that repeat others were left out when they were collected; those of pairs stay.
        distinct = self.images is None
        return [Hits(ids, self.texts(ids), self.embeddings(ids), distinct) for ids in rows]

    def nearest(self, embeddings: FloatArray, count: int) -> IdArray:
        """Caption ids of the `count` nearest entries by inner product, best first.

        Entries are captions or, in a collection of pairs, images, each with all its captions.

        Args:
            embeddings: unit-norm queries, (queries, d).
            count: how many entries.

        Returns:
            (queries, n); -1 ends a short row.
        """
        rows = self.index.search(embeddings, count)
        return rows if self.images is None else self.images.captions(rows)

    def texts(self, ids: IdArray) -> list[str]:
        """The captions of ids.

        Raises:
            IndexError: an id is not a row of the collection.
        """
        return self._store.texts(ids)

    def embeddings(self, ids: IdArray) -> FloatArray:
        """Stored text embeddings of ids, (n, d), normalised again after compression.

        Raises:
            IndexError: an id is not a row of the collection.
        """
        if self.images is None:
            return self.index.vectors(ids)
        return normalised(self.images.vectors[ids])
