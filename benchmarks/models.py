"""The models that are measured, each with a collection that fits it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
from safetensors.torch import save_file

from app.clip.model import FloatArray, load_model
from app.engine import stamp
from app.index.build import Options, build_collection
from app.index.manifest import ModelStamp
from app.index.sources.detect import captions_in_memory
from app.settings import LOCAL_DIR, Precision, Settings
from benchmarks import words

MINI = "mini"
ARCHITECTURES = ("ViT-B-32", "ViT-B-16")

_CAPTIONS = 40_000
"""About as many as the carried collection holds."""


@dataclass(frozen=True, slots=True)
class BenchModel:
    """A model and its collection.

    Attributes:
        name: for the tables.
        model: as `XMORE_MODEL` takes it.
        index: as `XMORE_INDEX` takes it.
        shape: its `model_cfg`, where it is an architecture that transformers has too.
    """

    name: str
    model: str
    index: str
    shape: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The settings that choose it."""
        return {"XMORE_MODEL": self.model, "XMORE_INDEX": self.index}

    @property
    def settings(self) -> Settings:
        """The same, for this process."""
        return Settings(model=self.model, index=self.index)


@dataclass(frozen=True, slots=True)
class RandomEmbedder:
    """Random unit vectors in a model's name: a search costs the same whatever is found."""

    stamp: ModelStamp
    rng: np.random.Generator

    def texts(self, captions: Sequence[str]) -> FloatArray:
        """N captions to unit-norm embeddings (n, d) float32."""
        shape = (len(captions), self.stamp.embed_dim)
        vectors = self.rng.standard_normal(shape, dtype=np.float32)
        unit: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def images(self, files: Sequence[bytes]) -> list[FloatArray | str]:
        """The same for images."""
        return list(self.texts([""] * len(files)))


def prepare(name: str, folder: Path) -> BenchModel:
    """The carried model, or an architecture of open_clip with random weights, made in `folder`."""
    if name == MINI:
        carried = Settings.model_fields
        return BenchModel(name, carried["model"].default, carried["index"].default)
    directory = folder / name
    directory.mkdir(parents=True)
    shape = open_clip.get_model_config(name)
    network, preprocess = open_clip.create_model(name), {"mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD}  # fmt: skip
    config = {"model_cfg": shape, "preprocess_cfg": preprocess}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    save_file(network.state_dict(), directory / "open_clip_model.safetensors")
    model = f"{LOCAL_DIR}{directory}"
    index = folder / f"{name}-captions"
    loaded = load_model(model, None, Precision.FP32)
    build_collection(
        [captions_in_memory(words.captions(_CAPTIONS))],
        index,
        RandomEmbedder(stamp(loaded), np.random.default_rng(0)),
        Options(name=f"{name}-captions"),
    )
    (folder / f"{name}.json").write_text(json.dumps(shape))
    return BenchModel(name, model, str(index), folder / f"{name}.json")
