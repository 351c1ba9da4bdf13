"""Every kind of image file becomes an upright RGB image with the right colours, or is refused."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from app.clip import decode
from app.clip.decode import ImageError, ImageFault, decode_image
from tests.photos import encode, gradient

MAX_PIXELS = 1_000_000
SIZE = (16, 12)
ORIENTATION = 0x0112

Pixels = npt.NDArray[np.int64]


def decoded(data: bytes) -> Pixels:
    image = decode_image(data, MAX_PIXELS)
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


def pixels(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB")).astype(np.int64)


def refused(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_image(data, max_pixels)
    assert str(caught.value)
    return caught.value


def plain(mode: str, colour: float | tuple[int, ...]) -> Image.Image:
    return Image.new(mode, SIZE, colour)


def one_colour(data: bytes) -> list[int]:
    """The colour of an image that has only one."""
    found = decoded(data)
    assert found.shape == (SIZE[1], SIZE[0], 3)
    assert (found == found[0, 0]).all()
    colour: list[int] = found[0, 0].tolist()
    return colour


def png_chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(b""))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_rgb_comes_back_exactly(format_: str) -> None:
    np.testing.assert_array_equal(decoded(encode(gradient(), format_)), pixels(gradient()))


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("WEBP", {"quality": 95}),
        ("AVIF", {"quality": 95}),
        ("HEIF", {"quality": 95}),
        ("TIFF", {"compression": "jpeg", "quality": 95}),
    ],
)
def test_lossy_rgb_comes_back_nearly(format_: str, options: dict[str, object]) -> None:
    found = decoded(encode(gradient(), format_, **options))
    assert found.shape == pixels(gradient()).shape
    assert np.abs(found - pixels(gradient())).mean() < 3


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP", "GIF"])
def test_grey_has_three_equal_channels(format_: str) -> None:
    grey = gradient().convert("L")
    np.testing.assert_array_equal(decoded(encode(grey, format_)), pixels(grey))


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(format_: str) -> None:
    bits = plain("1", 0)
    bits.paste(1, (0, 0, 8, 12))
    found = decoded(encode(bits, format_))
    assert (found[:, :8] == 255).all()
    assert (found[:, 8:] == 0).all()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (plain("LA", (100, 0)), [255, 255, 255]),
        (plain("LA", (100, 255)), [100, 100, 100]),
        (plain("RGBA", (10, 20, 30, 0)), [255, 255, 255]),
        (plain("RGBA", (10, 20, 30, 255)), [10, 20, 30]),
        (plain("RGBA", (255, 0, 0, 51)), [255, 204, 204]),
    ],
)
def test_transparency_is_laid_on_white(image: Image.Image, expected: list[int]) -> None:
    assert one_colour(encode(image)) == expected


@pytest.mark.parametrize(
    ("image", "transparent"),
    [(plain("L", 7), 7), (plain("RGB", (1, 2, 3)), (1, 2, 3))],
)
def test_a_colour_declared_transparent_is_white(image: Image.Image, transparent: object) -> None:
    assert one_colour(encode(image, transparency=transparent)) == [255, 255, 255]


def two_colour_palette() -> Image.Image:
    """Red on the left, blue on the right."""
    image = plain("P", 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (8, 0, 16, 12))
    return image


@pytest.mark.parametrize("format_", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_is_looked_up(format_: str) -> None:
    found = decoded(encode(two_colour_palette(), format_))
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[0, 15].tolist() == [0, 0, 255]


@pytest.mark.parametrize("transparency", [0, b"\x00\xff"])
def test_a_transparent_palette_entry_is_white(transparency: int | bytes) -> None:
    found = decoded(encode(two_colour_palette(), transparency=transparency))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 15].tolist() == [0, 0, 255]


def test_a_transparent_gif_is_laid_on_white() -> None:
    found = decoded(encode(two_colour_palette(), "GIF", transparency=1))
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[0, 15].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("ink", "expected"),
    [((0, 255, 255, 0), [255, 0, 0]), ((0, 0, 0, 0), [255] * 3), ((0, 0, 0, 255), [0] * 3)],
)
@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_cmyk_inks_become_light(format_: str, ink: tuple[int, ...], expected: list[int]) -> None:
    np.testing.assert_allclose(one_colour(encode(plain("CMYK", ink), format_)), expected, atol=2)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
@pytest.mark.parametrize(("value", "expected"), [(0, 0), (300, 1), (32768, 128), (65535, 255)])
def test_16_bit_grey_is_scaled_not_clipped(format_: str, value: int, expected: int) -> None:
    image = Image.fromarray(np.full(SIZE[::-1], value, np.uint16))
    assert image.mode == "I;16"
    assert one_colour(encode(image, format_)) == [expected] * 3


def test_big_endian_16_bit_grey_is_scaled() -> None:
    values = np.full(SIZE[::-1], 32768, ">u2").tobytes()
    assert one_colour(b"P5 16 12 65535\n" + values) == [128] * 3
    assert one_colour(encode(Image.frombytes("I;16B", SIZE, values), "TIFF")) == [128] * 3


@pytest.mark.parametrize(
    ("low", "middle", "high", "dtype"),
    [
        (0, 128, 255, np.int32),
        (0, 32768, 65535, np.int32),
        (0, 1_000_000, 2_000_000, np.int32),
        (0.0, 0.5, 1.0, np.float32),
        (0.0, 127.5, 255.0, np.float32),
        (0.0, 32768.0, 65535.0, np.float32),
    ],
)
def test_32_bit_and_float_grey_span_black_to_white(
    low: float, middle: float, high: float, dtype: type[np.generic]
) -> None:
    values = np.repeat(np.array([[low, middle, high]], dtype), 4, axis=0)
    found = decoded(encode(Image.fromarray(values), "TIFF"))
    np.testing.assert_allclose(found[0, :, 0], [0, 128, 255], atol=1)


def test_floats_that_are_no_numbers_do_not_fail() -> None:
    values = np.array([[np.nan, -5, 0.5, 1]], np.float32)
    found = decoded(encode(Image.fromarray(values), "TIFF"))
    assert found[0, :, 0].tolist() == [0, 0, 128, 255]


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_several_frames_the_first_is_taken(format_: str) -> None:
    first, *rest = (plain("RGB", colour) for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0)))
    data = encode(first, format_, save_all=True, append_images=rest)
    np.testing.assert_allclose(one_colour(data), [255, 0, 0], atol=3)


AS_STORED: dict[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}
"""How a camera held in each of the eight ways stores an upright scene."""


def exif_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


@pytest.mark.parametrize("orientation", list(AS_STORED))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_exif_orientation_comes_out_upright(format_: str, orientation: int) -> None:
    stored = AS_STORED[orientation](gradient())
    options = {} if format_ in ("PNG", "TIFF") else {"quality": 95}
    found = decoded(encode(stored, format_, exif=exif_orientation(orientation), **options))
    assert found.shape == pixels(gradient()).shape
    assert np.abs(found - pixels(gradient())).mean() < 3


@pytest.mark.parametrize("profile", [b"", b"garbage", b"\0" * 128, bytes(range(256)) * 3])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_broken_icc_profile_does_not_fail(format_: str, profile: bytes) -> None:
    found = decoded(encode(gradient(), format_, icc_profile=profile))
    assert np.abs(found - pixels(gradient())).mean() < 5


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    data = encode(gradient(), exif=exif_orientation(orientation))
    np.testing.assert_array_equal(decoded(data), pixels(gradient()))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "block",
    [
        b"garbage!!",
        b"II*\0",
        b"II*\0\x08\0\0\0\xff\xff",
        b"MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\x01",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01x\0\0\0\0\0\0\0",
    ],
)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_does_not_fail(format_: str, block: bytes) -> None:
    found = decoded(encode(gradient(), format_, exif=b"Exif\0\0" + block))
    assert np.abs(found - pixels(gradient())).mean() < 5


def test_an_empty_file_is_unreadable() -> None:
    error = refused(b"")
    assert error.fault is ImageFault.UNREADABLE
    assert "empty" in str(error)


@pytest.mark.parametrize(
    "data",
    [b"not an image at all", b"%PDF-1.7", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"\x89PNG"],
)
def test_other_files_are_unreadable(data: bytes) -> None:
    assert refused(data).fault is ImageFault.UNREADABLE


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.7])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_truncated_file_is_unreadable(format_: str, share: float) -> None:
    data = encode(gradient(), format_)
    assert refused(data[: int(share * len(data))]).fault is ImageFault.UNREADABLE


def test_a_truncated_gif_is_unreadable() -> None:
    data = encode(gradient().quantize(64), "GIF")
    assert refused(data[: len(data) // 2]).fault is ImageFault.UNREADABLE


@given(st.binary(max_size=200))
def test_random_bytes_are_unreadable(data: bytes) -> None:
    assert refused(data).fault is ImageFault.UNREADABLE


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_decode_or_are_refused(format_: str) -> None:
    chance = random.Random(format_)
    options = {"exif": exif_orientation(6)} if format_ in ("JPEG", "PNG", "WEBP") else {}
    whole = encode(gradient(), format_, **options)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 5, 20))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with suppress(ImageError):
            assert decode_image(bytes(data), MAX_PIXELS).mode == "RGB"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7\n", "PDF is a document"),
        (b"\n\n%PDF-1.4", "PDF is a document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG is a drawing"),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<SVG/>', "SVG is a drawing"),
    ],
)
def test_documents_and_drawings_are_refused_with_words(data: bytes, words: str) -> None:
    assert words in str(refused(data))


def test_heic_without_its_decoder_is_refused_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(gradient(), "HEIF")
    monkeypatch.setattr(decode, "FORMATS", tuple(f for f in decode.FORMATS if f != "HEIF"))
    assert "HEIC needs a decoder" in str(refused(data))


def test_an_image_is_what_it_holds_not_what_it_is_called() -> None:
    for format_ in ("JPEG", "GIF", "WEBP"):
        assert decode_image(encode(gradient(), format_), MAX_PIXELS).size == gradient().size


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000)])
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF"])
def test_odd_sizes_are_kept(format_: str, size: tuple[int, int]) -> None:
    data = encode(Image.new("RGB", size, "red"), format_)
    assert decode_image(data, MAX_PIXELS).size == size


def claiming_webp(side: int) -> bytes:
    """An animated WebP whose canvas is as large as it says."""
    frames = {"save_all": True, "append_images": [gradient(16, 16)], "lossless": True}
    data = bytearray(encode(plain("RGB", 0).resize((16, 16)), "WEBP", **frames))
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = (side - 1).to_bytes(3, "little") * 2
    return bytes(data)


def claiming_gif(side: int) -> bytes:
    data = bytearray(encode(gradient(16, 16).quantize(8), "GIF"))
    data[6:10] = struct.pack("<HH", side, side)
    return bytes(data)


def claiming_tiff(side: int) -> bytes:
    data = bytearray(encode(gradient(16, 16), "TIFF"))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in (256, 257):
            struct.pack_into("<HII", data, entry + 2, 4, 1, side)
    return bytes(data)


@pytest.mark.parametrize("claiming", [png_header, claiming_webp, claiming_gif, claiming_tiff])
def test_a_bomb_is_refused_before_a_pixel_is_decoded(
    monkeypatch: pytest.MonkeyPatch, claiming: Callable[..., bytes]
) -> None:
    data = claiming(16_000, 16_000) if claiming is png_header else claiming(16_000)

    def load(_: Image.Image) -> None:
        raise AssertionError("the bomb went off")

    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    error = refused(data)
    assert error.fault is ImageFault.TOO_MANY_PIXELS
    assert "16000 x 16000" in str(error)


@pytest.mark.parametrize("side", [1_001, 12_000, 60_000])
def test_a_header_over_the_limit_is_refused_without_decoding(side: int) -> None:
    error = refused(png_header(side, side))
    assert error.fault is ImageFault.TOO_MANY_PIXELS
    assert str(MAX_PIXELS) in str(error)


def test_the_limit_itself_is_allowed() -> None:
    data = encode(gradient(64, 48))
    assert decode_image(data, 64 * 48).size == (64, 48)
    error = refused(data, 64 * 48 - 1)
    assert error.fault is ImageFault.TOO_MANY_PIXELS
    assert "64 x 48" in str(error)


def test_a_small_header_without_pixels_is_unreadable() -> None:
    assert refused(png_header(10, 10)).fault is ImageFault.UNREADABLE


def test_the_decoded_image_does_not_depend_on_the_file() -> None:
    buffer = bytearray(encode(gradient()))
    image = decode_image(bytes(buffer), MAX_PIXELS)
    buffer[:] = bytes(len(buffer))
    again = io.BytesIO()
    image.save(again, "PNG")
    np.testing.assert_array_equal(decoded(again.getvalue()), pixels(gradient()))


def test_transparent_16_bit_grey_lies_on_white() -> None:
    values = np.full((4, 4), 40_000, np.uint16)
    values[0, 0] = 7
    data = encode(Image.fromarray(values), transparency=7)
    out = decoded(data)
    assert out[0, 0].tolist() == [255, 255, 255]
    assert abs(int(out[1, 1, 0]) - 156) <= 1


def test_the_limit_may_be_above_pillows_own() -> None:
    error = refused(png_header(20_000, 20_000), 10**9)
    assert error.fault is ImageFault.UNREADABLE


@pytest.mark.parametrize("seed", range(40))
def test_damaged_avif_is_refused_as_an_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(encode(gradient(), "AVIF"))
    for position in rng.integers(0, 200, 8):
        data[position] ^= int(rng.integers(1, 256))
    with suppress(ImageError):
        assert decode_image(bytes(data), MAX_PIXELS).mode == "RGB"
