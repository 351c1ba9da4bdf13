"""Step `export`: put the parts together as `models/mini`, in open_clip's directory format."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

from training.config import open_clip_config
from training.head import JointSpace

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


def assemble(
    backbone: dict[str, Tensor], text_tower: dict[str, Tensor], space: JointSpace
) -> dict[str, Tensor]:
    """The state dict of open_clip's CLIP.

    Args:
        backbone: timm's keys; its classifier is left out.
        text_tower: keys of open_clip's TextTransformer.
        space: head, text map (folded into the text projection) and logit scale.
    """
    state = {
        f"visual.trunk.{key}": value
        for key, value in backbone.items()
        if not key.startswith("classifier.")
    }
    state |= {f"visual.head.mlp.{key}": value for key, value in space.head.state_dict().items()}
    state |= text_tower
    state["text_projection"] = text_tower["text_projection"] @ space.text_map.detach()
    state["logit_scale"] = space.logit_scale.detach()
    return state


def export(state: dict[str, Tensor], out: Path) -> None:
    """Write config and float16 weights, after checking that they fit the architecture."""
    config = open_clip_config()
    open_clip.CLIP(**config["model_cfg"]).load_state_dict(state)
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    half = {
        key: value.half().contiguous() if value.dtype == torch.float32 else value
        for key, value in state.items()
    }
    save_file(half, out / WEIGHTS_FILE, metadata={"format": "pt"})
    # safetensors makes the file its writer's alone; a container reads it as another user.
    (out / WEIGHTS_FILE).chmod(0o644)
