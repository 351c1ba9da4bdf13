"""Loading a CLIP model with open_clip, and what its two towers answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from app.clip.model import ClipModel, load_model, short_name, weights_fingerprint
from app.clip.weights import ModelError
from app.settings import Device, Precision
from tests.conftest import TINY_CONFIG
from tests.photos import gradient

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
DIM = 16

TEXTS = ["a photo of a cat.", "a photo of a dog.", "", "naïve 猫 🐈"]


def load(directory: Path, precision: Precision = Precision.FP32) -> ClipModel:
    return load_model(f"local-dir:{directory}", None, precision)


def open_clip_alone(directory: Path) -> tuple[Any, Callable[[Image.Image], Tensor]]:
    network, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{directory}")
    return network.eval(), preprocess


def photos() -> list[Image.Image]:
    return [gradient(), gradient(100, 30).rotate(90, expand=True), gradient(32, 32)]


@pytest.fixture
def model_copy(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """The tiny model's files, free to be damaged."""
    directory = tmp_path / "copy"
    directory.mkdir()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        (directory / name).write_bytes((tiny_model_dir / name).read_bytes())
    return directory


def test_images_become_unit_norm_rows(tiny_model: ClipModel) -> None:
    v = tiny_model.encode_images([tiny_model.pixels(photo) for photo in photos()])
    assert v.shape == (3, DIM)
    assert v.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1, atol=1e-5)


def test_texts_become_unit_norm_rows(tiny_model: ClipModel) -> None:
    t = tiny_model.encode_texts(TEXTS)
    assert t.shape == (len(TEXTS), DIM)
    assert t.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(t, axis=1), 1, atol=1e-5)


def test_no_texts_become_no_rows(tiny_model: ClipModel) -> None:
    assert tiny_model.encode_texts([]).shape == (0, DIM)


def test_many_texts_keep_their_order_over_batches(tiny_model: ClipModel) -> None:
    texts = [f"text number {i}" for i in range(150)]
    together = tiny_model.encode_texts(texts)
    assert together.shape == (150, DIM)
    for i in (0, 63, 64, 127, 128, 149):
        np.testing.assert_allclose(together[i], tiny_model.encode_texts([texts[i]])[0], atol=1e-5)


def test_a_text_beyond_the_context_is_cut_off(tiny_model: ClipModel) -> None:
    t = tiny_model.encode_texts(["cat " * 1000, "cat " * 2000])
    np.testing.assert_allclose(t[0], t[1], atol=1e-6)


def test_the_model_describes_itself(tiny_model: ClipModel) -> None:
    assert tiny_model.name == "tiny"
    assert tiny_model.embed_dim == DIM
    assert tiny_model.dtype == torch.float32
    assert tiny_model.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert not tiny_model.network.training
    assert not any(parameter.requires_grad for parameter in tiny_model.network.parameters())


def test_it_agrees_with_open_clip_alone(tiny_model: ClipModel, tiny_model_dir: Path) -> None:
    network, preprocess = open_clip_alone(tiny_model_dir)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_model_dir}")
    pixels = [tiny_model.pixels(photo) for photo in photos()]
    with torch.inference_mode():
        batch = torch.stack([preprocess(photo) for photo in photos()])
        v = normalize(network.encode_image(batch), dim=-1).numpy()
        t = normalize(network.encode_text(tokenizer(TEXTS)), dim=-1).numpy()
    np.testing.assert_allclose(tiny_model.encode_images(pixels), v, atol=1e-5)
    np.testing.assert_allclose(tiny_model.encode_texts(TEXTS), t, atol=1e-5)
    assert tiny_model.logit_scale == pytest.approx(network.logit_scale.exp().item())


def test_bf16_stays_near_fp32_and_keeps_the_fingerprint(
    tiny_model: ClipModel, tiny_model_dir: Path
) -> None:
    half = load(tiny_model_dir, Precision.BF16)
    assert half.dtype == torch.bfloat16
    assert half.fingerprint == tiny_model.fingerprint
    assert half.logit_scale == pytest.approx(tiny_model.logit_scale, rel=0.01)
    pixels = [tiny_model.pixels(photo) for photo in photos()]
    for ours, exact in (
        (half.encode_images(pixels), tiny_model.encode_images(pixels)),
        (half.encode_texts(TEXTS), tiny_model.encode_texts(TEXTS)),
    ):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
        assert (ours * exact).sum(axis=1).min() > 0.99


