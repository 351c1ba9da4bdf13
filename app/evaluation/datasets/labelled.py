"""What every reader of labelled images makes: a set whose images are opened one at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from app.clip.crops import crop
from app.clip.decode import ImageError, ImageFault, decode_image


class DatasetError(Exception):
    """A labelled set that cannot be used; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled image.

    Attributes:
        key: its name within the set.
        image: upright RGB.
        label: the row of its class.
    """

    key: str
    image: Image.Image
    label: int


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """A labelled set.

    Attributes:
        name: for tables and the report.
        classes: class names as prompts hold them, distinct.
        size: number of images.
        fingerprint: changes when the set does.
        load: the image at a position, 0 to size - 1; `ImageError` where it cannot be read.
        key: the name of the image at a position.
    """

    name: str
    classes: list[str]
    size: int
    fingerprint: str
    load: Callable[[int], Example]
    key: Callable[[int], str]


def cropped(dataset: LabelledImages, number: int) -> LabelledImages:
    """The same set, of each image one of the views that `app.clip.crops` makes."""
    if number == 0:
        return dataset

    def load(position: int) -> Example:
        example = dataset.load(position)
        return replace(example, image=crop(example.image, number))

    return replace(dataset, fingerprint=f"{dataset.fingerprint} crop {number}", load=load)


@dataclass(frozen=True, slots=True)
class Entry:
    """An image of a set by its name, how to read its file, and what its class is called there."""

    key: str
    read: Callable[[], bytes]
    folder: str


def labelled(
    name: str,
    entries: Sequence[Entry],
    class_names: dict[str, str],
    fingerprint: str,
    max_pixels: int,
) -> LabelledImages:
    """A set of image files.

    Args:
        name: of the set.
        entries: its images.
        class_names: what a class is called in the set to its name in prompts, in the order of the
            classes; entries of other classes are left out.
        fingerprint: of the files and of how they are read.
        max_pixels: largest image, width times height.

    Raises:
        DatasetError: no image is left.
    """
    kept = [entry for entry in entries if entry.folder in class_names]
    if not kept:
        raise DatasetError(f"{name}: no labelled image in it")
    rows = {folder: row for row, folder in enumerate(class_names)}

    def load(position: int) -> Example:
        entry = kept[position]
        try:
            data = entry.read()
        except OSError as error:
            reason = f"cannot be read ({error.strerror or error})"
            raise ImageError(ImageFault.UNREADABLE, reason) from error
        return Example(entry.key, decode_image(data, max_pixels), rows[entry.folder])

    return LabelledImages(
        name,
        list(class_names.values()),
        len(kept),
        fingerprint,
        load,
        lambda position: kept[position].key,
    )
