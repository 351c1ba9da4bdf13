"""From an RGB image to what the image tower reads, as open_clip's own transform does it.

Images wait for their batch as bytes, a quarter of what floats take, and a whole batch is
normalised at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from open_clip.transform import MaybeConvertMode
from PIL import Image
from torch import Tensor
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    Resize,
    ToTensor,
)

_RESAMPLING = {
    InterpolationMode.BICUBIC: Image.Resampling.BICUBIC,
    InterpolationMode.BILINEAR: Image.Resampling.BILINEAR,
}
_SPARE = 2
"""How many times larger than the model's input a side must stay when a JPEG is read reduced."""
_MAX_RATIO = 16
"""Far more than the middle square and what interpolation sees beyond it."""


class Preprocess(Protocol):
    """The two halves of preprocessing: one image by itself, then a batch of them."""

    @property
    def enough(self) -> int | None:
        """Pixels that each side of a reduced source must keep; None where it is not known."""
        ...

    def pixels(self, image: Image.Image) -> Tensor:
        """One RGB image to the form in which it waits for its batch."""
        ...

    def normalize(self, batch: Tensor) -> Tensor:
        """Waiting images, stacked, to (n, 3, H, W) float32, channels last in memory."""
        ...


@dataclass(frozen=True, slots=True)
class ResizeAndCrop:
    """Resize, take the middle, normalise: what open_clip does for nearly every model.

    Attributes:
        width: of the model's input.
        height: of the model's input.
        short_side: what the short side becomes before the middle is taken; None where the whole
            image is squeezed into the input.
        resampling: Pillow's filter.
        mean: of each channel, (3, 1, 1).
        std: of each channel, (3, 1, 1).
    """

    width: int
    height: int
    short_side: int | None
    resampling: Image.Resampling
    mean: Tensor
    std: Tensor

    @property
    def enough(self) -> int:
        """Twice the input: a JPEG reduced to no less than that is still scaled down after it."""
        return _SPARE * (self.short_side or max(self.width, self.height))

    def pixels(self, image: Image.Image) -> Tensor:
        """One RGB image to (H, W, 3) uint8."""
        if self.short_side is None:
            return _bytes(image.resize((self.width, self.height), self.resampling))
        image = middle(image)
        width, height = _fitted(image.size, self.short_side)
        left, top = round((width - self.width) / 2), round((height - self.height) / 2)
        return _bytes(
            image.resize((width, height), self.resampling).crop(
                (left, top, left + self.width, top + self.height)
            )
        )

    def normalize(self, batch: Tensor) -> Tensor:
        """(n, H, W, 3) uint8 to (n, 3, H, W) float32, channels last in memory."""
        wide = batch.permute(0, 3, 1, 2).float().div_(255)
        return wide.sub_(self.mean.to(batch.device)).div_(self.std.to(batch.device))


@dataclass(frozen=True, slots=True)
class AnyTransform:
    """A transform of another kind, called as it is."""

    transform: Callable[[Image.Image], Tensor]
    enough: None = None

    def pixels(self, image: Image.Image) -> Tensor:
        """One RGB image to (3, H, W) float32."""
        return self.transform(image)

    def normalize(self, batch: Tensor) -> Tensor:
        """(n, 3, H, W), channels last in memory."""
        return batch.to(memory_format=torch.channels_last)


def as_open_clip(transform: Callable[[Image.Image], Tensor]) -> Preprocess:
    """open_clip's transform of a model in two halves; as it is where its steps are unusual."""
    steps = transform.transforms if isinstance(transform, Compose) else []
    match steps:
        case [
            Resize(size=int(side), max_size=None) as resize,
            CenterCrop(size=(height, width)),
            MaybeConvertMode(),
            ToTensor(),
            Normalize() as normalize,
        ] if side >= max(height, width):
            short_side: int | None = side
        case [
            Resize(size=(height, width), max_size=None) as resize,
            MaybeConvertMode(),
            ToTensor(),
            Normalize() as normalize,
        ]:
            short_side = None
        case _:
            return AnyTransform(transform)
    if resize.interpolation not in _RESAMPLING:
        return AnyTransform(transform)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (normalize.mean, normalize.std))
    return ResizeAndCrop(width, height, short_side, _RESAMPLING[resize.interpolation], mean, std)


def middle(image: Image.Image) -> Image.Image:
    """The middle of a strip, or the image itself if it is none.

    A strip of 20,000 by 1 pixels would become billions of pixels when its short side is resized,
    of which nearly all are thrown away; cutting to the middle first gives the same crop.
    """
    width, height = image.size
    longest = _MAX_RATIO * min(width, height)
    # An even number of pixels is cut, so that the middle stays where it is.
    cut_x, cut_y = (max(0, side - longest) // 2 for side in (width, height))
    if not cut_x and not cut_y:
        return image
    return image.crop((cut_x, cut_y, width - cut_x, height - cut_y))


def _fitted(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Width and height once the short side is resized, as torchvision rounds them."""
    width, height = size
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def _bytes(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))