def test_two_loads_have_one_fingerprint(tiny_model: ClipModel, tiny_model_dir: Path) -> None:
    assert load(tiny_model_dir).fingerprint == tiny_model.fingerprint
    assert len(tiny_model.fingerprint) == 64
    network, _ = open_clip_alone(tiny_model_dir)
    assert weights_fingerprint(network) == tiny_model.fingerprint


@pytest.mark.parametrize("weight", ["visual.conv1.weight", "token_embedding.weight", "logit_scale"])
def test_one_changed_weight_changes_the_fingerprint(
    tiny_model: ClipModel, model_copy: Path, weight: str
) -> None:
    weights = load_file(model_copy / WEIGHTS_FILE)
    weights[weight].view(-1)[-1] += 1e-3
    save_file(weights, model_copy / WEIGHTS_FILE)
    assert load(model_copy).fingerprint != tiny_model.fingerprint


def test_names_and_shapes_count_in_the_fingerprint() -> None:
    def ones(name: str, *shape: int) -> nn.Module:
        module = nn.Module()
        module.register_buffer(name, torch.ones(shape))
        return module

    fingerprints = {
        weights_fingerprint(module)
        for module in (ones("a", 2, 3), ones("a", 3, 2), ones("a", 6), ones("b", 2, 3), ones("a"))
    }
    assert len(fingerprints) == 5
    assert weights_fingerprint(ones("a", 2, 3)) in fingerprints


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert CONFIG_FILE in str(caught.value)


def test_a_directory_without_files_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"needs {CONFIG_FILE} and {WEIGHTS_FILE}"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_a_damaged_config_says_what_is_needed(model_copy: Path, content: str) -> None:
    (model_copy / CONFIG_FILE).write_text(content)
    with pytest.raises(ModelError, match=f"cannot be loaded. The directory needs {CONFIG_FILE}"):
        load(model_copy)


def test_missing_weights_are_not_replaced_by_random_ones(model_copy: Path) -> None:
    (model_copy / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match=WEIGHTS_FILE):
        load(model_copy)


def test_weights_of_another_shape_are_refused(model_copy: Path) -> None:
    config = json.loads(json.dumps(TINY_CONFIG))
    config["model_cfg"]["vision_cfg"]["width"] = 48
    (model_copy / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(ModelError, match="size mismatch"):
        load(model_copy)


@pytest.mark.parametrize(
    ("name", "pretrained"), [("no-such-architecture", "openai"), ("RN50", "no-such-weights")]
)
def test_an_unknown_architecture_or_tag_is_named(name: str, pretrained: str) -> None:
    with pytest.raises(ModelError, match=f"{name} cannot be loaded.*'{pretrained}'"):
        load_model(name, pretrained, Precision.FP32)


@pytest.mark.parametrize(
    ("name", "pretrained", "short"),
    [
        ("hf-hub:timm/ViT-B-16-SigLIP", None, "ViT-B-16-SigLIP"),
        ("ViT-B-32", "openai", "ViT-B-32/openai"),
        ("ViT-B-32-quickgelu", "laion400m_e32", "ViT-B-32-quickgelu/laion400m_e32"),
        ("RN50", "weights/cc12m.pt", "RN50/cc12m"),
    ],
)
def test_names_reach_open_clip_unchanged(
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: ClipModel,
    tiny_model_dir: Path,
    name: str,
    pretrained: str | None,
    short: str,
) -> None:
    network, preprocess = open_clip_alone(tiny_model_dir)
    asked: list[tuple[str, str | None]] = []
    tokenizers: list[str] = []

    def create(
        name: str, pretrained: str | None = None, *, force_quick_gelu: bool = False
    ) -> tuple[Any, Any]:
        asked.append((name, pretrained))
        assert force_quick_gelu == (pretrained == "openai" or "quickgelu" in name)
        return network, preprocess

    def get_tokenizer(name: str) -> Callable[[list[str]], Tensor]:
        tokenizers.append(name)
        return tiny_model.tokenizer._tokenize

    monkeypatch.setattr("app.clip.model.fetch", lambda *_: None)
    monkeypatch.setattr(open_clip, "create_model_from_pretrained", create)
    monkeypatch.setattr(open_clip, "get_tokenizer", get_tokenizer)
    model = load_model(name, pretrained, Precision.FP32)
    assert asked == [(name, pretrained)]
    assert tokenizers == [name]
    assert model.name == short
    assert model.fingerprint == tiny_model.fingerprint


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("no file"), "open_clip's format"),
        (RuntimeError("no tag"), "open_clip's format"),
        (ValueError("odd"), "open_clip's format"),
        (ImportError("no transformers"), "pip install transformers"),
    ],
)
def test_what_open_clip_cannot_load_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    def create(_name: str, **_: Any) -> Any:
        raise error

    monkeypatch.setattr("app.clip.model.fetch", lambda *_: None)
    monkeypatch.setattr(open_clip, "create_model_from_pretrained", create)
    with pytest.raises(ModelError, match=f"hf-hub:org/name cannot be loaded.*{advice}") as caught:
        load_model("hf-hub:org/name", None, Precision.FP32)
    assert str(error) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "pretrained", "short"),
    [
        ("local-dir:models/mini", None, "mini"),
        ("local-dir:models/mini/", None, "mini"),
        ("local-dir:models/mini/../other", None, "other"),
        ("hf-hub:org/name", None, "name"),
        ("hf-hub:name", None, "name"),
        ("ViT-B-32", "openai", "ViT-B-32/openai"),
        ("ViT-B-32", "some/where/weights.safetensors", "ViT-B-32/weights"),
    ],
)
def test_short_names(name: str, pretrained: str | None, short: str) -> None:
    assert short_name(name, pretrained) == short


