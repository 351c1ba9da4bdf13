"""Several views of one image: itself and its corners, for test-time augmentation without chance."""

from PIL import Image

CROPS = 5
"""How many views there are."""

_SHARE = 0.75


def crop(image: Image.Image, number: int) -> Image.Image:
    """A view of an image: 0 is the image, 1 to 4 are its corners, three quarters of each side.

    ZERO (Farina et al. 2024, arXiv 2405.18330) and MTA (Zanella and Ben Ayed 2024,
    arXiv 2405.02266) draw crops at random; these are the same every time.

    Args:
        image: RGB.
        number: 0 to CROPS - 1.
    """
    if number == 0:
        return image
    width, height = (max(1, round(_SHARE * side)) for side in image.size)
    left = (image.width - width) * ((number - 1) % 2)
    top = (image.height - height) * ((number - 1) // 2)
    return image.crop((left, top, left + width, top + height))
