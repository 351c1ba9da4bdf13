"""Keep images with extreme sides from growing without bounds when their short side is resized.

CLIP's usual preprocessing resizes the short side to the model's and then takes the middle. A strip
of 20,000 by 1 pixels would become billions of pixels on the way, of which nearly all are thrown
away; cutting to the middle first gives the same crop.
"""

from collections.abc import Callable

from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, Resize

_MAX_RATIO = 16
"""Far more than the middle square and what interpolation sees beyond it."""

Preprocess = Callable[[Image.Image], Tensor]


def within_reason(preprocess: Preprocess) -> Preprocess:
    """The same preprocessing, cutting strips first where it would resize their short side."""
    steps = preprocess.transforms if isinstance(preprocess, Compose) else []
    resizes_short_side = any(isinstance(s, Resize) and isinstance(s.size, int) for s in steps)
    if not resizes_short_side or not any(isinstance(step, CenterCrop) for step in steps):
        return preprocess
    return lambda image: preprocess(middle(image))


def middle(image: Image.Image) -> Image.Image:
    """The middle of a strip, or the image itself if it is none."""
    width, height = image.size
    longest = _MAX_RATIO * min(width, height)
    # An even number of pixels is cut, so that the middle stays where it is.
    cut_x, cut_y = (max(0, side - longest) // 2 for side in (width, height))
    if not cut_x and not cut_y:
        return image
    return image.crop((cut_x, cut_y, width - cut_x, height - cut_y))
