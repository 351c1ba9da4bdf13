"""A small labelled set, and where the data for measuring lie if they are there."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photos import encode

CLASSES = ["cup_of_coffee", "old bicycle", "red car", "tabby_cat"]
PER_CLASS = 6


def picture(seed: int) -> bytes:
    """Coarse noise: unlike each other to any model."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), np.uint8)
    return encode(Image.fromarray(coarse).resize((60, 48), Image.Resampling.BICUBIC))


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder a class; one file is no image."""
    root = tmp_path_factory.mktemp("sets") / "things"
    for row, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            (root / name / f"{number}.png").write_bytes(picture(100 * row + number))
    (root / "red car" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="session")
def labelled_data() -> Path:
    """`eval/` of the data that training and measuring use, see training/README.md."""
    named = os.environ.get("TEST_DATA")
    if named is None or not (Path(named) / "eval").is_dir():
        pytest.skip("takes minutes and labelled photos; name their folder in TEST_DATA")
    return Path(named) / "eval"
