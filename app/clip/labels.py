"""Label embeddings: templates filled, encoded once, kept, and averaged over templates."""

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

FloatArray = npt.NDArray[np.float32]
EncodeTexts = Callable[[Sequence[str]], FloatArray]
Abandoned = Callable[[], bool]

DEFAULT_TEMPLATE = "a photo of a {}."

_CHUNK = 256


class AbandonedError(Exception):
    """Nobody waits for the embeddings any more."""


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
        self.hits = 0
        self.misses = 0

    def embed(
        self,
        labels: Sequence[str],
        templates: Sequence[str],
        abandoned: Abandoned = lambda: False,
    ) -> FloatArray:
        """w, (labels, d): the mean over templates of unit-norm embeddings, normalised again.

        Args:
            labels: at least one.
            templates: at least one, each with one `{}`.
            abandoned: asked now and then; what was encoded until it says yes stays in the cache.

        Raises:
            AbandonedError: `abandoned` said yes.
        """
        prompts = [[fill(template, label) for template in templates] for label in labels]
        embeddings = self._lookup([prompt for row in prompts for prompt in row], abandoned)
        stacked = np.stack([[embeddings[prompt] for prompt in row] for row in prompts])
        mean = stacked.mean(axis=1)
        out: FloatArray = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return out

    def _lookup(self, prompts: Sequence[str], abandoned: Abandoned) -> dict[str, FloatArray]:
        with self._lock:
            cached = {prompt: self._cache.get(prompt) for prompt in dict.fromkeys(prompts)}
        known = {prompt: e for prompt, e in cached.items() if e is not None}
        missing = [prompt for prompt in cached if prompt not in known]
        self.hits += len(known)
        self.misses += len(missing)
        for start in range(0, len(missing), _CHUNK):
            if abandoned():
                raise AbandonedError
            known |= self._encode(missing[start : start + _CHUNK])
        return known

    def _encode(self, prompts: Sequence[str]) -> dict[str, FloatArray]:
        fresh = dict(zip(prompts, self._encode_texts(prompts), strict=True))
        if self._cache.maxsize:
            with self._lock:
                self._cache.update(fresh)
        return fresh
