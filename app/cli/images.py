"""From what is written on the command line to image files, and to labels."""

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from app.index.sources.folder import find_images

STDIN = "-"


def find_files(arguments: Sequence[str]) -> list[str]:
    """Files as they are, folders as all images below them, patterns as the files they match.

    Raises:
        BadParameter: something is not there, or holds no image.
    """
    found: list[str] = []
    for argument in arguments:
        found += _find(argument)
    return found


def _find(argument: str) -> list[str]:
    # First of all a name: a file may be called `photo[1].jpg`.
    if os.path.isdir(argument):  # noqa: PTH112 - as are the names that come out
        images = [str(path) for path in find_images(Path(argument))]
        if not images:
            raise typer.BadParameter(f"There is no image in the folder '{argument}'.")
        return images
    if os.path.exists(argument):  # noqa: PTH110 - likewise
        return [argument]
    if glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - keeps the form
        files = [match for match in matches if os.path.isfile(match)]  # noqa: PTH113 - likewise
        if files:
            return files
        raise typer.BadParameter(f"No file matches '{argument}'.")
    if "://" in argument:
        raise typer.BadParameter(f"'{argument}' is an address; download the image first.")
    raise typer.BadParameter(f"'{argument}' does not exist.")


def read_labels(given: Sequence[str], file: str | None) -> list[str]:
    """The labels given one by one, then those of a file, one a line; blank lines do not count.

    Raises:
        BadParameter: there is none, or the file cannot be read.
    """
    labels = [*given, *_lines(file)] if file else list(given)
    labels = [label.strip() for label in labels]
    if not file and not labels:
        raise typer.BadParameter("Give labels: --label cat --label dog, or --labels FILE.")
    if file:
        labels = [label for label in labels if label]
        if not labels:
            raise typer.BadParameter(f"There is no label in '{file}'.", param_hint="--labels")
    return labels


def _lines(file: str) -> list[str]:
    try:
        data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
        return data.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise typer.BadParameter(
            f"'{file}' cannot be read ({error.strerror}).", param_hint="--labels"
        ) from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(
            f"'{file}' is not UTF-8 text ({error}).", param_hint="--labels"
        ) from error
