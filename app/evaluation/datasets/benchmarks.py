"""Sets that torchvision reads, by its class names, where their files are on disk."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from app.clip.decode import ImageError, ImageFault, to_rgb
from app.evaluation.datasets.labelled import DatasetError, Example, LabelledImages
from app.evaluation.datasets.names import plain

PREFIX = "torchvision:"

_TEST = {"split": "test"}
_HELD_OUT: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "CIFAR10": {"train": False},
        "CIFAR100": {"train": False},
        "Caltech101": {},
        "Country211": _TEST,
        "DTD": _TEST,
        "EuroSAT": {},
        "FGVCAircraft": _TEST,
        "FashionMNIST": {"train": False},
        "Flowers102": _TEST,
        "Food101": _TEST,
        "ImageNet": {"split": "val"},
        "Imagenette": {"split": "val"},
        "MNIST": {"train": False},
        "OxfordIIITPet": _TEST,
        "STL10": _TEST,
        "SUN397": {},
        "StanfordCars": _TEST,
    }
)
"""torchvision's classes, with the arguments that choose the part not trained on, where it is
divided."""


def open_benchmark(name: str, root: Path) -> LabelledImages:
    """One of torchvision's sets.

    Args:
        name: torchvision's class, such as `DTD`.
        root: torchvision's own `root`, the folder in which it would have put the files.

    Raises:
        DatasetError: the set is not known, or its files are not there.
    """
    import torchvision.datasets

    if name not in _HELD_OUT:
        raise DatasetError(f"{PREFIX}{name}: known are {', '.join(sorted(_HELD_OUT))}")
    arguments = dict(_HELD_OUT[name])
    try:
        dataset = getattr(torchvision.datasets, name)(root, **arguments)
    except (RuntimeError, OSError, ImportError) as error:
        raise DatasetError(
            f"{PREFIX}{name}: torchvision does not find it in {root} ({error}); give --root"
        ) from error

    def load(position: int) -> Example:
        try:
            image, label = dataset[position]
        except (OSError, ValueError) as error:
            raise ImageError(ImageFault.UNREADABLE, str(error)) from error
        return Example(str(position), to_rgb(image), int(label))

    return LabelledImages(
        name,
        _names(name, dataset),
        len(dataset),
        f"{PREFIX}{name} {len(dataset)} {root.resolve()}",
        load,
        str,
    )


def _names(name: str, dataset: Any) -> list[str]:
    if name == "ImageNet":
        return list(IMAGENET_CLASSNAMES)
    return [plain(str(c)) for c in getattr(dataset, "classes", None) or dataset.categories]
