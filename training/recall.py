"""Step `recall`: how often a held-out caption finds its own photo.

Accuracy on labelled photos is what `xmore evaluate` measures.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from app.clip.decode import decode_image
from app.clip.model import ClipModel
from training.sources import Photo

_BATCH = 32
_MAX_PIXELS = 50_000_000


def text_to_image_recall(model: ClipModel, photos: Sequence[Photo], k: int = 5) -> float:
    """R@k in percent: how often a caption finds its own photo among its k nearest of all photos."""
    v = _image_embeddings(model, [photo.jpeg for photo in photos])
    hits = []
    for row, photo in enumerate(photos):
        nearest = np.argsort(-(model.encode_texts(photo.captions) @ v.T), axis=1)[:, :k]
        hits += (nearest == row).any(axis=1).tolist()
    return 100 * float(np.mean(hits))


def _image_embeddings(model: ClipModel, files: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """Embeddings of image files, (n, d), as the server makes them."""
    parts = []
    for start in tqdm(range(0, len(files), _BATCH), desc="images"):
        chunk = files[start : start + _BATCH]
        parts.append(
            model.encode_images([model.pixels(decode_image(f, _MAX_PIXELS)) for f in chunk])
        )
    return np.concatenate(parts)
