"""A caption collection in Milvus, opened and checked like one on disk."""

import weakref
from functools import partial
from typing import Self

import numpy as np

from app.index.manifest import CollectionAwayError, CollectionError, ModelStamp, check_model
from app.index.milvus.client import REFUSED, EngineError, MilvusClient
from app.index.milvus.manifest import (
    MilvusIndexStamp,
    MilvusIndexType,
    MilvusManifest,
    read_manifest,
)
from app.index.milvus.rows import hit_fields, hits_of
from app.index.milvus.watch import Watch
from app.index.place import MilvusAddress, MilvusOptions
from app.xmore.retrieval import FloatArray, Hits

_MOST = 16_384
"""Most hits of a query that Milvus gives."""

_LEAST_EF = 256

_EMBEDDED_LISTS = 128
"""Lists of an IVF index of the embedded engine, which takes no parameters."""


class MilvusCollection:
    """A collection in Milvus, ready for queries from any thread.

    Satisfies `app.index.opening.OpenCollection`. It is closed when nothing holds it any more.

    Attributes:
        manifest: what it is.
    """

    is_here = False

    def __init__(self, manifest: MilvusManifest, client: MilvusClient) -> None:
        """Hold an open collection; `open` is the usual way."""
        self.manifest = manifest
        self._client = client
        self._watch = Watch(manifest.name, partial(_ask, manifest, client))
        weakref.finalize(self, _release, self._watch, client)

    @classmethod
    def open(cls, address: MilvusAddress, options: MilvusOptions) -> Self:
        """Connect, and check that the collection is wholly there.

        Raises:
            CollectionError: no engine answers, or the collection is missing, not xmore's, half
                loaded, or not as its manifest says.
        """
        client = MilvusClient.connect(address, options)
        try:
            manifest = _checked(client, options)
        except EngineError as error:
            client.close()
            raise CollectionError(REFUSED, address, error) from error
        except CollectionError:
            client.close()
            raise
        return cls(manifest, client)

    @property
    def away(self) -> str | None:
        """Why it does not answer now; None where it does."""
        return self._watch.away

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
        try:
            _ask(self.manifest, self._client)
        except EngineError as error:
            raise CollectionError(REFUSED, self._client.address, error) from error

    def __len__(self) -> int:
        return self.manifest.captions

    def search(self, embeddings: FloatArray, count: int) -> list[Hits]:
        """The captions of the `count` nearest entries to each query, (queries, d), unit-norm.

        Raises:
            CollectionAwayError: the engine does not answer, or did not lately.
        """
        if self._watch.away is not None:
            raise CollectionAwayError(self.manifest.name)
        try:
            return _search(self.manifest, self._client, embeddings, count)
        except EngineError as error:
            self._watch.lost(str(error))
            raise CollectionAwayError(self.manifest.name) from error

    def some(self, count: int) -> Hits:
        """The captions of some `count` entries, for a look at what there is.

        Raises:
            CollectionError: no answer.
        """
        try:
            rows = self._client.some_rows(count, hit_fields(self.manifest))
        except EngineError as error:
            raise CollectionError(REFUSED, self._client.address, error) from error
        return hits_of(rows, self.manifest)


def _checked(client: MilvusClient, options: MilvusOptions) -> MilvusManifest:
    address = client.address
    if not client.exists():
        raise CollectionError(
            "there is no such collection. Load one with `xmore index copy DIR URL`, or set "
            "XMORE_MILVUS_DATABASE to the database that has it.",
            address,
        )
    manifest = read_manifest(client.properties(), address)
    dim = client.dimension(manifest.vector)
    if dim != manifest.model.embed_dim:
        raise CollectionError(
            f"its vectors have {dim} dimensions, its manifest says {manifest.model.embed_dim}. "
            "Load it again: `xmore index copy DIR URL --restart`.",
            address,
        )
    client.load(options.start_timeout_s)
    rows = client.count()
    if rows != manifest.entries:
        raise CollectionError(
            f"it has {rows} rows, its manifest says {manifest.entries}. Load it again: "
            "`xmore index copy DIR URL --restart`.",
            address,
        )
    return manifest


def _search(
    manifest: MilvusManifest, client: MilvusClient, queries: FloatArray, count: int
) -> list[Hits]:
    count = min(count, manifest.entries, _MOST)
    if count == 0 or len(queries) == 0:
        return [hits_of([], manifest) for _ in queries]
    parameters = search_parameters(manifest.index, count, manifest.entries)
    found = client.search(manifest.vector, queries, count, hit_fields(manifest), parameters)
    return [hits_of(rows, manifest) for rows in found]


def search_parameters(index: MilvusIndexStamp, count: int, entries: int) -> dict[str, int]:
    """How hard a search for `count` of so many entries tries, by the type of index.

    HNSW follows twice as many candidates as are wanted, at least 256. IVF visits an eighth of its
    lists, and enough of them to hold twice as many entries as are wanted.
    """
    if index.type is MilvusIndexType.HNSW:
        return {"ef": max(_LEAST_EF, 2 * count)}
    if index.type is MilvusIndexType.IVF_SQ8:
        lists = index.build.get("nlist", _EMBEDDED_LISTS)
        return {"nprobe": min(lists, max(lists // 8, -(-2 * count * lists // entries), 1))}
    return {}


def _ask(manifest: MilvusManifest, client: MilvusClient) -> None:
    """See that the same collection is there, ready, and answers a query."""
    if read_manifest_or_none(client) != manifest:
        raise EngineError(
            "another collection is there now than the one that was opened; reload "
            "(POST /v1/index/reload or SIGHUP) to serve it"
        )
    client.load(patience_s=_RELOAD_S)
    query = np.full((1, manifest.model.embed_dim), manifest.model.embed_dim**-0.5, np.float32)
    (hits,) = _search(manifest, client, query, 1)
    norms = np.linalg.norm(hits.embeddings, axis=1)
    if len(hits) == 0 or not np.allclose(norms, 1, atol=1e-3):
        raise EngineError(
            f"The collection '{manifest.name}' does not answer a query with captions. Load it "
            "again: `xmore index copy DIR URL --restart`."
        )


_RELOAD_S = 600.0


def read_manifest_or_none(client: MilvusClient) -> MilvusManifest | None:
    """The manifest that is there now; None where there is none that can serve."""
    try:
        return read_manifest(client.properties(), client.address)
    except CollectionError:
        return None


def _release(watch: Watch, client: MilvusClient) -> None:
    watch.close()
    client.close()
