"""Images as callers have them, to the bytes of a file that is sent.

| given | sent |
|---|---|
| a path (`str` or `os.PathLike`) | the file as it is |
| `bytes`, `bytearray`, `memoryview` | as they are: the bytes of an image file |
| a binary file object | what it still has to read; it is not closed |
| a PIL image | PNG, upright as its EXIF data say |
| an array, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) | PNG |

Arrays are channels last, in the order grey, RGB or RGBA: uint8 from 0 to 255, bool, or floats from
0 to 1. Nothing is fetched: an address instead of a path is refused.
"""

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias

from app.client.errors import BadImageError

if TYPE_CHECKING:
    from PIL import Image


class SupportsArray(Protocol):
    """What numpy makes an array of, such as a tensor."""

    def __array__(self) -> Any:
        """As a numpy array."""
        ...


class SupportsArrayInterface(Protocol):
    """What lays its memory open as numpy does: an array, a PIL image."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Shape, type and memory."""
        ...


ImageLike: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | SupportsArray
    | SupportsArrayInterface
)
"""One image, in one of the forms above."""

_ADDRESS = re.compile(r"^([a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)
_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_FAST_PNG = 1
"""Compression level: the network is local more often than slow."""

_COLOURS = 3
_CHANNELS = (1, 3, 4)
_WHITE = 255


@dataclass(frozen=True, slots=True)
class Upload:
    """An image file on its way: its name and its bytes."""

    name: str
    data: bytes


def as_list(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """One image as a list of one; a list or tuple of images as a list."""
    return list(images) if isinstance(images, (list, tuple)) else [images]  # type: ignore[list-item] # what is no list or tuple is one image


def read_image(image: ImageLike, position: int = 0) -> Upload:
    """Read or encode one image.

    Args:
        image: in any of the forms above.
        position: its place among the images of the request; it names those without a name.

    Raises:
        BadImageError: it cannot be read, or is nothing that can be sent.
    """
    name = f"image-{position + 1}"
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Upload(name, bytes(image))
    if isinstance(image, (str, os.PathLike)):
        return _read_path(os.fspath(image))
    if hasattr(image, "read"):
        return _read_file(image, name)
    return _encode(image, name)


def _read_path(path: str) -> Upload:
    if _ADDRESS.match(path):
        shown = path if len(path) <= 60 else f"{path[:60]}…"  # noqa: PLR2004 - a line's worth
        raise BadImageError(
            shown, "is an address, not a file. Nothing is fetched: download it and give its bytes"
        )
    try:
        return Upload(Path(path).name, Path(path).read_bytes())
    except OSError as error:
        raise BadImageError(path, f"cannot be read ({error.strerror})") from error
    except ValueError as error:  # a path with a null byte
        raise BadImageError(repr(path), f"is no path ({error})") from error


def _read_file(file: Any, name: str) -> Upload:
    given = getattr(file, "name", None)
    if isinstance(given, str):
        name = Path(given).name
    try:
        data = file.read()
    except OSError as error:
        raise BadImageError(name, f"cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise BadImageError(name, "is open as text; open it in binary mode, 'rb'") from error
    if not isinstance(data, bytes):
        raise BadImageError(name, "is open as text; open it in binary mode, 'rb'")
    return Upload(name, data)


def _encode(image: Any, name: str) -> Upload:
    from PIL import Image

    if isinstance(image, Image.Image):
        given = getattr(image, "filename", "")
        return Upload(Path(given).name if given else name, _encode_pil(image, name))
    if hasattr(image, "__array__"):
        return Upload(name, _png(_from_array(image, name)))
    raise BadImageError(
        name,
        f"{type(image).__name__} is no image: give a path, bytes, a binary file, a PIL image or "
        "an array",
    )


def _encode_pil(image: "Image.Image", name: str) -> bytes:
    from PIL import ImageOps

    try:
        upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImageError(name, f"the PIL image cannot be read ({error})") from error
    if upright.mode == "F":
        return _png(_from_array(upright, name))
    return _png(upright if upright.mode in _PNG_MODES else upright.convert("RGB"))


def _from_array(image: Any, name: str) -> "Image.Image":
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    if values.ndim == _COLOURS and values.shape[-1] == 1:
        values = values[..., 0]
    right_shape = values.ndim == 2 or (  # noqa: PLR2004 - height and width
        values.ndim == _COLOURS and values.shape[-1] in _CHANNELS
    )
    if not right_shape or not values.size:
        raise BadImageError(name, _shape_advice(values.shape))
    if values.dtype == bool or np.issubdtype(values.dtype, np.floating):
        floats = values.astype(np.float32)
        # A comparison that a NaN fails too.
        if not ((floats >= 0) & (floats <= 1)).all():
            raise BadImageError(
                name,
                "an array of floats holds values from 0 to 1; divide by what stands for white, "
                "or convert to uint8",
            )
        values = (floats * _WHITE).round().astype(np.uint8)
    if values.dtype != np.uint8:
        raise BadImageError(
            name, f"an array of {values.dtype}; give uint8 from 0 to 255, or floats from 0 to 1"
        )
    return Image.fromarray(np.ascontiguousarray(values))


def _shape_advice(shape: tuple[int, ...]) -> str:
    advice = f"an array of shape {shape}; give (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
    if len(shape) == _COLOURS and shape[0] in _CHANNELS:
        advice += ". It looks channels first: transpose it to channels last"
    if len(shape) > _COLOURS:
        advice += ". Give a list of images, not one array of all"
    return advice


def _png(image: "Image.Image") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=_FAST_PNG)
    return buffer.getvalue()
