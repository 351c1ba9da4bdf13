"""Arrays made for tests."""

import numpy as np
import numpy.typing as npt

DIM = 8


def unit(rng: np.random.Generator, n: int, dim: int = DIM) -> npt.NDArray[np.float32]:
    """n random unit-norm rows."""
    x = rng.standard_normal((n, dim))
    rows: npt.NDArray[np.float32] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("f4")
    return rows
