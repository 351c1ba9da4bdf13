"""An opened caption collection: search by image embedding, look captions and embeddings up."""

from pathlib import Path
from typing import Self

import faiss
import numpy as np
import numpy.typing as npt

from app.index.manifest import (
    FAISS_FILE,
    CollectionError,
    Manifest,
    ModelStamp,
    check_files,
    read_manifest,
)
from app.index.store import CaptionStore


class Collection:
    """A caption collection on disk, ready for queries from any thread.

    Satisfies `app.xmore.retrieval.CaptionCollection`.
    """

    def __init__(self, manifest: Manifest, index: faiss.Index, store: CaptionStore) -> None:
        self.manifest = manifest
        self._index = index
        self._store = store

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Check a collection's files and open it.

        Raises:
            CollectionError: the manifest, a checksum or a count is wrong.
        """
        manifest = read_manifest(directory)
        if manifest.kind != "captions":
            raise CollectionError(
                f"{directory}: collections of kind '{manifest.kind}' are not supported yet"
            )
        check_files(directory, manifest)
        index = faiss.read_index(str(directory / FAISS_FILE))
        store = CaptionStore.open(directory)
        if not index.ntotal == len(store) == manifest.captions:
            raise CollectionError(
                f"{directory}: {manifest.captions} captions by the manifest, {len(store)} in the "
                f"store, {index.ntotal} in the index. Build the collection again."
            )
        if index.d != manifest.model.embed_dim:
            raise CollectionError(
                f"{directory}: the index has {index.d} dimensions, "
                f"the manifest says {manifest.model.embed_dim}. Build the collection again."
            )
        if isinstance(index, faiss.IndexIVF):
            index.make_direct_map()
        return cls(manifest, index, store)

    def check_model(self, model: ModelStamp) -> None:
        """Refuse a model whose embeddings are not those of the collection.

        Raises:
            CollectionError: the weights differ; the message says how to build a collection anew.
        """
        made_by = self.manifest.model
        if made_by.fingerprint != model.fingerprint:
            raise CollectionError(
                f"The caption collection '{self.manifest.name}' was built with the model "
                f"'{made_by.name}' ({made_by.fingerprint[:12]}), but the model loaded is "
                f"'{model.name}' ({model.fingerprint[:12]}). Load that model (XMORE_MODEL), or "
                "build a collection for this one: "
                "`xmore index build CAPTIONS.txt --out DIR`, then set XMORE_INDEX=DIR."
            )

    def __len__(self) -> int:
        return len(self._store)

    def search(
        self, image_embeddings: npt.NDArray[np.float32], count: int
    ) -> npt.NDArray[np.int64]:
        """Ids of the nearest captions by inner product, (queries, count), best first.

        A row that FAISS cannot fill ends in -1.
        """
        count = min(count, len(self))
        if count == 0:
            return np.empty((len(image_embeddings), 0), np.int64)
        queries = np.ascontiguousarray(image_embeddings, np.float32)
        _, ids = self._index.search(queries, count, params=self._parameters(count))
        return np.asarray(ids, np.int64)

    def _parameters(self, count: int) -> faiss.SearchParameters | None:
        nprobe = self.manifest.faiss.nprobe
        if nprobe is None or not isinstance(self._index, faiss.IndexIVF):
            return None
        # A deep search needs enough lists to hold `count` captions, and as many again.
        lists = self._index.nlist
        needed = -(-2 * count * lists // len(self))
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = min(lists, max(nprobe, needed))
        return parameters

    def texts(self, ids: npt.NDArray[np.int64]) -> list[str]:
        """The captions of ids.

        Raises:
            IndexError: an id is not a row of the collection.
        """
        return self._store.texts(ids)

    def embeddings(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Stored text embeddings of ids, (n, d), normalised again after FAISS's compression."""
        vectors = self._index.reconstruct_batch(np.ascontiguousarray(ids, np.int64))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        out: npt.NDArray[np.float32] = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
        return out
