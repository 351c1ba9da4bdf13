"""Which form a labelled set is of, told by what it is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.evaluation.datasets.benchmarks import PREFIX, open_benchmark
from app.evaluation.datasets.folder import read_folder
from app.evaluation.datasets.labelled import DatasetError, Entry, LabelledImages, labelled
from app.evaluation.datasets.manifest import read_coop_split, read_manifest
from app.evaluation.datasets.names import class_names
from app.evaluation.datasets.shards import read_shards
from app.index.sources.files import fingerprint, format_suffix


@dataclass(frozen=True, slots=True)
class Reading:
    """How labelled sets are read; what does not concern a set is not looked at.

    Attributes:
        classes: a file of class names, or `imagenet`; see `names.class_names`.
        images: the folder that a manifest's image names start from; None: the manifest's own.
        image_column: of a manifest.
        label_column: of a manifest.
        split: of a CoOp split file.
        root: torchvision's.
        max_pixels: largest image, width times height.
    """

    classes: str | None = None
    images: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    split: str = "test"
    root: Path = Path()
    max_pixels: int = 50_000_000


def open_datasets(data: Sequence[str], reading: Reading) -> list[LabelledImages]:
    """Labelled sets with distinct names.

    Args:
        data: folders, `.tar`, `.csv`, `.tsv`, CoOp's `.json`, or `torchvision:NAME`.
        reading: how they are read.

    Raises:
        DatasetError: one of them cannot be used.
    """
    sets = [_open(item, reading) for item in data]
    names = [dataset.name for dataset in sets]
    return [
        replace(dataset, name=_longer_name(item)) if names.count(dataset.name) > 1 else dataset
        for item, dataset in zip(data, sets, strict=True)
    ]


def _longer_name(item: str) -> str:
    path = Path(item).resolve()
    return f"{path.parent.name}/{path.stem}"


def _open(item: str, reading: Reading) -> LabelledImages:
    if item.startswith(PREFIX):
        return open_benchmark(item.removeprefix(PREFIX), reading.root)
    path = Path(item)
    name = path.resolve().name.partition(".")[0] or path.resolve().name
    try:
        entries, names, files = _entries(path, reading)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(f"{fingerprint(*files)} {names}".encode())
    for entry in entries:
        digest.update(f"{entry.key}\0{entry.folder}\n".encode())
    return labelled(name, entries, names, digest.hexdigest(), reading.max_pixels)


def _entries(path: Path, reading: Reading) -> tuple[list[Entry], dict[str, str], list[Path]]:
    """The images of a set, its class names, and the files that its fingerprint is made of."""
    suffix = format_suffix(path)
    images = reading.images or path.parent
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        if shards:
            entries, numbered = read_shards(shards)
            return entries, _names(entries, reading, path, numbered), shards
        entries = read_folder(path)
        files = [path / entry.key for entry in entries]
        return entries, _names(entries, reading, path), files
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file or folder")
    if suffix == ".tar":
        entries, numbered = read_shards([path])
        return entries, _names(entries, reading, None, numbered), [path]
    if suffix in (".csv", ".tsv"):
        entries = read_manifest(path, images, reading.image_column, reading.label_column)
        return entries, _names(entries, reading, None), [path]
    if suffix == ".json":
        entries, numbered = read_coop_split(path, images, reading.split)
        return entries, _names(entries, reading, None, numbered), [path]
    raise DatasetError(
        f"{path}: of no known form; known are image folders, .tar, .csv, .tsv, CoOp's .json and "
        f"{PREFIX}NAME"
    )


def _names(
    entries: Sequence[Entry],
    reading: Reading,
    beside: Path | None,
    numbered: dict[str, str] | None = None,
) -> dict[str, str]:
    """Class names: those that `reading` gives, or the set's own list, or the folders'."""
    if numbered is not None and reading.classes is None:
        return numbered
    return class_names((entry.folder for entry in entries), reading.classes, beside)
