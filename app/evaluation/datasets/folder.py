"""An image folder: one folder a class, as torchvision's `ImageFolder` reads it."""

from pathlib import Path

from app.evaluation.datasets.labelled import DatasetError, Entry
from app.index.sources.folder import find_images


def read_folder(root: Path) -> list[Entry]:
    """Every image below the class folders of `root`, sorted.

    Raises:
        DatasetError: no image is in a folder of its own.
    """
    entries = []
    for path in find_images(root):
        parts = path.relative_to(root).parts
        if len(parts) > 1:
            entries.append(Entry("/".join(parts), path.read_bytes, parts[0]))
    if not entries:
        raise DatasetError(
            f"{root}: no image folder; it needs one folder of images for each class (or give a "
            "CSV or TSV of images and labels)"
        )
    return entries
