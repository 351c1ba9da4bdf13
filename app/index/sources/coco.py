"""COCO captions: one JSON file with `images` and `annotations`.

The file is read whole, as its form demands; the largest that is in use has 92 MB.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.index.sources.files import open_file
from app.index.sources.record import Fault, Item, Record, SourceError, captions_of
from app.index.sources.tables import ReadImage


def read_coco(path: Path, images: bool, read_image: ReadImage) -> Iterator[Item]:
    """Each image with its captions, by the order of `images`.

    Raises:
        SourceError: the file is not of this form.
    """
    names, captions = _parse(path)
    for number, (key, name) in enumerate(names.items(), 1):
        origin = f"{path.name}:{name}"
        position = number / len(names)
        found = captions.get(key)
        if not found:
            yield Fault("no caption", origin, position)
            continue
        try:
            yield Record(captions_of(found), origin, read_image(name) if images else None, position)
        except OSError as error:
            yield Fault(f"its image cannot be read ({error.strerror})", origin, position)
        except ValueError as error:
            yield Fault(str(error), origin, position)


def _parse(path: Path) -> tuple[dict[Any, str], dict[Any, list[Any]]]:
    """Image names by id, and captions by image id."""
    try:
        with open_file(path) as file:
            whole = json.load(file.data)
        names = {image["id"]: str(image["file_name"]) for image in whole["images"]}
        captions: dict[Any, list[Any]] = defaultdict(list)
        for annotation in whole["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"])
    except (ValueError, RecursionError) as error:
        raise SourceError(f"not JSON ({error})", path) from error
    except (KeyError, TypeError) as error:
        raise SourceError(
            "not COCO captions: that form has `images` (`id`, `file_name`) and `annotations` "
            f"(`image_id`, `caption`); what is missing is {error}.",
            path,
        ) from error
    return names, captions
