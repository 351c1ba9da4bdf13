"""Image files to upright RGB images, within limits that are checked before memory is taken."""

import io
import struct
import warnings
from enum import StrEnum

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""What Pillow may open; leaves out formats that run other programs or are no photos (EPS, PDF)."""


_DAMAGE = (OSError, ValueError, SyntaxError, LookupError, TypeError, EOFError, struct.error)
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


def decode_image(data: bytes, max_pixels: int) -> Image.Image:
    """Decode one image file.

    The first frame is taken, EXIF orientation applied, transparency laid on white, and every mode
    (grey, 16-bit, palette, CMYK) converted to RGB.

    Args:
        data: the whole file.
        max_pixels: largest width times height, checked from the header.

    Raises:
        ImageError: not an image, damaged, or too large.
    """
    if not data:
        raise ImageError(ImageFault.UNREADABLE, "the file is empty")
    try:
        with warnings.catch_warnings():
            # Pillow warns from a size of its own on; max_pixels is the limit here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                raise _too_many(width, height, max_pixels)
            image.load()
    except Image.DecompressionBombError:
        raise ImageError(
            ImageFault.TOO_MANY_PIXELS, f"the image has more than {max_pixels} pixels"
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            ImageFault.UNREADABLE, f"not an image of a known format ({', '.join(FORMATS)})"
        ) from None
    except _DAMAGE as error:
        raise ImageError(ImageFault.UNREADABLE, f"the image is damaged ({error})") from error
    return to_rgb(_upright(image))


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
        return _from_deep_grey(image).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, 32 bits or floats to 8 bits; Pillow's own conversion would clip it."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode.startswith("I;16"):
        top = 65535.0
    else:
        top = next((t for t in (1.0, 255.0, 65535.0) if values.max() <= t), float(values.max()))
        if image.mode == "I" and top == 1.0:
            top = 255.0
    return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8))
