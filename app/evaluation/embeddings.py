"""What is computed once for a set and kept on disk: image embeddings and retrieved captions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from app.clip.decode import ImageError
from app.clip.model import ClipModel, FloatArray
from app.clip.precision import precision_name
from app.evaluation.datasets.labelled import LabelledImages
from app.evaluation.store import Column, Part, compute_rows, key_of
from app.index.collection import Collection
from app.xmore.retrieval import CANDIDATES, Hits, IdArray, retrieve

Progress = Callable[[int], object]
"""Told how many images are done."""

_VERSION = 1
"""Counts up when what is stored changes its meaning."""

_BATCH = 16
_STEP = 256
_AT_ONCE = 32
"""Images that are searched for together: what is found for them is held in memory."""

_UNREADABLE = -1


@dataclass(frozen=True, slots=True)
class EmbeddedImages:
    """The images of a set that could be read.

    Attributes:
        vectors: v, (n, d) float32, unit-norm.
        targets: (n,) int64, the row of each image's class.
        positions: (n,) int64, their positions in the set.
        unreadable: for each of the others its name and what is wrong with it.
        key: tells the embeddings from others.
    """

    vectors: FloatArray
    targets: IdArray
    positions: IdArray
    unreadable: list[str]
    key: str

    def __len__(self) -> int:
        return len(self.targets)


def embed_images(
    dataset: LabelledImages, model: ClipModel, cache: Path, progress: Progress
) -> EmbeddedImages:
    """The embeddings of a set, from disk where they are there."""
    key = key_of(
        _VERSION, dataset.fingerprint, model.fingerprint, precision_name(model.dtype), dataset.size
    )

    def compute(start: int, stop: int) -> tuple[Part, list[str]]:
        vectors = np.zeros((stop - start, model.embed_dim), np.float32)
        targets = np.full(stop - start, _UNREADABLE, np.int64)
        faults: list[str] = []
        waiting: list[tuple[int, Tensor]] = []
        for position in range(start, stop):
            try:
                example = dataset.load(position)
            except ImageError as error:
                faults.append(f"{dataset.key(position)}: {error}")
                continue
            targets[position - start] = example.label
            waiting.append((position - start, model.pixels(example.image)))
            if len(waiting) == _BATCH:
                _encode(model, waiting, vectors)
        _encode(model, waiting, vectors)
        return {"vectors": vectors, "targets": targets}, faults

    rows = compute_rows(
        cache / "images" / key,
        dataset.size,
        {"vectors": Column(np.float32, (model.embed_dim,)), "targets": Column(np.int64)},
        _STEP,
        compute,
        progress,
    )
    targets = np.asarray(rows.arrays["targets"])
    positions = np.flatnonzero(targets != _UNREADABLE)
    vectors = rows.arrays["vectors"]
    if len(positions) < len(targets):
        vectors = vectors[positions]
    return EmbeddedImages(vectors, targets[positions], positions, rows.notes, key)


def _encode(model: ClipModel, waiting: list[tuple[int, Tensor]], vectors: FloatArray) -> None:
    if waiting:
        rows = [row for row, _ in waiting]
        vectors[rows] = model.encode_images([pixels for _, pixels in waiting])
        waiting.clear()


class _Remembering:
    """A collection that answers the same search of the same images only once."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._found: dict[tuple[int, int], list[Hits]] = {}

    def __len__(self) -> int:
        return len(self._collection)

    def search(self, embeddings: FloatArray, count: int) -> list[Hits]:
        """As the collection does."""
        asked = (len(embeddings), count)
        if len(embeddings) == 1:
            return self._collection.search(embeddings, count)
        if asked not in self._found:
            self._found[asked] = self._collection.search(embeddings, count)
        return self._found[asked]


def retrieve_captions(
    images: EmbeddedImages,
    collection: Collection,
    ks: Sequence[int],
    by_fit: bool,
    cache: Path,
    progress: Progress,
) -> dict[int, IdArray]:
    """For each K the ids of the captions of each image, (n, K), best first; -1 ends a short row.

    They are what `app.xmore.retrieval.retrieve` finds, from disk where they are there.
    """
    key = key_of(_VERSION, images.key, collection.manifest.fingerprint, CANDIDATES, ks, by_fit)

    def compute(start: int, stop: int) -> tuple[Part, list[str]]:
        part = {str(k): np.full((stop - start, k), -1, np.int64) for k in ks}
        for first in range(start, stop, _AT_ONCE):
            vectors = np.asarray(images.vectors[first : min(first + _AT_ONCE, stop)])
            remembering = _Remembering(collection)
            for k in ks:
                found = retrieve(vectors, remembering, k, by_fit=by_fit)
                for row, captions in enumerate(found, start=first - start):
                    part[str(k)][row, : len(captions)] = captions.ids
        return part, []

    rows = compute_rows(
        cache / "captions" / key,
        len(images),
        {str(k): Column(np.int64, (k,)) for k in ks},
        _STEP,
        compute,
        progress,
    )
    return {k: rows.arrays[str(k)] for k in ks}
