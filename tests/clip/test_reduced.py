"""Large JPEG photos are read reduced, and the answer hardly changes."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from app.clip.decode import decode_image
from app.clip.model import ClipModel, load_model
from app.settings import ROOT, Precision

PHOTOS = ("chelsea", "coffee", "rocket", "astronaut")


@pytest.fixture(scope="module")
def mini() -> ClipModel:
    return load_model(f"local-dir:{ROOT / 'models' / 'mini'}", None, Precision.FP32)


def jpeg(name: str, width: int, height: int) -> bytes:
    photo = Image.fromarray(getattr(data, name)()).resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    photo.save(out, "JPEG", quality=90)
    return out.getvalue()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((4000, 3000), (1000, 750)),
        ((3000, 4000), (750, 1000)),
        ((1000, 900), (500, 450)),
        ((895, 1200), (895, 1200)),
        ((640, 480), (640, 480)),
    ],
)
def test_a_jpeg_is_reduced_but_never_below_what_is_enough(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert decode_image(jpeg("coffee", *size), 20_000_000, enough=448).size == expected
    assert decode_image(jpeg("coffee", *size), 20_000_000).size == size


def test_other_formats_are_read_whole() -> None:
    out = io.BytesIO()
    Image.new("RGB", (2000, 1000)).save(out, "PNG")
    assert decode_image(out.getvalue(), 20_000_000, enough=448).size == (2000, 1000)


@pytest.mark.parametrize("name", PHOTOS)
def test_the_embedding_of_a_reduced_photo_is_nearly_the_same(mini: ClipModel, name: str) -> None:
    enough = mini.preprocess.enough
    assert enough == 448
    for size in ((4000, 3000), (1600, 1200)):
        file = jpeg(name, *size)
        whole = mini.pixels(decode_image(file, 20_000_000))
        reduced = mini.pixels(decode_image(file, 20_000_000, enough))
        v, u = mini.encode_images([whole, reduced])
        assert float(v @ u) > 0.99
        levels = whole.numpy().astype(int) - reduced.numpy().astype(int)
        assert np.abs(levels).mean() < 2
