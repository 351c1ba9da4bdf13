"""The paper's protocol: every way to join the two votes, over a whole labelled set."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.xmore.ensemble import Fusion, Normalization, Probabilities, ensemble, fuse, weigh
from app.xmore.retrieval import FloatArray, IdArray

SEEDS = (0, 1, 2)
"""Orders of the images over which `batch` and `stream` are averaged, as the authors' code does."""

REQUEST_IMAGES = 16
"""Images of one request under `batch`: as many as a server takes by default."""

_CHUNK_BYTES = 2**25


class Method(StrEnum):
    """How the votes of image and captions become one."""

    IMAGE = "image"
    TEXT = "text"
    MEAN = "mean"
    PRODUCT = "product"
    REQUEST = "request"
    BATCH = "batch"
    STREAM = "stream"

    @property
    def fusion(self) -> Fusion:
        """The product's fusion mode."""
        return Fusion(self.value) if self.value in set(Fusion) else Fusion.CONFIDENCE

    @property
    def normalization(self) -> Normalization:
        """The product's way from confidences to weights; of no account where weights are fixed."""
        return (
            Normalization(self.value) if self.value in set(Normalization) else Normalization.REQUEST
        )

    @property
    def seeds(self) -> tuple[int, ...]:
        """Orders of the images to average over; one where the order does not count."""
        return SEEDS if self in (Method.BATCH, Method.STREAM) else SEEDS[:1]


class CaptionEmbeddings(Protocol):
    """What the votes need of a collection."""

    def embeddings(self, ids: IdArray) -> FloatArray:
        """Stored unit-norm text embeddings of ids, (n, d)."""
        ...


@dataclass(frozen=True, slots=True)
class Votes:
    """Both modalities' votes on every image of a set; (images, labels) ones lie on disk.

    Attributes:
        image: p_image, (n, labels).
        text: p_text, (n, labels).
        confidences: (n, 2).
        has_captions: (n,).
    """

    image: Probabilities
    text: Probabilities
    confidences: Probabilities
    has_captions: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a method answers for every image of a set.

    Attributes:
        labels: the most probable label, (n,).
        probabilities: its probability, (n,).
        ranks: place of the right label, from 0, (n,).
        weights: of image and text, (n, 2).
    """

    labels: npt.NDArray[np.int64]
    probabilities: Probabilities
    ranks: npt.NDArray[np.int64]
    weights: Probabilities

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether the most probable label is right, (n,)."""
        return np.asarray(self.ranks == 0)


@contextmanager
def cast_votes(
    views: Sequence[FloatArray],
    captions: IdArray,
    collection: CaptionEmbeddings,
    labels: FloatArray,
    logit_scale: float,
    scratch: Path,
) -> Iterator[Votes]:
    """Let images and captions vote, some images at a time; the votes live as long as the context.

    Args:
        views: v, (n, d), unit-norm, of each view of the images.
        captions: ids of each image's captions, (n, K); -1 ends a short row.
        collection: where the captions' embeddings are.
        labels: w, (labels, d), unit-norm.
        logit_scale: s.
        scratch: a folder with room for two arrays of (n, labels) float64.
    """
    n, c = len(views[0]), len(labels)
    step = max(1, _CHUNK_BYTES // (8 * c * max(1, captions.shape[1])))
    with TemporaryDirectory(dir=scratch) as folder:
        image, text = (
            np.lib.format.open_memmap(Path(folder) / f"{name}.npy", "w+", np.float64, (n, c))
            for name in ("image", "text")
        )
        confidences = np.empty((n, 2))
        for start in range(0, n, step):
            part = slice(start, start + step)
            found = [collection.embeddings(ids[ids >= 0]) for ids in np.asarray(captions[part])]
            v = np.stack([np.asarray(view[part]) for view in views], axis=1)
            fused = ensemble(v, found, labels, logit_scale)
            image[part], text[part] = fused.image, fused.text
            confidences[part] = fused.confidences
        has_captions = np.asarray((np.asarray(captions) >= 0).any(axis=1))
        yield Votes(image, text, confidences, has_captions)


def method_weights(votes: Votes, method: Method, seed: int) -> Probabilities:
    """Weights of image and text, (n, 2), when the images come in the order of a seed."""
    n = len(votes.confidences)
    order = np.random.default_rng(seed).permutation(n) if len(method.seeds) > 1 else np.arange(n)
    size = REQUEST_IMAGES if method is Method.BATCH else max(1, n)
    weights = np.empty((n, 2))
    for start in range(0, n, size):
        rows = order[start : start + size]
        weights[rows] = weigh(
            votes.confidences[rows], votes.has_captions[rows], method.fusion, method.normalization
        )
    return weights


def answer(votes: Votes, targets: IdArray, method: Method, seed: int = 0) -> Answers:
    """What a method answers.

    Args:
        votes: of a set.
        targets: the row of each image's class, (n,).
        method: how the votes become one.
        seed: the order of the images, where that counts.
    """
    n, c = votes.image.shape
    weights = method_weights(votes, method, seed)
    labels, ranks = np.empty(n, np.int64), np.empty(n, np.int64)
    probabilities = np.empty(n)
    step = max(1, _CHUNK_BYTES // (8 * c))
    for start in range(0, n, step):
        part = slice(start, start + step)
        fused = fuse(votes.image[part], votes.text[part], weights[part], method.fusion)
        labels[part] = fused.argmax(axis=1)
        probabilities[part] = fused.max(axis=1)
        ranks[part] = _ranks(fused, targets[part])
    return Answers(labels, probabilities, ranks, weights)


def _ranks(probabilities: Probabilities, targets: IdArray) -> npt.NDArray[np.int64]:
    """Places of the right labels when labels are sorted stably, best first."""
    right = np.take_along_axis(probabilities, targets[:, np.newaxis], axis=1)
    earlier = np.arange(probabilities.shape[1]) < targets[:, np.newaxis]
    before = (probabilities > right) | ((probabilities == right) & earlier)
    return np.asarray(before.sum(axis=1))
