"""Photos to ask about, as JPEG files of a size that cameras and phones make."""

import io

import numpy as np
import skimage.data
from PIL import Image

SMALL = (640, 480)
LARGE = (4000, 3000)

_SOURCES = ("chelsea", "coffee", "astronaut", "rocket", "hubble_deep_field")
_LEAST_SHARE = 0.6
"""How much of the source's smaller side a crop shows at least."""
_NOISE = 4.0
"""Standard deviation of the sensor noise, of 255. Enlarged photos are smooth without it, and their
files unlike those of a camera."""
_QUALITY = 88


def photos(count: int, size: tuple[int, int], seed: int = 0) -> list[bytes]:
    """JPEG files that all differ: crops of scikit-image's photos, some mirrored, with noise.

    Args:
        count: how many.
        size: width and height in pixels, 4 by 3.
        seed: the same seed makes the same files.
    """
    rng = np.random.default_rng(seed)
    sources = [Image.fromarray(getattr(skimage.data, name)()) for name in _SOURCES]
    return [_jpeg(_crop(sources[i % len(sources)], size, rng), rng) for i in range(count)]


def _crop(source: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    share = rng.uniform(_LEAST_SHARE, 1)
    scale = share * min(source.width / size[0], source.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left = rng.uniform(0, source.width - width)
    top = rng.uniform(0, source.height - height)
    box = (left, top, left + width, top + height)
    cut = source.resize(size, Image.Resampling.BICUBIC, box=box)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else cut


def _jpeg(image: Image.Image, rng: np.random.Generator) -> bytes:
    values = np.asarray(image, np.float32)
    noisy = values + rng.normal(0, _NOISE, values.shape[:2])[..., None].astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
