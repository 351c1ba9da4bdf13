"""Tar files of labelled images: WebDataset shards, or one folder a class."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from app.evaluation.datasets.labelled import DatasetError, Entry
from app.index.sources.record import IMAGE_SUFFIXES

CLASS_NAMES = "classnames.txt"
"""A name a line, in the order of the numbers in `.cls` files; beside the shards, as CLIP benchmark
puts it, or in the folder above."""

_CLASS_SUFFIX = ".cls"
_LABEL_KEYS = ("label", "cls", "class", "target")


def read_shards(shards: Sequence[Path]) -> tuple[list[Entry], dict[str, str] | None]:
    """The images of shards, each with the class that `KEY.cls`, `KEY.json` or its folder gives.

    Only headers and labels are read; an image is read from its place in the file when it is needed.

    Returns:
        The images, and class names by number where there is a list of them.

    Raises:
        DatasetError: a shard is damaged, compressed, or has images without a class.
    """
    entries = [entry for shard in shards for entry in _read_shard(shard)]
    names = _numbered(shards[0].parent)
    if names is not None and (strange := {entry.folder for entry in entries} - names.keys()):
        raise DatasetError(
            f"{shards[0].parent}: the class '{min(strange)}' is no number of a line of "
            f"{CLASS_NAMES}, which are counted from 0"
        )
    return entries, names


def _numbered(folder: Path) -> dict[str, str] | None:
    for path in (folder / CLASS_NAMES, folder.parent / CLASS_NAMES):
        if path.is_file():
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            return {str(number): line for number, line in enumerate(lines)}
    return None


def _read_shard(path: Path) -> Iterator[Entry]:
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                key, suffix = _split(member.name)
                if suffix in IMAGE_SUFFIXES:
                    images[key] = (member.name, member.offset_data, member.size)
                elif suffix in (_CLASS_SUFFIX, ".json"):
                    label = _label(tar, member, suffix)
                    if label is not None:
                        labels[key] = label
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: not an uncompressed tar of images and labels ({error})"
        ) from error
    for key, (name, offset, size) in images.items():
        folder = labels.get(key) or PurePosixPath(name).parent.name
        if not folder:
            raise DatasetError(f"{path}: {name} has no {_CLASS_SUFFIX}, no .json and no folder")
        yield Entry(name, partial(_read, path, offset, size), folder)


def _split(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return str(path.with_name(stem or path.name)), f".{suffix.lower()}"


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> str | None:
    file = tar.extractfile(member)
    text = b"" if file is None else file.read()
    if suffix == _CLASS_SUFFIX:
        return text.decode().strip()
    values = json.loads(text)
    found = (values[key] for key in _LABEL_KEYS if isinstance(values, dict) and key in values)
    return next((str(value) for value in found), None)


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
