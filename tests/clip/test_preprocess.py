"""Preprocessing agrees with open_clip's own transform, and strips do not grow without bounds."""

from collections.abc import Callable

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from app.clip.model import ClipModel
from app.clip.preprocess import AnyTransform, Preprocess, ResizeAndCrop, as_open_clip, middle
from tests.photos import gradient

SIDE = 32


def ready(preprocess: Preprocess, *images: Image.Image) -> Tensor:
    return preprocess.normalize(torch.stack([preprocess.pixels(image) for image in images]))


def transform(resize_mode: str, **options: object) -> Callable[[Image.Image], Tensor]:
    made: Callable[[Image.Image], Tensor] = open_clip.image_transform(
        SIDE, is_train=False, resize_mode=resize_mode, **options
    )
    return made


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@given(width=st.integers(1, 200), height=st.integers(1, 200))
def test_it_is_open_clips_transform_bit_by_bit(
    resize_mode: str, interpolation: str, width: int, height: int
) -> None:
    theirs = transform(resize_mode, interpolation=interpolation)
    ours = as_open_clip(theirs)
    assert isinstance(ours, ResizeAndCrop)
    image = noise(width, height)
    if resize_mode == "shortest" and middle(image) is not image:
        return
    assert torch.equal(ready(ours, image)[0], theirs(image))


def test_a_batch_is_its_images_in_the_order_that_convolutions_like() -> None:
    ours = as_open_clip(transform("shortest"))
    images = [noise(40, 50), noise(60, 30)]
    batch = ready(ours, *images)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for row, image in zip(batch, images, strict=True):
        assert torch.equal(row, ready(ours, image)[0])


def test_a_transform_of_another_kind_is_called_as_it_is() -> None:
    theirs = transform("longest")
    ours = as_open_clip(theirs)
    assert isinstance(ours, AnyTransform)
    assert torch.equal(ready(ours, noise(50, 40))[0], theirs(noise(50, 40)))


@pytest.mark.parametrize("size", [(64, 48), (160, 10), (10, 160), (1, 1), (161, 10)])
def test_a_photo_is_left_alone(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    assert middle(image) is image


@pytest.mark.parametrize(
    ("size", "kept"), [((20_000, 1), (16, 1)), ((1, 19_999), (1, 17)), ((4000, 10), (160, 10))]
)
def test_a_strip_keeps_its_middle(size: tuple[int, int], kept: tuple[int, int]) -> None:
    image = gradient(*size)
    found = middle(image)
    assert found.size == kept
    centre = (size[0] // 2, size[1] // 2)
    assert found.getpixel((kept[0] // 2, kept[1] // 2)) == image.getpixel(centre)


@pytest.mark.parametrize("size", [(2000, 40), (40, 1999), (640, 20)])
def test_the_crop_of_a_strip_is_the_same_as_without_cutting(size: tuple[int, int]) -> None:
    # Where sides are of odd length, rounding may move it by half a pixel.
    theirs = transform("shortest")
    image = noise(size[0] // 16 + 1, size[1] // 16 + 1).resize(size)
    found, expected = ready(as_open_clip(theirs), image)[0], theirs(image)
    assert found.shape == expected.shape
    assert (found - expected).abs().mean() < 0.1


def test_a_strip_is_encoded_without_becoming_huge(tiny_model: ClipModel) -> None:
    pixels = tiny_model.pixels(Image.new("RGB", (50_000, 1), "red"))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert np.isfinite(tiny_model.encode_images([pixels])).all()
