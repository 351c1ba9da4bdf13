"""Step 1 of X-MoRe: cross-modal retrieval.

The nearest entries of a caption collection to an image, without repeats, re-ranked by how well
each caption fits the image.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]

CANDIDATES = 128
"""M: how many entries of the collection are looked at before re-ranking."""

_FINAL_PUNCTUATION = ".,;:!?… "


@dataclass(frozen=True, slots=True)
class Hits:
    """The captions that a search found for one query, those of the nearest entry first.

    Attributes:
        ids: (n,) int64, rows of the collection.
        texts: n captions.
        embeddings: their stored text embeddings, (n, d) float32, unit-norm.
        are_distinct: whether it is known that none repeats another.
    """

    ids: IdArray
    texts: list[str]
    embeddings: FloatArray
    are_distinct: bool = False

    def __len__(self) -> int:
        return len(self.texts)


class CaptionCollection(Protocol):
    """What retrieval needs of an external image-text collection, wherever it lies."""

    def __len__(self) -> int:
        """Number of captions."""
        ...

    def search(self, embeddings: FloatArray, count: int) -> list[Hits]:
        """The captions of the `count` nearest entries to each query, (queries, d), unit-norm.

        An entry is a caption, or an image with all its captions. There may be fewer.
        """
        ...


@dataclass(frozen=True, slots=True)
class RetrievedCaptions:
    """At most K distinct captions of one image, best first.

    Attributes:
        ids: (k,) int64, rows of the collection.
        texts: k captions.
        embeddings: (k, d) float32, unit-norm.
        similarities: (k,) float32, cos(v, t_k).
    """

    ids: IdArray
    texts: list[str]
    embeddings: FloatArray
    similarities: FloatArray

    def __len__(self) -> int:
        return len(self.texts)


def fold(caption: str) -> str:
    """Two captions repeat each other if they fold to the same text.

    Case, white space and final punctuation do not count.
    """
    return " ".join(caption.casefold().split()).rstrip(_FINAL_PUNCTUATION)


def distinct(captions: Iterable[str]) -> list[int]:
    """Positions of the captions that do not repeat an earlier one."""
    first: dict[str, int] = {}
    for position, caption in enumerate(captions):
        first.setdefault(fold(caption), position)
    return list(first.values())


def rerank(image_embedding: FloatArray, captions: FloatArray, k: int) -> tuple[IdArray, FloatArray]:
    """The k captions nearest to the image: their positions and cosines, best first.

    Args:
        image_embedding: v, (d,), unit-norm.
        captions: candidates t, (m, d), unit-norm.
        k: how many to keep; all if there are fewer.
    """
    # Rounded vectors may be a hair longer than 1.
    similarities = np.clip(captions @ image_embedding, -1.0, 1.0)
    best = np.argsort(-similarities, kind="stable")[:k]
    return best.astype(np.int64), similarities[best]


def retrieve(
    image_embeddings: FloatArray,
    collection: CaptionCollection,
    k: int,
    candidates: int = CANDIDATES,
    by_fit: bool = True,
) -> list[RetrievedCaptions]:
    """Cross-modal retrieval for a batch of images.

    Args:
        image_embeddings: v, (images, d), unit-norm and finite.
        collection: the external image-text collection.
        k: K, how many distinct captions to keep; 0 for none.
        candidates: M, how many entries to look at first. Where repeats leave fewer than K distinct
            captions, more are looked at until there are K or the collection ends.
        by_fit: re-rank the candidates by cos(v, t_k); otherwise the first K stay in the order of
            the search. For `pairs` the two differ much: the nearest image may have captions that
            fit less.

    Returns:
        One entry an image; shorter than K only where the collection has fewer distinct captions.
    """
    depth = min(max(candidates, k), len(collection))
    if k == 0 or depth == 0:
        return [_nothing(v) for v in image_embeddings]
    found = collection.search(image_embeddings, depth)
    return [
        _retrieve_one(v, hits, collection, k, by_fit)
        for v, hits in zip(image_embeddings, found, strict=True)
    ]


def _retrieve_one(
    v: FloatArray, hits: Hits, collection: CaptionCollection, k: int, by_fit: bool
) -> RetrievedCaptions:
    kept = _distinct(hits)
    while len(kept) < k and len(hits) < len(collection):
        depth = min(2 * max(len(hits), k), len(collection))
        (deeper,) = collection.search(v[np.newaxis], depth)
        if len(deeper) <= len(hits):
            break
        hits, kept = deeper, _distinct(deeper)
    if not kept:
        return _nothing(v)
    if not by_fit:
        kept = kept[:k]
    ids, embeddings = hits.ids[kept], hits.embeddings[kept]
    texts = [hits.texts[position] for position in kept]
    if not by_fit:
        return RetrievedCaptions(ids, texts, embeddings, embeddings @ v)
    order, similarities = rerank(v, embeddings, k)
    return RetrievedCaptions(
        ids[order], _take(texts, order), embeddings[order], similarities.astype(np.float32)
    )


def _distinct(hits: Hits) -> list[int]:
    return list(range(len(hits))) if hits.are_distinct else distinct(hits.texts)


def _take(texts: Sequence[str], order: IdArray) -> list[str]:
    return [texts[position] for position in order]


def _nothing(v: FloatArray) -> RetrievedCaptions:
    return RetrievedCaptions(
        np.empty(0, np.int64), [], np.empty((0, v.shape[-1]), np.float32), np.empty(0, np.float32)
    )
