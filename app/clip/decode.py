"""Image files to upright RGB images, within limits that are checked before memory is taken."""

import io
import struct
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

try:
    from pillow_heif import register_heif_opener
except ImportError:  # the extra `heic` is not installed
    _EXTRA_FORMATS: tuple[str, ...] = ()
else:
    register_heif_opener(thumbnails=False)
    _EXTRA_FORMATS = ("HEIF",)

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", *_EXTRA_FORMATS)
"""What Pillow may open; leaves out formats that run other programs or are no photos (EPS, PDF)."""

_HEAD_BYTES = 1024
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")

# Pillow has a limit of its own, for the whole process; here each call has one, checked first.
Image.MAX_IMAGE_PIXELS = None

_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    SyntaxError,
    LookupError,
    TypeError,
    RuntimeError,
    struct.error,
)
"""What Pillow's decoders raise on files that are broken in one way or another."""


class ImageFault(StrEnum):
    """Why an image was refused."""

    UNREADABLE = "unreadable"
    TOO_MANY_PIXELS = "too_many_pixels"


class ImageError(Exception):
    """An image file that cannot be used; the message says why, in words for whoever sent it."""

    def __init__(self, fault: ImageFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def decode_image(data: bytes, max_pixels: int, enough: int | None = None) -> Image.Image:
    """Decode one image file.

    The first frame is taken, EXIF orientation applied, transparency laid on white, and every mode
    (grey, 16-bit, palette, CMYK) converted to RGB.

    Args:
        data: the whole file.
        max_pixels: largest width times height, checked from the header.
        enough: pixels a side that are enough: a JPEG that is at least twice as large is read at a
            half, a quarter or an eighth, no smaller than this. None reads every pixel.

    Raises:
        ImageError: not an image, damaged, or too large.
    """
    if not data:
        raise ImageError(ImageFault.UNREADABLE, "the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise _too_many(width, height, max_pixels)
        if enough is not None:
            # Pillow does this for JPEG alone, and leaves other formats as they are.
            image.draft(None, (enough, enough))
        image.load()
    except UnidentifiedImageError:
        raise ImageError(ImageFault.UNREADABLE, _what_else(data[:_HEAD_BYTES])) from None
    except _DAMAGE as error:
        raise ImageError(ImageFault.UNREADABLE, f"the image is damaged ({error})") from error
    return to_rgb(_upright(image))


def _what_else(head: bytes) -> str:
    """What a file is that is no image of a known format, by its first bytes."""
    if b"%PDF-" in head:
        return "PDF is a document, not an image; send its pages as PNG or JPEG"
    if b"<svg" in head.lower():
        return "SVG is a drawing, not an image of pixels; render it to PNG first"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and "HEIF" not in FORMATS:
        return "HEIC needs a decoder that this server lacks (the extra `heic`); send JPEG or PNG"
    return f"not an image of a known format ({', '.join(FORMATS)})"


def _too_many(width: int, height: int, max_pixels: int) -> ImageError:
    return ImageError(
        ImageFault.TOO_MANY_PIXELS,
        f"the image has {width} x {height} pixels; at most {max_pixels} are allowed",
    )


def _upright(image: Image.Image) -> Image.Image:
    """Apply EXIF orientation; an EXIF block that cannot be read says nothing about it."""
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB, on white where it is transparent."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, 32 bits or floats; Pillow's own conversion would clip it."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    grey = np.clip(values * (255 / _white(image.mode, values)), 0, 255).round().astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _white(mode: str, values: npt.NDArray[np.float64]) -> float:
    """The value that stands for white: what the mode can hold, or what the values suggest."""
    if mode.startswith("I;16"):
        return 65535.0
    usual = (255.0, 65535.0) if mode == "I" else (1.0, 255.0, 65535.0)
    brightest = float(values.max())
    return next((white for white in usual if brightest <= white), brightest)
