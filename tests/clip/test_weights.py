"""Files of models: found on disk, downloaded once, and never asked for again."""

import shutil
import socket
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from open_clip import pretrained as registry

from app.clip import weights
from app.clip.model import ClipModel, load_model
from app.clip.weights import ModelError, fetch, is_on_disk, needed_files
from app.settings import Precision
from tests.conftest import TINY_CONFIG
from tests.hub import Hub
from tests.hub import hub as serve_hub

NAME = "hf-hub:maker/tiny"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model_dir: Path) -> Iterator[Hub]:
    """A hub with the tiny model, and an empty cache."""
    with serve_hub() as state:
        state.files["maker/tiny"] = {
            path.name: path.read_bytes() for path in tiny_model_dir.iterdir()
        }
        monkeypatch.setattr(constants, "ENDPOINT", state.url)
        template = f"{state.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield state


def same(one: ClipModel, other: ClipModel) -> bool:
    return bool(np.array_equal(one.encode_texts(["a cat"]), other.encode_texts(["a cat"])))


def test_a_model_is_downloaded_once_and_then_loaded_without_a_request(
    hub: Hub, tiny_model: ClipModel
) -> None:
    assert not is_on_disk(NAME, None)
    fetch(NAME, None)
    assert any("open_clip_model.safetensors" in line for line in hub.asked)
    hub.asked.clear()
    assert is_on_disk(NAME, None)
    model = load_model(NAME, None, Precision.FP32)
    fetch(NAME, None)
    assert hub.asked == []
    assert model.name == "tiny"
    assert same(model, tiny_model)


def test_a_load_downloads_what_is_missing(hub: Hub, tiny_model: ClipModel) -> None:
    assert same(load_model(NAME, None, Precision.FP32), tiny_model)
    hub.files.clear()
    hub.asked.clear()
    load_model(NAME, None, Precision.FP32)
    assert hub.asked == []


def test_without_safetensors_the_other_file_is_taken(hub: Hub, tiny_model: ClipModel) -> None:
    files = hub.files["maker/tiny"]
    del files["open_clip_model.safetensors"]
    path = Path(constants.HF_HUB_CACHE).parent / "open_clip_pytorch_model.bin"
    torch.save(tiny_model.network.state_dict(), path)
    files[path.name] = path.read_bytes()
    fetch(NAME, None)
    hub.asked.clear()
    assert same(load_model(NAME, None, Precision.FP32), tiny_model)
    assert hub.asked == []


@pytest.fixture
def named(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model_dir: Path) -> Hub:
    """open_clip knows the tiny model as an architecture with two tags."""
    config = tmp_path / "tiny-arch.json"
    # The registry is the library's own, so both of its tables are put back.
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    open_clip.factory._MODEL_CONFIGS[config.stem] = TINY_CONFIG["model_cfg"]
    tags = {
        "one": {"hf_hub": "maker/tiny/"},
        "quick": {"hf_hub": "maker/tiny/weights.bin", "quick_gelu": True},
    }
    monkeypatch.setitem(registry._PRETRAINED, config.stem, tags)
    data = (tiny_model_dir / "open_clip_model.safetensors").read_bytes()
    hub.files["maker/tiny"]["weights.safetensors"] = data
    return hub


def test_an_architecture_and_a_tag_are_downloaded_once(named: Hub) -> None:
    load_model("tiny-arch", "one", Precision.FP32)
    named.asked.clear()
    load_model("tiny-arch", "one", Precision.FP32)
    assert named.asked == []
    assert is_on_disk("tiny-arch", "one")
    assert not is_on_disk("tiny-arch", "quick")


def test_weights_get_the_activation_that_they_were_trained_with(named: Hub) -> None:
    def activation(model: ClipModel) -> str:
        network: Any = model.network
        return type(network.transformer.resblocks[0].mlp.gelu).__name__

    assert activation(load_model("tiny-arch", "one", Precision.FP32)) == "GELU"
    assert activation(load_model("tiny-arch", "quick", Precision.FP32)) == "QuickGELU"
    assert any("weights.safetensors" in line for line in named.asked)


def test_a_repository_that_is_not_there_is_told(hub: Hub) -> None:
    with pytest.raises(ModelError, match="no repository maker/none"):
        load_model("hf-hub:maker/none", None, Precision.FP32)
    with pytest.raises(ModelError, match="no name of a repository"):
        load_model("hf-hub:not a name", None, Precision.FP32)
    hub.files["maker/bare"] = {"open_clip_config.json": b"{}"}
    with pytest.raises(ModelError, match=r"maker/bare has no open_clip_model\.safetensors or"):
        load_model("hf-hub:maker/bare", None, Precision.FP32)


def test_without_a_network_it_fails_at_once_and_says_what_to_do(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        with pytest.raises(ModelError, match=f"`xmore models get {NAME}`"):
            load_model(NAME, None, Precision.FP32)
        silent.settimeout(0.1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
    with pytest.raises(ModelError, match="cannot be reached"):
        load_model(NAME, None, Precision.FP32)
    assert hub.asked == []


def test_the_hubs_own_offline_switch_is_heeded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        load_model(NAME, None, Precision.FP32)
    assert hub.asked == []


def test_a_disk_that_is_too_small_is_told_before_the_download(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - what shutil returns
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(ModelError, match="Make room"):
        fetch(NAME, None)
    assert all(line.startswith("HEAD") for line in hub.asked)


def test_a_directory_needs_nothing_of_the_hub(hub: Hub, tiny_model_dir: Path) -> None:
    name = f"local-dir:{tiny_model_dir}"
    assert is_on_disk(name, None)
    assert list(needed_files(name, None)) == []
    load_model(name, None, Precision.FP32)
    assert hub.asked == []


def test_files_of_a_tokenizer_are_fetched_too_and_those_that_are_none_are_remembered(
    hub: Hub,
) -> None:
    config = b'{"model_cfg": {"text_cfg": {"hf_tokenizer_name": "maker/words"}}}'
    hub.files["maker/multi"] = {
        "open_clip_config.json": config,
        "open_clip_model.safetensors": b"weights",
    }
    hub.files["maker/words"] = {"tokenizer_config.json": b"{}", "tokenizer.json": b"{}"}
    fetch("hf-hub:maker/multi", None)
    assert any("words/resolve/main/tokenizer.json" in line for line in hub.asked)
    hub.asked.clear()
    assert is_on_disk("hf-hub:maker/multi", None)
    fetch("hf-hub:maker/multi", None)
    assert hub.asked == []
