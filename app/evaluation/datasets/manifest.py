"""Lists of images and labels: CSV and TSV tables, and the splits of CoOp."""

import csv
import json
from functools import partial
from pathlib import Path

from app.evaluation.datasets.labelled import DatasetError, Entry
from app.index.sources.files import DAMAGE, format_suffix, open_file
from app.index.sources.tables import IMAGE_NAMES

LABEL_NAMES = ("label", "class", "class_name", "classname", "category", "target")
"""Column names that are taken where none is given, the first that is there."""


def read_manifest(
    path: Path, images: Path, image_column: str | None, label_column: str | None
) -> list[Entry]:
    """A table with a header, of image files and their labels.

    Args:
        path: `.csv`, or `.tsv` without quotes.
        images: the folder that image names start from.
        image_column: the column of image names; None: one of a usual name.
        label_column: the column of labels; None: one of a usual name.

    Raises:
        DatasetError: the table cannot be read, or lacks a column or a cell.
    """
    tabs = format_suffix(path) == ".tsv"
    try:
        with open_file(path) as file:
            reader = csv.DictReader(
                file.lines(),
                delimiter="\t" if tabs else ",",
                quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
            )
            header = list(reader.fieldnames or [])
            image = _column(path, "--image-column", header, image_column, IMAGE_NAMES)
            label = _column(path, "--label-column", header, label_column, LABEL_NAMES)
            entries = []
            for row in reader:
                if not row[image] or not row[label]:
                    raise DatasetError(f"{path}: line {reader.line_num} lacks {image} or {label}")
                entries.append(_entry(images, row[image], row[label]))
    except (*DAMAGE, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read ({error})") from error
    return entries


def read_coop_split(path: Path, images: Path, split: str) -> tuple[list[Entry], dict[str, str]]:
    """The JSON files by which CoOp, and TPT and X-MoRe after it, divide their sets.

    Each of `train`, `val` and `test` is a list of image, class number and class name.

    Returns:
        The images of a split, and class names by class number.

    Raises:
        DatasetError: the file is not of this form, or has no such split.
    """
    try:
        whole = json.loads(path.read_bytes())
        rows = [(str(name), str(number), str(label)) for name, number, label in whole[split]]
        numbered = {
            str(number): str(label)
            for part in whole.values()
            for _, number, label in sorted(part, key=lambda row: int(row[1]))
        }
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DatasetError(
            f'{path}: not a split file of the form {{"{split}": [[image, number, class name]]}} '
            f"({type(error).__name__}: {error})"
        ) from error
    ordered = dict(sorted(numbered.items(), key=lambda item: int(item[0])))
    return [_entry(images, name, number) for name, number, _ in rows], ordered


def _entry(images: Path, name: str, label: str) -> Entry:
    return Entry(name, partial(Path.read_bytes, images / name), label)


def _column(
    path: Path, option: str, header: list[str], wanted: str | None, usual: tuple[str, ...]
) -> str:
    candidates = usual if wanted is None else (wanted,)
    lowered = {name.strip().casefold(): name for name in header}
    for name in candidates:
        if name.casefold() in lowered:
            return lowered[name.casefold()]
    shown = ", ".join(repr(name[:40]) for name in header[:20])
    raise DatasetError(f"{path}: its first row has {shown}; name the column with {option}")
