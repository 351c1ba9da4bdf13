"""Whether a collection is sound: its files, its counts, its answers, its rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.index.collection import Collection
from app.index.manifest import CollectionError
from app.index.place import MilvusAddress, MilvusOptions, Place
from app.index.search import (
    RECALL_AT,
    FloatArray,
    exact_search,
    normalised,
    probe_queries,
)
from app.xmore.retrieval import Hits

EmbedTexts = Callable[[Sequence[str]], FloatArray]

LEAST_RECALL = 0.8
_QUERIES = 256
_CAPTIONS = 64
_LEAST_COSINE = 0.95


@dataclass(frozen=True, slots=True)
class Verified:
    """What was measured.

    Attributes:
        recall: share of the 16 exact neighbours that a query finds, by the stored parameters; None
            in Milvus, whose vectors are not all read back.
        queries: how many queries that is the mean of.
        captions: how many captions were embedded anew and compared; 0 without a model.
        least_cosine: between their stored and new embeddings, the worst; None without a model.
    """

    recall: float | None
    queries: int
    captions: int
    least_cosine: float | None


def verify(
    directory: Path, embed_texts: EmbedTexts | None, least_recall: float = LEAST_RECALL
) -> Verified:
    """Check a collection: checksums, counts, recall, and captions in step with their vectors.

    Recall is against exact search over the vectors as they are stored, with queries as
    `probe_queries` makes them.

    Args:
        directory: the collection.
        embed_texts: texts to unit-norm embeddings, by the model of the collection; None leaves
            out whether captions and vectors are in step.
        least_recall: below it the collection fails.

    Raises:
        CollectionError: something is wrong; the message says what.
    """
    collection = Collection.open(directory)
    collection.check_query()
    least_cosine = None
    compared = 0
    if embed_texts is not None:
        ids = _some(len(collection), _CAPTIONS)
        compared = len(ids)
        hits = Hits(ids, collection.texts(ids), collection.embeddings(ids))
        least_cosine = _least_cosine(hits, embed_texts, directory)
    rows = _some(len(collection.index), _QUERIES)
    queries = probe_queries(collection.index.vectors(rows), collection.manifest.kind)
    recall = _recall(collection, queries)
    if recall < least_recall:
        raise CollectionError(
            f"recall@{RECALL_AT} is {recall:.3f} on {len(rows)} queries, below {least_recall}. "
            "Build the collection again with another --faiss.",
            directory,
        )
    return Verified(recall, len(rows), compared, least_cosine)


def verify_in_milvus(
    address: MilvusAddress, milvus: MilvusOptions, embed_texts: EmbedTexts | None
) -> Verified:
    """Check a collection in Milvus: manifest, count, an answer, and captions in step.

    Args:
        address: the collection.
        milvus: how Milvus is reached.
        embed_texts: as for `verify`.

    Raises:
        CollectionError: something is wrong; the message says what.
    """
    from app.index.milvus.collection import MilvusCollection

    collection = MilvusCollection.open(address, milvus)
    collection.check_query()
    if embed_texts is None:
        return Verified(None, 0, 0, None)
    hits = collection.some(_CAPTIONS)
    return Verified(None, 0, len(hits), _least_cosine(hits, embed_texts, address))


def _some(count: int, wanted: int) -> np.typing.NDArray[np.int64]:
    """Rows drawn without replacement, the same ones every time."""
    rows = np.random.default_rng(2).choice(count, min(count, wanted), replace=False)
    return np.sort(rows)


def _recall(collection: Collection, queries: FloatArray) -> float:
    index = collection.index
    return index.recall(queries, exact_search(queries, index.blocks(), min(RECALL_AT, len(index))))


def _least_cosine(hits: Hits, embed_texts: EmbedTexts, place: Place) -> float:
    cosines = (normalised(embed_texts(hits.texts)) * hits.embeddings).sum(axis=1)
    worst = int(cosines.argmin())
    if cosines[worst] < _LEAST_COSINE:
        raise CollectionError(
            f"captions and vectors are not in step: caption {hits.ids[worst]} "
            f"({hits.texts[worst]!r}) has a stored embedding at cosine {cosines[worst]:.3f} to its "
            "own. Build the collection again.",
            place,
        )
    return float(cosines[worst])
