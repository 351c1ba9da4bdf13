"""A folder of images: its captions in text files of the same names, or in one table."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from app.index.sources.record import IMAGE_SUFFIXES, Fault, Item, Record
from app.index.sources.tables import ReadImage

SIDECAR = ".txt"


def find_images(folder: Path) -> list[Path]:
    """Every image below a folder, sorted; hidden files and folders are left out."""
    found = []
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(directory, name)
            for name in files
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)


def has_sidecars(images: Sequence[Path]) -> bool:
    """Whether some image has a text file of its name."""
    return any(image.with_suffix(SIDECAR).is_file() for image in images)


def read_sidecars(folder: Path, images: Sequence[Path], with_images: bool) -> Iterator[Item]:
    """Each image with the lines of its text file."""
    for number, path in enumerate(images, 1):
        origin = str(path.relative_to(folder))
        position = number / len(images)
        try:
            text = path.with_suffix(SIDECAR).read_text(encoding="utf-8-sig")
            data = path.read_bytes() if with_images else None
        except FileNotFoundError:
            yield Fault(f"no {SIDECAR} beside it", origin, position)
        except UnicodeDecodeError as error:
            yield Fault(f"its {SIDECAR} is not UTF-8 text ({error})", origin, position)
        except OSError as error:
            yield Fault(f"cannot be read ({error.strerror})", origin, position)
        else:
            yield Record(tuple(text.splitlines()), origin, data, position)


def image_reader(root: Path) -> ReadImage:
    """Reads the images that a table names: below `root`, or anywhere in it by the bare name."""
    by_name: dict[str, Path] = {}

    def read(name: str) -> bytes:
        path = root / name
        if path.is_file():
            return path.read_bytes()
        if not by_name:
            by_name.update({image.name: image for image in reversed(find_images(root))})
        return by_name.get(Path(name).name, path).read_bytes()

    return read
