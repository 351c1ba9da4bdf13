"""Label embeddings: templates filled, encoded once, kept, and averaged over templates."""

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

FloatArray = npt.NDArray[np.float32]
EncodeTexts = Callable[[Sequence[str]], FloatArray]

DEFAULT_TEMPLATE = "a photo of a {}."


def fill(template: str, label: str) -> str:
    """Put the label in the place of the template's `{}`."""
    return template.replace("{}", label)


class LabelEncoder:
    """Embeddings of labels, encoding only those prompts that are not in the cache.

    Text encoding is the dear part of a request, and services ask for the same labels again.
    """

    def __init__(self, encode_texts: EncodeTexts, cache_size: int) -> None:
        """Make an encoder.

        Args:
            encode_texts: n texts to unit-norm embeddings (n, d).
            cache_size: how many prompts are kept, least recently used leave first.
        """
        self._encode_texts = encode_texts
        self._cache: LRUCache[str, FloatArray] = LRUCache(maxsize=cache_size)
        self._lock = Lock()

    def embed(self, labels: Sequence[str], templates: Sequence[str]) -> FloatArray:
        """w, (labels, d): the mean over templates of unit-norm embeddings, normalised again."""
        prompts = [[fill(template, label) for template in templates] for label in labels]
        embeddings = self._lookup([prompt for row in prompts for prompt in row])
        stacked = np.stack([[embeddings[prompt] for prompt in row] for row in prompts])
        mean = stacked.mean(axis=1)
        out: FloatArray = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return out

    def _lookup(self, prompts: Sequence[str]) -> dict[str, FloatArray]:
        with self._lock:
            known = {prompt: self._cache.get(prompt) for prompt in dict.fromkeys(prompts)}
        missing = [prompt for prompt, embedding in known.items() if embedding is None]
        fresh = dict(zip(missing, self._encode_texts(missing), strict=True)) if missing else {}
        if self._cache.maxsize:
            with self._lock:
                self._cache.update(fresh)
        return {prompt: e for prompt, e in known.items() if e is not None} | fresh