def test_the_short_name_of_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_name("local-dir:.", None) == tmp_path.name


@pytest.mark.parametrize(
    "weights", [b"", b"not safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}"]
)
def test_damaged_weights_are_refused_in_words(
    tmp_path: Path, tiny_model_dir: Path, weights: bytes
) -> None:
    (tmp_path / CONFIG_FILE).write_bytes((tiny_model_dir / CONFIG_FILE).read_bytes())
    (tmp_path / WEIGHTS_FILE).write_bytes(weights)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(f"local-dir:{tmp_path}", None, Precision.FP32)


@pytest.mark.parametrize("config", [{"model_cfg": {}}, {"model_cfg": {"embed_dim": 16, "x": 1}}])
def test_a_config_that_open_clip_does_not_take_is_refused_in_words(
    tmp_path: Path, tiny_model_dir: Path, config: dict[str, object]
) -> None:
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    (tmp_path / WEIGHTS_FILE).write_bytes((tiny_model_dir / WEIGHTS_FILE).read_bytes())
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(f"local-dir:{tmp_path}", None, Precision.FP32)


def test_texts_longer_than_the_context_are_told(tiny_model: ClipModel) -> None:
    # The tiny model reads 16 tokens, two of which mark the ends.
    texts = ["cat", " ".join(["cat"] * 14), " ".join(["cat"] * 15), "a " * 200, "", "x" * 300]
    assert tiny_model.cut_off(texts)[:5] == [False, False, True, True, False]
    v = tiny_model.encode_texts(texts)
    np.testing.assert_allclose(v[1], v[2], atol=1e-6)


def test_weights_that_would_run_code_are_refused(tmp_path: Path, tiny_model_dir: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return Path(tmp_path / "ran").write_text, ("harm",)  # type: ignore[return-value]

    (tmp_path / CONFIG_FILE).write_bytes((tiny_model_dir / CONFIG_FILE).read_bytes())
    torch.save({"weights": Harmful()}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_missing_gpu_is_told(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="XMORE_DEVICE is cuda"):
        load_model(f"local-dir:{tiny_model_dir}", None, Precision.AUTO, Device.CUDA)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16, Precision.BF16])
def test_a_gpu_answers_as_the_cpu_does(
    tiny_model: ClipModel, tiny_model_dir: Path, precision: Precision
) -> None:
    there = load_model(f"local-dir:{tiny_model_dir}", None, precision, Device.CUDA)
    assert there.fingerprint == tiny_model.fingerprint
    pixels = [tiny_model.pixels(photo) for photo in photos()]
    for ours, exact in (
        (there.encode_images(pixels), tiny_model.encode_images(pixels)),
        (there.encode_texts(TEXTS), tiny_model.encode_texts(TEXTS)),
    ):
        assert (ours * exact).sum(axis=1).min() > 0.99
