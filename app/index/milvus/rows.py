"""Rows of a collection in Milvus: one an entry, with all that a hit needs.

| field | kind `captions` | kind `pairs` |
|---|---|---|
| `id` | the caption's id | the id of the image's first caption |
| `vector_…` | the caption's embedding | the image's embedding |
| `texts` | the caption | the image's captions, one a line |
| `embeddings` | not there: it is the vector | the captions' embeddings, fp16, base64 |

So a search brings texts and embeddings of its hits with it, also where an image has several.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.index.collection import Collection
from app.index.manifest import CollectionError, Kind
from app.index.milvus.client import ID, MAX_TEXT_BYTES
from app.index.milvus.manifest import MilvusManifest
from app.index.search import normalised
from app.xmore.retrieval import FloatArray, Hits

TEXTS = "texts"
EMBEDDINGS = "embeddings"

TEXT_FIELDS = {Kind.CAPTIONS: (TEXTS,), Kind.PAIRS: (TEXTS, EMBEDDINGS)}
"""The fields of text, by the collection's kind."""

_LITTLE_ENDIAN_HALF = np.dtype("<f2")


def hit_fields(manifest: MilvusManifest) -> tuple[str, ...]:
    """What a hit needs besides the id."""
    if manifest.kind is Kind.CAPTIONS:
        return (TEXTS, manifest.vector)
    return (TEXTS, EMBEDDINGS)


def rows_of(
    collection: Collection, manifest: MilvusManifest, start: int, stop: int
) -> list[dict[str, Any]]:
    """The rows of entries `start` to `stop`, without the last, of a collection on disk.

    Raises:
        CollectionError: a caption, or an image's captions together, are too long for a row.
    """
    entries = np.arange(start, stop)
    vectors = collection.index.vectors(entries)
    images = collection.images
    if images is None:
        return [
            {ID: int(entry), manifest.vector: vector, TEXTS: _fitting(text, f"caption {entry}")}
            for entry, vector, text in zip(entries, vectors, collection.texts(entries), strict=True)
        ]
    rows = []
    for entry, vector in zip(entries, vectors, strict=True):
        first, last = int(images.first[entry]), int(images.first[entry + 1])
        captions = collection.texts(np.arange(first, last))
        packed = np.asarray(images.vectors[first:last], _LITTLE_ENDIAN_HALF).tobytes()
        what = f"image {entry} with its {last - first} captions"
        rows.append(
            {
                ID: first,
                manifest.vector: vector,
                TEXTS: _fitting("\n".join(captions), what),
                EMBEDDINGS: _fitting(base64.b64encode(packed).decode("ascii"), what),
            }
        )
    return rows


def _fitting(text: str, what: str) -> str:
    size = len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise CollectionError(
            f"{what} takes {size} bytes, and Milvus holds {MAX_TEXT_BYTES} in a field. Leave it "
            "out and build the collection again, or serve it from its directory."
        )
    return text


def hits_of(found: Sequence[Mapping[str, Any]], manifest: MilvusManifest) -> Hits:
    """The captions of the rows that a search found, in their order."""
    dim = manifest.model.embed_dim
    if not found:
        return Hits(np.empty(0, np.int64), [], np.empty((0, dim), np.float32))
    if manifest.kind is Kind.CAPTIONS:
        ids = np.array([row[ID] for row in found], np.int64)
        vectors = np.array([row[manifest.vector] for row in found], np.float32)
        return Hits(ids, [row[TEXTS] for row in found], normalised(vectors), are_distinct=True)
    texts = [row[TEXTS].split("\n") for row in found]
    ids = np.concatenate(
        [row[ID] + np.arange(len(own)) for row, own in zip(found, texts, strict=True)]
    )
    packed = b"".join(base64.b64decode(row[EMBEDDINGS]) for row in found)
    embeddings: FloatArray = normalised(
        np.frombuffer(packed, _LITTLE_ENDIAN_HALF).reshape(len(ids), dim)
    )
    return Hits(ids.astype(np.int64), [text for own in texts for text in own], embeddings)
