"""The models that open_clip knows by name: sizes, published accuracy, and where their files are.

Read from two files beside this one, so that listing and completing names needs no torch:
`zoo.json` is written by `python -m tools.models`; `accuracy.csv` holds published figures, top-1 on
ImageNet-1k without training on it, each with its source.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_ZOO = _HERE / "zoo.json"
_ACCURACY = _HERE / "accuracy.csv"


@dataclass(frozen=True, slots=True)
class Architecture:
    """What weights are loaded into.

    Attributes:
        parameters: of both towers; None where counting them would need a download.
        image_size: side of the image, in pixels.
        needs_transformers: whether its tokenizer comes from that package.
    """

    parameters: int | None
    image_size: int
    needs_transformers: bool

    @property
    def size(self) -> str:
        """`151 M`, or nothing where it is not known."""
        return "" if self.parameters is None else f"{self.parameters / 1e6:,.0f} M"


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that open_clip knows by a tag.

    Attributes:
        architecture: for `XMORE_MODEL`.
        pretrained: the tag, for `XMORE_PRETRAINED`.
        hub: where its files are on the hub, `ORG/NAME/` or with the name of the file.
        imagenet_top1: zero-shot accuracy as published, in [0, 1]; None where no figure is at hand.
    """

    architecture: str
    pretrained: str
    hub: str
    imagenet_top1: float | None

    @property
    def name(self) -> str:
        """`ViT-B-16/openai`."""
        return f"{self.architecture}/{self.pretrained}"


@dataclass(frozen=True, slots=True)
class Zoo:
    """All of it.

    Attributes:
        open_clip: the version that was read.
        architectures: by name.
        weights: in open_clip's order.
    """

    open_clip: str
    architectures: dict[str, Architecture]
    weights: tuple[Published, ...]


def read_zoo() -> Zoo:
    """Read the files."""
    found = json.loads(_ZOO.read_text(encoding="utf-8"))
    figures = _read_accuracy()
    return Zoo(
        open_clip=found["open_clip"],
        architectures={name: Architecture(**one) for name, one in found["architectures"].items()},
        weights=tuple(
            Published(**one, imagenet_top1=figures.get((one["architecture"], one["pretrained"])))
            for one in found["weights"]
        ),
    )


def _read_accuracy() -> dict[tuple[str, str], float]:
    with _ACCURACY.open(encoding="utf-8", newline="") as file:
        return {
            (row["architecture"], row["pretrained"]): float(row["imagenet_top1"])
            for row in csv.DictReader(file)
        }
