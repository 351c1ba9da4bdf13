"""Views of an image: the same every time, and together all of it."""

import numpy as np
import pytest
from PIL import Image

from app.clip.crops import CROPS, crop
from tests.photos import gradient


def test_the_first_view_is_the_image() -> None:
    image = gradient(64, 48)
    assert crop(image, 0) is image


def test_the_others_are_its_corners() -> None:
    pixels = np.asarray(gradient(64, 48))
    corners = [pixels[:36, :48], pixels[:36, 16:], pixels[12:, :48], pixels[12:, 16:]]
    for number, corner in enumerate(corners, 1):
        np.testing.assert_array_equal(np.asarray(crop(gradient(64, 48), number)), corner)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 900)])
def test_tiny_images_have_views_too(size: tuple[int, int]) -> None:
    for number in range(CROPS):
        view = crop(Image.new("RGB", size), number)
        assert min(view.size) >= 1
