"""Whether a service's answer is right: an error is quick to give, and worth nothing."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Check = Callable[[int, bytes], bool]
"""Given the number of the photo and the body of the answer."""

_TOLERANCE = 0.02
"""Labels whose probabilities differ by less may change places: batches of other sizes round
differently, and random weights hardly tell labels apart."""


def acceptable(probabilities: Sequence[Mapping[str, float]]) -> tuple[frozenset[str], ...]:
    """For each photo the labels that may come first, given what is expected of each label."""
    return tuple(
        frozenset(label for label, p in row.items() if p >= max(row.values()) - _TOLERANCE)
        for row in probabilities
    )


@dataclass(frozen=True, slots=True)
class TopLabel:
    """The first label is one of those that may come first.

    Attributes:
        path: keys and positions that lead to the first label in the JSON of an answer.
        accepted: for each photo.
    """

    path: tuple[str | int, ...]
    accepted: tuple[frozenset[str], ...]

    def __call__(self, photo: int, body: bytes) -> bool:
        """Whether it is."""
        found: Any = json.loads(body)
        for step in self.path:
            found = found[step]
        return found in self.accepted[photo]


@dataclass(frozen=True, slots=True)
class UnitEmbedding:
    """There is one embedding, in the shape that OpenAI's clients read, and it has length 1."""

    dim: int

    def __call__(self, _: int, body: bytes) -> bool:
        """Whether there is."""
        (item,) = json.loads(body)["data"]
        vector = np.asarray(item["embedding"], np.float32)
        return vector.shape == (self.dim,) and abs(float(np.linalg.norm(vector)) - 1) < 0.01
