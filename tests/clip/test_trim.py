"""Texts encoded over trimmed tokens have the embeddings that open_clip gives them."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from app.clip.model import ClipModel
from app.clip.trim import trimmed_encode_text
from tests.conftest import TINY_CONFIG

TEXTS = ["cat", "a photo of a small grey dog.", "", "word " * 40]


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], TEXTS[2:3], TEXTS[3:]])
def test_features_are_those_over_the_whole_context(
    tiny_model: ClipModel, tiny_model_dir: Path, texts: list[str]
) -> None:
    network: Any = tiny_model.network
    tokens = open_clip.get_tokenizer(f"local-dir:{tiny_model_dir}")(texts)
    with torch.inference_mode():
        expected = network.encode_text(tokens)
        found = trimmed_encode_text(network)(tokens)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_less_is_computed_for_short_texts(tiny_model: ClipModel) -> None:
    network: Any = tiny_model.network
    seen = []
    handle = network.transformer.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].shape[1])
    )
    try:
        tiny_model.encode_texts(["cat"])
    finally:
        handle.remove()
    assert seen == [3]


def test_a_tower_that_is_pooled_otherwise_keeps_the_whole_context() -> None:
    config = TINY_CONFIG["model_cfg"]
    text = config["text_cfg"] | {"pool_type": "last"}
    network = open_clip.CLIP(**(config | {"text_cfg": text}))
    assert trimmed_encode_text(network) == network.encode_text
