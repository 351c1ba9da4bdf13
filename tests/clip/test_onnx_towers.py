"""ONNX Runtime gives the features that torch gives, or the model is refused in words."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from app.clip.model import ClipModel, load_model
from app.clip.weights import ModelError
from app.settings import ROOT, InferenceEngine, Precision
from tests.conftest import TINY_CONFIG
from tests.photos import gradient

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")

TEXTS = ["cat", "a photo of a small grey dog.", "", "word " * 40]
CARRIED = f"local-dir:{ROOT / 'models' / 'mini'}"


def load(directory: Path, cache: Path) -> ClipModel:
    return load_model(f"local-dir:{directory}", None, Precision.AUTO, onnx_cache=cache)


def agree(ours: ClipModel, exact: ClipModel, photos: int) -> None:
    pixels = [exact.pixels(gradient(40 + 9 * i, 40).rotate(20 * i)) for i in range(photos)]
    np.testing.assert_allclose(
        ours.encode_images(pixels), exact.encode_images(pixels), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(
        ours.encode_texts(TEXTS), exact.encode_texts(TEXTS), rtol=0, atol=1e-5
    )


@pytest.fixture(scope="module")
def exported(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the tiny model."""
    cache = tmp_path_factory.mktemp("exports") / "made" / "on" / "demand"
    load(tiny_model_dir, cache)
    return cache


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A cache with the tiny model, free to be damaged."""
    shutil.copytree(exported, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def export(*_args: object, **_options: object) -> None:
        raise torch.onnx.OnnxExporterError

    with monkeypatch.context() as patched:
        patched.setattr(torch.onnx, "export", export)
        yield


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize("photos", [1, 2, 5])
def test_embeddings_are_those_of_torch(
    tiny_model: ClipModel, tiny_model_dir: Path, exported: Path, photos: int
) -> None:
    ours = load(tiny_model_dir, exported)
    assert ours.fingerprint == tiny_model.fingerprint
    assert ours.engine is InferenceEngine.ONNX
    assert ours.dtype == torch.float32
    agree(ours, tiny_model, photos)


def test_the_carried_model_answers_as_in_torch(tmp_path: Path) -> None:
    agree(
        load_model(CARRIED, None, Precision.AUTO, onnx_cache=tmp_path),
        load_model(CARRIED, None, Precision.FP32),
        3,
    )


def test_a_text_tower_that_reads_the_padding_is_exported_whole(tmp_path: Path) -> None:
    text = TINY_CONFIG["model_cfg"]["text_cfg"] | {"pool_type": "last"}
    config = TINY_CONFIG | {"model_cfg": TINY_CONFIG["model_cfg"] | {"text_cfg": text}}
    directory = tmp_path / "last"
    directory.mkdir()
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    network = open_clip.CLIP(**config["model_cfg"])
    save_file(network.state_dict(), directory / "open_clip_model.safetensors")
    exact = load_model(f"local-dir:{directory}", None, Precision.FP32)
    agree(load(directory, tmp_path / "cache"), exact, 1)


def test_weights_are_not_held_twice(tiny_model_dir: Path, exported: Path) -> None:
    network = load(tiny_model_dir, exported).network
    assert all(tensor.is_meta for tensor in network.state_dict().values())


def test_nothing_but_the_export_is_left_in_the_cache(exported: Path) -> None:
    (entry,) = exported.iterdir()
    assert {path.suffix for path in entry.iterdir()} == {".onnx", ".data"}


def test_it_has_as_many_threads_as_torch(exported: Path) -> None:
    from app.clip.onnx_towers import onnx_session

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        session = onnx_session(next(exported.rglob("image.onnx")))
    finally:
        torch.set_num_threads(before)
    assert session.get_session_options().intra_op_num_threads == 3


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("content", [None, b"", b"no protobuf"])
def test_a_damaged_export_is_named(
    tiny_model_dir: Path, copied: Path, tower: str, content: bytes | None
) -> None:
    file = next(copied.rglob(f"{tower}.onnx"))
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=f"{tower} tower: remove .* XMORE_ENGINE=torch") as caught:
        load(tiny_model_dir, copied)
    assert str(file.parent) in str(caught.value)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_an_export_that_answers_otherwise_is_refused(
    tiny_model_dir: Path, copied: Path, tower: str
) -> None:
    weights = next(copied.rglob(f"{tower}.onnx.data"))
    values = np.frombuffer(weights.read_bytes(), np.float32)
    weights.write_bytes(np.random.default_rng(0).permutation(values).tobytes())
    with pytest.raises(ModelError, match=f"{tower} tower answers otherwise .*XMORE_ENGINE=torch"):
        load(tiny_model_dir, copied)


@pytest.mark.usefixtures("no_export")
def test_a_tower_that_cannot_be_exported_is_told_in_words(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"image tower cannot be exported.*XMORE_ENGINE=torch"):
        load(tiny_model_dir, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tiny_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"cannot be written: set XMORE_ENGINE_CACHE"):
        load(tiny_model_dir, tmp_path / "file" / "cache")


def test_two_networks_have_two_places(tiny_model: ClipModel) -> None:
    from app.clip.onnx_towers import _entry

    network = tiny_model.network
    other: Any = nn.Sequential(network)
    entries = {_entry(network, "a"), _entry(network, "b"), _entry(other, "a")}
    assert len(entries) == 3
    assert _entry(network, "a") in entries


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "app.clip.onnx_towers", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install 'xmore\[onnx\]', or set XMORE_ENGINE=torch"):
        load(tiny_model_dir, tmp_path)
