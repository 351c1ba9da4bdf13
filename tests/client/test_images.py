"""Every form of an image becomes the bytes of a file, or is refused in words."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from app.client import BadImageError
from app.client.images import as_list, read_image
from app.clip.decode import decode_image
from tests.photos import encode, gradient

PNG = encode(gradient())


def pixels(data: bytes) -> Any:
    return np.asarray(decode_image(data, 10_000))


def test_a_path_is_sent_as_it_is_under_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    for form in (path, str(path)):
        upload = read_image(form)
        assert (upload.name, upload.data) == ("cat.png", PNG)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_sent_as_they_are(kind: Any) -> None:
    assert read_image(kind(PNG), 2) == read_image(PNG, 2)
    assert (read_image(PNG, 2).name, read_image(PNG, 2).data) == ("image-3", PNG)


def test_a_file_object_is_read_from_where_it_stands_and_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"head" + PNG)
    with path.open("rb") as file:
        file.seek(4)
        upload = read_image(file)
        assert not file.closed
    assert (upload.name, upload.data) == ("cat.png", PNG)
    assert read_image(io.BytesIO(PNG)).data == PNG


@given(
    arrays(
        np.uint8,
        st.one_of(
            array_shapes(min_dims=2, max_dims=2, max_side=9),
            st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])),
        ),
    )
)
def test_an_array_of_bytes_arrives_as_it_was(array: Any) -> None:
    colours = array.reshape(*array.shape[:2], -1)
    expected = np.broadcast_to(colours, (*colours.shape[:2], 3))
    assert np.array_equal(pixels(read_image(array).data), expected)


@given(arrays(np.uint8, (4, 5, 3)), st.sampled_from([np.float16, np.float32, np.float64]))
def test_floats_from_0_to_1_stand_for_0_to_255(array: Any, kind: Any) -> None:
    arrived = pixels(read_image((array / 255).astype(kind)).data)
    assert np.abs(arrived.astype(int) - array).max() <= (1 if kind is np.float16 else 0)


def test_a_mask_is_black_and_white() -> None:
    assert np.array_equal(pixels(read_image(np.eye(4, dtype=bool)).data)[..., 0], np.eye(4) * 255)


def test_a_view_that_is_not_contiguous_is_sent_right() -> None:
    array = np.asarray(gradient())[::-2, ::3]
    assert np.array_equal(pixels(read_image(array).data), array)


def test_a_transparent_array_is_laid_on_white_by_the_server() -> None:
    assert (pixels(read_image(np.zeros((3, 4, 4), np.uint8)).data) == 255).all()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 20, 20), np.uint8), "channels first"),
        (np.zeros((2, 20, 20, 3), np.uint8), "list of images"),
        (np.zeros((20, 20, 2), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((0, 20, 3), np.uint8), r"\(0, 20, 3\)"),
        (np.zeros(20, np.uint8), r"\(H, W\)"),
        (np.zeros((20, 20), np.uint16), "uint16"),
        (np.full((20, 20), 255.0), "from 0 to 1"),
        (np.full((20, 20), -0.1), "from 0 to 1"),
        (np.full((20, 20), np.nan), "from 0 to 1"),
    ],
)
def test_an_array_that_is_no_image_is_refused(array: Any, words: str) -> None:
    with pytest.raises(BadImageError, match=words):
        read_image(array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "F"])
def test_a_pil_image_of_any_mode_looks_the_same_to_the_server(mode: str) -> None:
    if mode == "F":
        image = Image.fromarray((np.asarray(gradient().convert("L")) / 255).astype(np.float32))
    else:
        image = gradient().convert(mode)
    arrived = pixels(read_image(image).data).astype(int)
    here = image.point(lambda x: x * 255) if mode == "F" else image
    assert np.abs(arrived - np.asarray(here.convert("RGB"))).max() <= 1


def test_a_pil_image_is_sent_upright_under_the_name_of_its_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    path.write_bytes(encode(gradient(), "JPEG", exif=exif))
    with Image.open(path) as image:
        upload = read_image(image)
    assert upload.name == "turned.jpg"
    assert np.array_equal(pixels(upload.data), pixels(path.read_bytes()))


@pytest.mark.parametrize(
    "address", ["http://a.test/cat.jpg", "HTTPS://a.test/c.jpg", "s3://b/c.jpg", "data:image/png;,"]
)
def test_an_address_is_refused(address: str) -> None:
    with pytest.raises(BadImageError, match="Nothing is fetched"):
        read_image(address)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"nowhere\.png: cannot be read"):
        read_image("nowhere.png")
    with pytest.raises(BadImageError, match="is no path"):
        read_image("a\0b")
    with pytest.raises(BadImageError, match="binary mode"):
        read_image(io.StringIO("text"))  # type: ignore[arg-type] # what a caller may do
    text = tmp_path / "photo.png"
    text.write_bytes(PNG)
    with text.open() as file, pytest.raises(BadImageError, match="binary mode"):
        read_image(file)  # type: ignore[arg-type] # what a caller may do
    with pytest.raises(BadImageError, match="dict is no image"):
        read_image({})  # type: ignore[arg-type] # what a caller may do
    with pytest.raises(ValueError, match="no image"):
        read_image(3)  # type: ignore[arg-type] # what a caller may do


def test_a_list_or_tuple_is_several_images_and_anything_else_is_one() -> None:
    array = np.zeros((4, 4), np.uint8)
    assert as_list(array) == [array]
    assert as_list("cat.png") == ["cat.png"]
    assert as_list(["a.png", PNG]) == as_list(("a.png", PNG)) == ["a.png", PNG]
