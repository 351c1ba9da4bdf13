"""Step `features`: the backbone's pooled features of every training photo, cached on disk.

Two views a photo: as the server will see it, and one changed by chance (crop, mirror image, low
resolution, grey, blur), so that the head also meets poor pictures.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms import v2
from tqdm import tqdm

from app.clip.fold import fold_batch_norm
from training.backbone import load_classifier
from training.config import IMAGE_SIZE, PREPROCESS_CFG
from training.sources import Photo

VIEWS = 2
FEATURE_DIM = 1280
_CHUNK = 512
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Features:
    """`pooled` is (photos, views, 1280) float16; `keys` and `captions` are in the same order."""

    keys: list[str]
    captions: list[tuple[str, ...]]
    pooled: npt.NDArray[np.float16]


def preprocess() -> v2.Transform:
    """open_clip's evaluation transform for `models/mini`."""
    return v2.Compose(
        [
            v2.Resize(IMAGE_SIZE, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(IMAGE_SIZE),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(PREPROCESS_CFG["mean"], PREPROCESS_CFG["std"]),
        ]
    )


def changed(image: Image.Image, rng: random.Random) -> Image.Image:
    """A random crop, perhaps mirrored, of lower resolution, grey, or blurred."""
    width, height = image.size
    scale = rng.uniform(0.55, 1.0)
    w, h = int(width * scale), int(height * scale)
    left, top = rng.randint(0, width - w), rng.randint(0, height - h)
    image = image.crop((left, top, left + w, top + h))
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    change = rng.random()
    if change < 0.3:
        side = rng.choice((48, 64, 96))
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    elif change < 0.4:
        image = image.convert("L").convert("RGB")
    elif change < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(1, 3)))
    return image


def extract(photos: list[Photo], work: Path) -> Features:
    """Compute what is not cached yet; each chunk of photos is one file under `work/features`."""
    folder = work / "features"
    folder.mkdir(parents=True, exist_ok=True)
    classifier = load_classifier()
    classifier.reset_classifier(0)
    model = fold_batch_norm(classifier, torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    transform = preprocess()
    chunks = []
    for start in tqdm(range(0, len(photos), _CHUNK), desc="features"):
        path = folder / f"{start:06d}.npy"
        if not path.exists():
            pooled = _pooled(photos[start : start + _CHUNK], model, transform)
            partial = path.with_suffix(".tmp")
            with partial.open("wb") as file:
                np.save(file, pooled)
            partial.rename(path)
        chunks.append(np.load(path))
    return Features(
        [photo.key for photo in photos],
        [photo.captions for photo in photos],
        np.concatenate(chunks),
    )


@torch.inference_mode()
def _pooled(
    photos: list[Photo], model: torch.nn.Module, transform: v2.Transform
) -> npt.NDArray[np.float16]:
    views = []
    for photo in photos:
        image = photo.open()
        views += [transform(image), transform(changed(image, random.Random(photo.key)))]
    batches = torch.stack(views).to(memory_format=torch.channels_last).split(_BATCH)
    pooled = torch.cat([model(batch) for batch in batches])
    return pooled.view(len(photos), VIEWS, FEATURE_DIM).half().numpy()
