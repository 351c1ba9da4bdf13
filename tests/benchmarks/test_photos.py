"""Photos to ask about."""

import io

from PIL import Image

from benchmarks.photos import SMALL, photos


def test_they_are_jpeg_files_that_differ_and_are_as_large_as_a_cameras() -> None:
    files = photos(6, SMALL)
    assert len(set(files)) == 6
    for file in files:
        with Image.open(io.BytesIO(file)) as image:
            assert (image.format, image.size) == ("JPEG", SMALL)
        assert 0.1 < len(file) / (SMALL[0] * SMALL[1]) < 0.6


def test_the_same_seed_makes_the_same_files() -> None:
    assert photos(2, SMALL, seed=1) == photos(2, SMALL, seed=1) != photos(2, SMALL, seed=2)
