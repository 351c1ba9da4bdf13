"""What a build needs of a model."""

from collections.abc import Sequence
from typing import Protocol

from app.index.manifest import ModelStamp
from app.index.search import FloatArray


class Embedder(Protocol):
    """A model that embeds the captions and images of a collection."""

    @property
    def stamp(self) -> ModelStamp:
        """Which model it is."""
        ...

    def texts(self, captions: Sequence[str]) -> FloatArray:
        """N captions to unit-norm embeddings (n, d) float32."""
        ...

    def images(self, files: Sequence[bytes]) -> list[FloatArray | str]:
        """N image files, each to its unit-norm embedding (d,), or to why it cannot be read."""
        ...
