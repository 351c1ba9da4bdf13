"""Labels and captions made up for the benchmarks, as many as are needed, none twice."""

from collections.abc import Iterator
from itertools import islice, product

TEN_LABELS = (
    "cat",
    "dog",
    "cup of coffee",
    "rocket",
    "astronaut",
    "galaxy",
    "bicycle",
    "pizza",
    "umbrella",
    "sailing boat",
)

_LOOKS = (
    "red", "blue", "green", "striped", "old", "tiny", "wooden", "shiny", "broken", "painted",
    "white", "black", "rusty", "paper", "glass", "golden", "plain", "folded", "dusty", "wet",
)  # fmt: skip
_THINGS = (
    "mug", "lamp", "chair", "kettle", "bridge", "lorry", "parrot", "violin", "helmet", "basket",
    "clock", "tractor", "candle", "ladder", "teapot", "drum", "goose", "barrel", "kite", "anchor",
    "cactus", "saddle", "wagon", "lantern", "scarf", "tower", "pigeon", "spoon", "tent", "piano",
)  # fmt: skip
_PLACES = (
    "on a table", "in the rain", "by the sea", "under a tree", "in a field", "at night",
    "on a shelf", "in the snow", "near a wall", "on a roof", "in a garden", "by a window",
)  # fmt: skip
_VIEWS = ("", "seen from above ", "up close ", "far away ", "at dawn ", "half hidden ")


def labels() -> Iterator[str]:
    """A few words each, such as a user would give."""
    return (
        f"{look} {thing} {view}{place}"
        for view, place, look, thing in product(_VIEWS, _PLACES, _LOOKS, _THINGS)
    )


def captions(count: int) -> list[str]:
    """Whole phrases.

    Raises:
        ValueError: more than there are.
    """
    found = [f"picture of a {label}" for label in islice(labels(), count)]
    if len(found) < count:
        raise ValueError(f"only {len(found)} captions can be made up")
    return found
