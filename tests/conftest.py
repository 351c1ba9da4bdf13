"""A tiny CLIP in open_clip's directory format and a collection made with it, for quick tests."""

import json
import os
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from loky import cpu_count
from safetensors.torch import save_file

from app.clip.model import ClipModel, load_model
from app.embedder import ClipEmbedder
from app.engine import Engine
from app.index.build import Options, build_collection
from app.index.sources.detect import captions_in_memory
from app.settings import Precision, Settings


def _share_cores() -> None:
    """Of several test processes, each takes its part of the cores, and so do those it starts."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    cores = max(1, cpu_count() // workers)
    if workers > 1:
        os.environ |= {"LOKY_MAX_CPU_COUNT": str(cores), "OMP_NUM_THREADS": str(cores)}
        torch.set_num_threads(cores)


_share_cores()

TINY_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}

CAPTIONS = [
    f"{article} {thing} {place}"
    for place in ("on a table", "in the rain", "under a tree", "by the sea")
    for article, thing in (
        ("a", "tabby cat"),
        ("a", "brown dog"),
        ("a", "red car"),
        ("a", "cup of coffee"),
        ("an", "old bicycle"),
        ("a", "blue umbrella"),
    )
]


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights from a fixed seed."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    directory.mkdir()
    (directory / "open_clip_config.json").write_text(json.dumps(TINY_CONFIG))
    torch.manual_seed(0)
    network = open_clip.CLIP(**TINY_CONFIG["model_cfg"])
    save_file(network.state_dict(), directory / "open_clip_model.safetensors")
    return directory


@pytest.fixture(scope="session")
def tiny_model(tiny_model_dir: Path) -> ClipModel:
    return load_model(f"local-dir:{tiny_model_dir}", None, Precision.FP32)


@pytest.fixture(scope="session")
def tiny_index_dir(tmp_path_factory: pytest.TempPathFactory, tiny_model: ClipModel) -> Path:
    directory = tmp_path_factory.mktemp("indexes") / "tiny-index"
    build_collection(
        [captions_in_memory(CAPTIONS)],
        directory,
        ClipEmbedder(tiny_model, max_pixels=1_000_000),
        Options(name="tiny-index"),
    )
    return directory


@pytest.fixture(scope="session")
def tiny_settings(tiny_model_dir: Path, tiny_index_dir: Path) -> Settings:
    return Settings(
        model=f"local-dir:{tiny_model_dir}",
        index=str(tiny_index_dir),
        precision=Precision.FP32,
        threads=1,
        max_image_bytes=200_000,
        max_pixels=1_000_000,
        max_images=4,
        max_labels=50,
        max_label_length=40,
        max_templates=3,
    )


@pytest.fixture(scope="session")
def tiny_engine(tiny_settings: Settings) -> Engine:
    return Engine.load(tiny_settings)
