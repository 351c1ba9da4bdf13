"""Class names: from folders to what stands in a prompt."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from app.evaluation.datasets.labelled import DatasetError
from app.index.sources.files import DAMAGE, open_file

IMAGENET = "imagenet"
"""Stands for ImageNet's class names, in the order of its WordNet ids, as open_clip has them."""

_NAME_FILES = ("classes.tsv", "classes.csv", "classes.json")


def class_names(folders: Iterable[str], given: str | None, beside: Path | None) -> dict[str, str]:
    """The name in prompts of each class of a set, sorted by what it is called there.

    Args:
        folders: what the classes are called in the set.
        given: a file of names (two columns, or a JSON object), or `imagenet`; where None, a
            `classes.tsv`, `.csv` or `.json` in `beside`, and without one the folder's name with
            spaces for underscores.
        beside: the folder in which a file of names may lie.

    Returns:
        Folder to name; a folder that the file gives an empty name is left out.

    Raises:
        DatasetError: the file lacks a folder, or two folders have the same name.
    """
    found = sorted(set(folders))
    if given == IMAGENET:
        return _imagenet(found)
    path = Path(given) if given is not None else _beside(beside)
    names = {folder: plain(folder) for folder in found} if path is None else _of(path, found)
    by_name: dict[str, str] = {}
    for folder, name in names.items():
        if name in by_name:
            raise DatasetError(
                f"the classes '{by_name[name]}' and '{folder}' are both named '{name}'; "
                "give them names of their own with --classes FILE"
            )
        by_name[name] = folder
    return names


def plain(folder: str) -> str:
    """A folder's name as words."""
    return " ".join(folder.replace("_", " ").replace("/", " ").split())


def read_names(path: Path) -> dict[str, str]:
    """A file of two columns without a header, separated by tabs or commas, or a JSON object.

    Raises:
        DatasetError: it is of another form.
    """
    try:
        with open_file(path) as file:
            if path.suffix == ".json":
                names = json.loads(file.data.read())
                if not isinstance(names, dict):
                    raise DatasetError(f"{path}: not a JSON object of folder to class name")
                return {str(folder): str(name).strip() for folder, name in names.items()}
            delimiter = "," if path.suffix == ".csv" else "\t"
            rows = [row for row in csv.reader(file.lines(), delimiter=delimiter) if row]
    except (*DAMAGE, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read ({error})") from error
    two = 2
    for number, row in enumerate(rows, 1):
        if len(row) != two:
            raise DatasetError(f"{path}: row {number} is not folder and class name")
    return {folder: name.strip() for folder, name in rows}


def _beside(folder: Path | None) -> Path | None:
    paths = [folder / name for name in _NAME_FILES] if folder is not None else []
    return next((path for path in paths if path.is_file()), None)


def _of(path: Path, folders: list[str]) -> dict[str, str]:
    names = read_names(path)
    missing = [folder for folder in folders if folder not in names]
    if missing:
        shown = ", ".join(f"'{folder}'" for folder in missing[:5])
        raise DatasetError(
            f"{path}: no class name for {len(missing)} folders ({shown}); an empty name leaves a "
            "folder out"
        )
    return {folder: names[folder] for folder in folders if names[folder]}


def _imagenet(folders: list[str]) -> dict[str, str]:
    """ImageNet's names as the field uses them, of which two classes share one ("missile")."""
    names = list(IMAGENET_CLASSNAMES)
    if len(folders) != len(names):
        raise DatasetError(
            f"--classes {IMAGENET} is for its {len(names)} classes; here are {len(folders)}"
        )
    return dict(zip(folders, names, strict=True))
