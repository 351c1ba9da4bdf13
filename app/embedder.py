"""A CLIP model as the builder of collections sees it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from app.clip.decode import ImageError, decode_image
from app.clip.model import ClipModel, FloatArray, load_chosen_model
from app.engine import stamp
from app.index.manifest import ModelStamp
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class ClipEmbedder:
    """Satisfies `app.index.embedder.Embedder`.

    Attributes:
        model: the model that is to serve the collection.
        max_pixels: largest image, width times height.
    """

    model: ClipModel
    max_pixels: int

    @property
    def stamp(self) -> ModelStamp:
        """Which model it is."""
        return stamp(self.model)

    def texts(self, captions: Sequence[str]) -> FloatArray:
        """N captions to unit-norm embeddings (n, d) float32."""
        return self.model.encode_texts(captions)

    def images(self, files: Sequence[bytes]) -> list[FloatArray | str]:
        """N image files, each to its unit-norm embedding (d,), or to why it cannot be read."""
        found = [self._pixels(file) for file in files]
        good = [pixels for pixels in found if isinstance(pixels, Tensor)]
        vectors = iter(self.model.encode_images(good) if good else ())
        return [next(vectors) if isinstance(pixels, Tensor) else pixels for pixels in found]

    def _pixels(self, file: bytes) -> Tensor | str:
        try:
            enough = self.model.preprocess.enough
            return self.model.pixels(decode_image(file, self.max_pixels, enough))
        except ImageError as error:
            return str(error)


def load_embedder(settings: Settings) -> ClipEmbedder:
    """The model that the settings name.

    Raises:
        ModelError: it cannot be loaded.
    """
    return ClipEmbedder(load_chosen_model(settings), settings.max_pixels)
