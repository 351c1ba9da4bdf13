"""Label embeddings: templates filled, encoded once, kept, and averaged over templates."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

FloatArray = npt.NDArray[np.float32]
EncodeTexts = Callable[[Sequence[str]], FloatArray]

DEFAULT_TEMPLATE = "a photo of a {}."


class LabelFileError(Exception):
    """A file of labels or of their embeddings cannot be used; the message says why."""


def read_labels(path: Path) -> list[str]:
    """The lines of a text file that hold something, each once.

    Raises:
        LabelFileError: it cannot be read, or is no text.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise LabelFileError(f"{path} cannot be read as UTF-8 text ({error})") from error
    return list(dict.fromkeys(line for line in lines if line))


def fill(template: str, label: str) -> str:
    """Put the label in the place of the template's `{}`."""
    return template.replace("{}", label)


class PromptStore(Protocol):
    """Where embeddings outlive the process."""

    def load(self, limit: int) -> Mapping[str, FloatArray]:
        """At most `limit` prompts with their embeddings, (d,) float32."""
        ...

    def save(self, embeddings: Mapping[str, FloatArray]) -> None:
        """Keep these as well."""
        ...


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labels under templates, and what the cache knows of them.

    Attributes:
        labels: at least one.
        templates: at least one, each with one `{}`.
        known: embeddings, (d,), of those prompts that were in the cache.
        missing: the other prompts, each once, those of like length together: a batch is as dear as
            its longest.
        embeddings: w, (labels, d), where the whole set was in the cache.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    known: Mapping[str, FloatArray]
    missing: Sequence[str]
    embeddings: FloatArray | None = None


class LabelEncoder:
    """Embeddings of labels, encoding only those prompts that are not in the cache.

    Text encoding is the dear part of a request, and services ask for the same labels again. Prompts
    are kept one by one, and the matrices of whole label sets beside them.
    """

    def __init__(
        self, encode_texts: EncodeTexts, cache_size: int, store: PromptStore | None = None
    ) -> None:
        """Make an encoder.

        Args:
            encode_texts: n texts to unit-norm embeddings (n, d).
            cache_size: how many prompts are kept, least recently used leave first; as many rows of
                whole label sets.
            store: where new embeddings go, and the first ones come from.
        """
        self._encode_texts = encode_texts
        self._prompts: LRUCache[str, FloatArray] = LRUCache(cache_size)
        self._sets: LRUCache[tuple[tuple[str, ...], ...], FloatArray] = LRUCache(cache_size, len)
        self._lock = Lock()
        self._store = store
        self.hits = 0
        self.misses = 0
        if store is not None:
            self._prompts.update(store.load(cache_size))

    def embed(self, labels: Sequence[str], templates: Sequence[str]) -> FloatArray:
        """w, (labels, d): the mean over templates of unit-norm embeddings, normalised again.

        Args:
            labels: at least one.
            templates: at least one, each with one `{}`.
        """
        sought = self.look_up(labels, templates)
        return self.combine(sought, self.encode(sought.missing))

    def look_up(self, labels: Sequence[str], templates: Sequence[str]) -> LabelSet:
        """What the cache knows of these labels."""
        key = tuple(labels), tuple(templates)
        with self._lock:
            embeddings = self._sets.get(key)
            if embeddings is not None:
                self.hits += len(labels) * len(templates)
                return LabelSet(*key, {}, (), embeddings)
        prompts = [fill(template, label) for label in labels for template in templates]
        with self._lock:
            known = self._known(prompts)
            missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
            self.hits += len(known)
            self.misses += len(missing)
        return LabelSet(*key, known, sorted(missing, key=len))

    def encode(self, prompts: Sequence[str]) -> list[FloatArray]:
        """The embedding, (d,), of each prompt; those that have come into the cache are not redone.

        So a prompt that two requests miss at once is encoded once, be they in one batch or in two.
        """
        with self._lock:
            known = self._known(prompts)
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        if missing:
            fresh = dict(zip(missing, self._encode_texts(missing), strict=True))
            self._keep(fresh)
            known |= fresh
        return [known[prompt] for prompt in prompts]

    def combine(self, sought: LabelSet, encoded: Sequence[FloatArray]) -> FloatArray:
        """w, (labels, d), of a label set and the embeddings of what was missing of it."""
        if sought.embeddings is not None:
            return sought.embeddings
        of = {**sought.known, **dict(zip(sought.missing, encoded, strict=True))}
        stacked = np.stack(
            [[of[fill(template, x)] for template in sought.templates] for x in sought.labels]
        )
        mean = stacked.mean(axis=1)
        w: FloatArray = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        w.setflags(write=False)
        if len(w) <= self._sets.maxsize:
            with self._lock:
                self._sets[sought.labels, sought.templates] = w
        return w

    def _known(self, prompts: Iterable[str]) -> dict[str, FloatArray]:
        found = {prompt: self._prompts.get(prompt) for prompt in prompts}
        return {prompt: embedding for prompt, embedding in found.items() if embedding is not None}

    def _keep(self, fresh: Mapping[str, FloatArray]) -> None:
        if not self._prompts.maxsize:
            return
        with self._lock:
            self._prompts.update(fresh)
        if self._store is not None:
            self._store.save(fresh)
