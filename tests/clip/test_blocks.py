"""A function called before each block, as often as there are blocks, and no longer than wanted."""

import open_clip
import torch
from torch import nn

from app.clip.blocks import call_before_each_block


def test_it_is_called_before_each_block_until_it_is_ended() -> None:
    seen: list[str] = []

    class Block(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append("block")
            return x + 1

    tower = nn.Sequential(Block(), Block())
    end = call_before_each_block(tower, lambda: seen.append("call"))
    assert tower(torch.zeros(1)) == 2
    assert seen == ["call", "block"] * 2
    end()
    seen.clear()
    tower(torch.zeros(1))
    assert seen == ["block"] * 2


def test_both_towers_of_a_vision_transformer_have_blocks() -> None:
    network = open_clip.CLIP(
        32,
        open_clip.CLIPVisionCfg(layers=3, width=64, head_width=32, patch_size=16, image_size=32),
        open_clip.CLIPTextCfg(layers=2, width=32, heads=2, context_length=8, vocab_size=64),
    ).eval()
    calls: list[None] = []
    call_before_each_block(network, lambda: calls.append(None))
    with torch.inference_mode():
        network.encode_image(torch.zeros(1, 3, 32, 32))
        images = len(calls)
        network.encode_text(torch.zeros(1, 8, dtype=torch.long))
    assert images >= 3
    assert len(calls) - images >= 2
