"""`xmore models`: what is listed, and a download for a machine that is offline later."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from open_clip.pretrained import get_pretrained_cfg, list_pretrained

from app.clip.zoo import read_zoo
from app.settings import ROOT
from tests.cli.running import LABELS, answered, refused, watched
from tests.hub import Hub
from tests.hub import hub as serve_hub
from tests.photos import encode, gradient
from tools.models import architecture


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    cache = tmp_path / "huggingface" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def put(cache: Path, repository: str, *names: str) -> None:
    """Lay files into the cache as the hub's client does."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    for name in names:
        path = folder / "snapshots" / "abc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def listed(*arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(answered("models", *arguments, "--json"))
    return rows


@pytest.mark.usefixtures("cache")
def test_every_model_that_open_clip_knows_is_listed_once() -> None:
    rows = listed()
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names)
    assert names[0].startswith("local-dir:")
    known = {f"{name.removesuffix('-quickgelu')}/{tag}" for name, tag in list_pretrained()}
    assert set(names[1:]) == known
    for weights in read_zoo().weights:
        assert weights.hub == get_pretrained_cfg(weights.architecture, weights.pretrained)["hf_hub"]


@pytest.mark.parametrize("name", ["RN50", "ViT-B-32", "MobileCLIP2-S0", "roberta-ViT-B-32"])
def test_sizes_are_those_of_the_architecture(name: str) -> None:
    found = read_zoo().architectures[name]
    counted = architecture(name)
    assert (found.parameters, found.image_size) == (counted["parameters"], counted["image_size"])
    assert found.needs_transformers == counted["needs_transformers"]


def test_every_figure_belongs_to_a_model_and_has_a_source() -> None:
    lines = (ROOT / "app/clip/accuracy.csv").read_text(encoding="utf-8").splitlines()[1:]
    figures = [weights for weights in read_zoo().weights if weights.imagenet_top1 is not None]
    assert len(figures) == len(lines)
    assert all(0.5 < (weights.imagenet_top1 or 0) < 0.9 for weights in figures)
    assert all(line.split(",")[3] for line in lines)


@pytest.mark.usefixtures("cache")
def test_patterns_choose() -> None:
    assert {row["name"].partition("/")[0] for row in listed("vit-b-16/")} == {"ViT-B-16"}
    (row,) = listed("vit-b-16/", "OPENAI")
    assert row == {
        "name": "ViT-B-16/openai",
        "parameters": 149620737,
        "image_size": 224,
        "imagenet_top1": 0.6834,
        "needs_transformers": False,
        "on_disk": None,
    }
    assert listed("list", "vit-b-16/", "openai") == [row]
    assert "no model of this name" in refused(1, "models", "nonesuch")


def test_the_table_says_what_is_on_disk(cache: Path) -> None:
    put(cache, "timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors")
    put(cache, "maker/own", "open_clip_config.json", "open_clip_pytorch_model.bin")
    put(cache, "maker/other", "config.json")
    table = answered("models", "vit-b-16/", "openai").splitlines()
    assert table[0].split() == ["name", "parameters", "image", "top-1", "on", "disk", "needs"]
    assert table[1].split() == ["ViT-B-16/openai", "150", "M", "224", "px", "68.3%", "yes"]
    rows = listed("--on-disk")
    names = [row["name"] for row in rows]
    assert names[0].startswith("local-dir:")
    assert names[1:] == ["hf-hub:maker/own", "ViT-B-16/openai"]
    assert all(Path(row["on_disk"]).exists() for row in rows)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-B-16/opnai", "Perhaps ViT-B-16/openai"),
        ("ViT-B-32-256", "Perhaps ViT-B-32-256/datacomp_s34b_b86k?"),
        ("nonesuch", "`xmore models` lists them"),
        ("local-dir:here", "on this machine already"),
    ],
)
def test_a_name_that_is_none_is_a_usage_error(name: str, said: str) -> None:
    assert said in refused(2, "models", "get", name)


@pytest.fixture
def hub(tiny_model_dir: Path) -> Iterator[Hub]:
    with serve_hub() as state:
        files = {path.name: path.read_bytes() for path in tiny_model_dir.iterdir()}
        state.files["maker/tiny"] = files
        yield state


def test_what_was_got_serves_without_a_network(hub: Hub, tmp_path: Path) -> None:
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    get = ("models", "get", "hf-hub:maker/tiny")
    seen, said = watched(*get, environment=environment)
    assert said == "export XMORE_MODEL=hf-hub:maker/tiny\n"
    assert "open_clip_model.safetensors: 100%" in seen
    assert "All of it is on disk now." in seen
    assert hub.asked

    hub.asked.clear()
    photo = (tmp_path / "photo.png").absolute()
    photo.write_bytes(encode(gradient()))
    environment["XMORE_MODEL"] = "hf-hub:maker/tiny"
    seen, said = watched("classify", photo, *LABELS, "--json", environment=environment)
    assert json.loads(said)[0]["filename"] == str(photo)
    assert seen == ""
    assert hub.asked == []
