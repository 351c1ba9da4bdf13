"""Embedders made for tests."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NoReturn

import numpy as np

from app.index.manifest import CollectionError, ModelStamp
from app.index.search import FloatArray, normalised
from app.settings import Settings

EmbedTexts = Callable[[Sequence[str]], FloatArray]


def embed_by_hash(contents: Sequence[bytes], dim: int) -> FloatArray:
    """A unit vector to each content, the same one every time."""
    seeds = [int.from_bytes(blake2b(content, digest_size=8).digest()) for content in contents]
    rows = [np.random.default_rng(seed).standard_normal(dim) for seed in seeds]
    return normalised(np.reshape(rows, (len(rows), dim)))


@dataclass(frozen=True)
class FakeEmbedder:
    """Texts by a given function, or by their hash; images by their hash, unless they say `bad`."""

    stamp: ModelStamp
    embed_texts: EmbedTexts | None = None

    def texts(self, captions: Sequence[str]) -> FloatArray:
        if self.embed_texts is not None:
            return self.embed_texts(captions)
        return embed_by_hash([caption.encode() for caption in captions], self.stamp.embed_dim)

    def images(self, files: Sequence[bytes]) -> list[FloatArray | str]:
        vectors = embed_by_hash(files, self.stamp.embed_dim)
        return [
            "not an image" if file.startswith(b"bad") else vector
            for file, vector in zip(files, vectors, strict=True)
        ]


@dataclass(frozen=True)
class Watched:
    """Writes the first caption of each batch down, and can kill its process.

    Attributes:
        stamp: the model that it plays.
        log: where the captions are written, by all processes.
        fatal: a caption whose batch kills the process that embeds it.
        kills: how many times.
    """

    stamp: ModelStamp
    log: Path
    fatal: str = ""
    kills: int = 0

    def texts(self, captions: Sequence[str]) -> FloatArray:
        with self.log.open("a") as file:
            file.write(f"{captions[0]}\n")
        begun = self.log.read_text().splitlines().count(captions[0])
        if self.fatal in captions and begun <= self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return FakeEmbedder(self.stamp).texts(captions)

    def images(self, files: Sequence[bytes]) -> list[FloatArray | str]:
        return FakeEmbedder(self.stamp).images(files)


def no_model() -> NoReturn:
    """Where an embedder should be made."""
    raise CollectionError("There is no such model.")


def fake_model(settings: Settings) -> FakeEmbedder:
    """In place of `app.embedder.load_embedder`."""
    digest = blake2b(settings.model.encode(), digest_size=32).hexdigest()
    return FakeEmbedder(ModelStamp(name="fake", fingerprint=digest, embed_dim=8))
