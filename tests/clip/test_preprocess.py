"""Strips are cut to their middle before they are resized, and come out the same."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from app.clip.aspect import middle, within_reason
from app.clip.model import ClipModel
from tests.photos import gradient

SIDE = 32


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
def test_the_crop_is_the_same_as_without_cutting(size: tuple[int, int]) -> None:
    # Where sides are of odd length, rounding may move it by half a pixel.
    preprocess = open_clip.image_transform(SIDE, is_train=False)
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 16 + 1, size[0] // 16 + 1, 3))
    image = Image.fromarray(noise.astype(np.uint8)).resize(size)
    ours, theirs = within_reason(preprocess)(image), preprocess(image)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().mean() < 0.1


def test_other_preprocessing_is_left_alone() -> None:
    squash = open_clip.image_transform(SIDE, is_train=False, resize_mode="squash")
    assert within_reason(squash) is squash


def test_a_strip_is_encoded_without_becoming_huge(tiny_model: ClipModel) -> None:
    pixels = tiny_model.preprocess(Image.new("RGB", (50_000, 1), "red"))
    assert pixels.shape == (3, SIDE, SIDE)
    assert torch.isfinite(pixels).all()
