"""Step 2 of X-MoRe: modal-confidence-based ensemble.

The image votes on the labels as in CLIP, the retrieved captions vote on the same labels, and each
vote counts by its confidence. Probabilities are float64: the sums are then exact to 1e-12.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from app.xmore.retrieval import FloatArray

Probabilities = npt.NDArray[np.float64]

_WITH_VIEWS = 3
"""Dimensions of an array that holds several views of each image."""

IMAGE, TEXT = 0, 1
"""Columns of `confidences` and `weights`."""

PRODUCT_TEXT_WEIGHT = 0.1
"""Exponent of the captions' vote in a product: docs/evaluation.md says how it was chosen."""


class Fusion(StrEnum):
    """How the two votes become one."""

    CONFIDENCE = "confidence"
    PRODUCT = "product"
    MEAN = "mean"
    IMAGE = "image"
    TEXT = "text"


class Normalization(StrEnum):
    """How confidences become weights.

    `stream` is the authors' evaluation loop: it depends on the order of the images, so it serves
    comparison with the paper, not requests.
    """

    REQUEST = "request"
    BATCH = "batch"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The fused vote for a batch of images, and what it was made of.

    Attributes:
        probabilities: p, (images, labels).
        image: p_image, (images, labels).
        text: p_text, (images, labels); uniform for an image without captions.
        confidences: (images, 2) in [0, 1], columns IMAGE and TEXT.
        weights: (images, 2), rows sum to 1.
        captions: p_k, one array (k, labels) an image: what each of its captions says.
    """

    probabilities: Probabilities
    image: Probabilities
    text: Probabilities
    confidences: Probabilities
    weights: Probabilities
    captions: list[Probabilities]


def vote(embeddings: FloatArray, labels: FloatArray, logit_scale: float) -> Probabilities:
    """CLIP's zero-shot probabilities: softmax over labels of s · cos(x, w_c).

    Args:
        embeddings: v or t_k, (n, d), unit-norm.
        labels: w_c, (labels, d), unit-norm.
        logit_scale: s = exp(logit_scale).

    Returns:
        (n, labels).
    """
    return _softmax(logit_scale * (embeddings @ labels.T).astype(np.float64))


def _softmax(logits: Probabilities) -> Probabilities:
    """Over the last axis; overwrites its argument."""
    logits -= logits.max(axis=-1, keepdims=True)
    odds: Probabilities = np.exp(logits)
    odds /= odds.sum(axis=-1, keepdims=True)
    return odds


def captions_vote(votes: Probabilities) -> Probabilities:
    """p_text, (labels,): the mean of the captions' probabilities (not of their embeddings).

    Args:
        votes: p_k, (k, labels). Without captions p_text is uniform: no opinion.
    """
    if len(votes) == 0:
        return np.full(votes.shape[-1], 1 / votes.shape[-1])
    mean: Probabilities = votes.mean(axis=0)
    return mean


def confidence(probabilities: Probabilities) -> Probabilities:
    """1 - H(p) / ln C over the last axis, in [0, 1]; 1 where C = 1."""
    labels = probabilities.shape[-1]
    if labels == 1:
        return np.ones(probabilities.shape[:-1])
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    entropy = -(probabilities * logs).sum(axis=-1)
    # Rounding may leave the entropy of a uniform vote a hair off ln C.
    relative: Probabilities = entropy / np.log(labels)
    return np.clip(1 - relative, 0.0, 1.0)


def modality_weights(
    confidences: Probabilities, fusion: Fusion, normalization: Normalization
) -> Probabilities:
    """Weights of image and text, (images, 2), from their confidences, (images, 2).

    `request`: confidence over the sum of both. `batch`: the same after division by each modality's
    mean over the images. `stream`: the same after division by the sum of that modality's
    confidences up to and with the image. Where both are zero each weighs one half.
    """
    match fusion:
        case Fusion.PRODUCT:
            fixed = [1 - PRODUCT_TEXT_WEIGHT, PRODUCT_TEXT_WEIGHT]
            return np.broadcast_to(fixed, confidences.shape).copy()
        case Fusion.MEAN:
            return np.full_like(confidences, 0.5)
        case Fusion.IMAGE:
            return np.broadcast_to([1.0, 0.0], confidences.shape).copy()
        case Fusion.TEXT:
            return np.broadcast_to([0.0, 1.0], confidences.shape).copy()
    if normalization is not Normalization.REQUEST:
        batch = normalization is Normalization.BATCH
        usual = confidences.mean(axis=0, keepdims=True) if batch else confidences.cumsum(axis=0)
        confidences = np.divide(confidences, usual, out=np.zeros_like(confidences), where=usual > 0)
    totals = confidences.sum(axis=-1, keepdims=True)
    weights: Probabilities = np.full_like(confidences, 0.5)
    np.divide(confidences, totals, out=weights, where=totals > 0)
    return weights


def weigh(
    confidences: Probabilities,
    has_captions: npt.NDArray[np.bool_],
    fusion: Fusion,
    normalization: Normalization,
) -> Probabilities:
    """`modality_weights`, (images, 2), with all weight on the image where it has no captions."""
    weights = np.tile((1.0, 0.0), (len(confidences), 1))
    if has_captions.any():
        weights[has_captions] = modality_weights(confidences[has_captions], fusion, normalization)
    return weights


def fuse(
    image: Probabilities, text: Probabilities, weights: Probabilities, fusion: Fusion
) -> Probabilities:
    """The two votes as one, p, (images, labels).

    The weighted mean of the votes or, for `product`, their weighted geometric mean: the
    logarithmic opinion pool (Genest and Zidek 1986, doi 10.1214/ss/1177013825), in which captions
    that leave the labels open do not blur what the image says.

    Args:
        image: p_image, (images, labels).
        text: p_text, (images, labels).
        weights: (images, 2), see `weigh`.
        fusion: how the votes become one.
    """
    if fusion is not Fusion.PRODUCT:
        fused = weights[:, [IMAGE]] * image + weights[:, [TEXT]] * text
        # Rounded weights may sum to a hair above 1.
        return np.minimum(fused, 1.0)
    smallest = np.finfo(np.float64).tiny
    logs = weights[:, [IMAGE]] * np.log(np.maximum(image, smallest))
    logs += weights[:, [TEXT]] * np.log(np.maximum(text, smallest))
    # Where no caption votes the answer is plain CLIP to the last bit.
    return np.where(weights[:, [TEXT]] > 0, _softmax(logs), image)


def ensemble(
    image_embeddings: FloatArray,
    captions: Sequence[FloatArray],
    labels: FloatArray,
    logit_scale: float,
    fusion: Fusion = Fusion.CONFIDENCE,
    normalization: Normalization = Normalization.REQUEST,
) -> Ensemble:
    """Fuse the image's vote with the captions' vote.

    Args:
        image_embeddings: v, (images, d), unit-norm; or several views of each image,
            (images, views, d), whose votes are averaged: the marginal probability of ZERO (Farina
            et al. 2024, arXiv 2405.18330).
        captions: one array (k, d) of caption embeddings an image; with k = 0 the image's answer is
            plain CLIP, whatever `fusion` says.
        labels: w_c, (labels, d), unit-norm, at least one.
        logit_scale: s.
        fusion: how the votes become one.
        normalization: how confidences become weights, where `fusion` is by confidence.
    """
    image = vote(image_embeddings, labels, logit_scale)
    if image_embeddings.ndim == _WITH_VIEWS:
        image = image.mean(axis=1)
    nobody = np.empty((0, len(labels)))
    votes = [vote(t, labels, logit_scale) if len(t) else nobody for t in captions]
    text = np.stack([captions_vote(p) for p in votes])
    confidences = np.stack([confidence(image), confidence(text)], axis=-1)
    has_captions = np.array([len(t) > 0 for t in captions])
    confidences[~has_captions, TEXT] = 0.0
    weights = weigh(confidences, has_captions, fusion, normalization)
    fused = fuse(image, text, weights, fusion)
    return Ensemble(fused, image, text, confidences, weights, votes)
