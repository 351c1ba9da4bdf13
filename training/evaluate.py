"""Step `evaluate`: accuracy and calibration on labelled folders, recall on held-out captions."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from app.clip.decode import decode_image
from app.clip.labels import DEFAULT_TEMPLATE, LabelEncoder
from app.clip.model import ClipModel
from app.xmore.ensemble import vote
from training.sources import Photo

_BATCH = 32
_BINS = 15
_MAX_PIXELS = 50_000_000


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images with the row of their label."""

    labels: list[str]
    files: list[bytes]
    targets: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Score:
    """Top-1 accuracy in percent, and expected calibration error in [0, 1]."""

    accuracy: float
    calibration_error: float


def read_tar(path: Path) -> LabelledImages:
    """A tar of one folder a class; the folder's name is the label."""
    pairs = list(_members(path))
    labels = sorted({label for label, _ in pairs})
    rows = {label: row for row, label in enumerate(labels)}
    return LabelledImages(
        [label.replace("_", " ") for label in labels],
        [data for _, data in pairs],
        np.array([rows[label] for label, _ in pairs]),
    )


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield Path(member.name).parent.name, file.read()


def image_embeddings(model: ClipModel, files: list[bytes]) -> npt.NDArray[np.float32]:
    """Embeddings of image files, (n, d), as the server makes them."""
    parts = []
    for start in tqdm(range(0, len(files), _BATCH), desc="images"):
        chunk = files[start : start + _BATCH]
        parts.append(
            model.encode_images([model.pixels(decode_image(f, _MAX_PIXELS)) for f in chunk])
        )
    return np.concatenate(parts)


def zero_shot(model: ClipModel, images: LabelledImages, template: str = DEFAULT_TEMPLATE) -> Score:
    """Plain CLIP with one template."""
    w = LabelEncoder(model.encode_texts, 0).embed(images.labels, [template])
    p = vote(image_embeddings(model, images.files), w, model.logit_scale)
    return score(p, images.targets)


def text_to_image_recall(model: ClipModel, photos: Sequence[Photo], k: int = 5) -> float:
    """R@k in percent: how often a caption finds its own photo among its k nearest of all photos."""
    v = image_embeddings(model, [photo.jpeg for photo in photos])
    hits = []
    for row, photo in enumerate(photos):
        nearest = np.argsort(-(model.encode_texts(photo.captions) @ v.T), axis=1)[:, :k]
        hits += (nearest == row).any(axis=1).tolist()
    return 100 * float(np.mean(hits))


def score(p: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> Score:
    """Accuracy and calibration of probabilities (n, labels)."""
    correct = p.argmax(1) == targets
    return Score(100 * float(correct.mean()), calibration_error(p.max(1), correct))


def calibration_error(
    confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], bins: int = _BINS
) -> float:
    """Expected calibration error: mean |accuracy - confidence| of equal-width bins, by size."""
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for b in range(bins):
        inside = bin_of == b
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return float(error)
