"""The architecture of `models/mini`, as open_clip reads it from `open_clip_config.json`."""

from typing import Any

EMBED_DIM = 512
IMAGE_SIZE = 224
CONTEXT_LENGTH = 32
BACKBONE = "tf_efficientnet_lite2"

VISION_CFG: dict[str, Any] = {
    "timm_model_name": BACKBONE,
    "timm_model_pretrained": False,
    "timm_pool": "avg",
    "timm_proj": "mlp",
    "timm_proj_bias": True,
    "image_size": IMAGE_SIZE,
}
TEXT_CFG: dict[str, Any] = {
    "context_length": CONTEXT_LENGTH,
    "vocab_size": 49408,
    "width": 256,
    "heads": 4,
    "layers": 4,
}
PREPROCESS_CFG: dict[str, Any] = {
    "size": IMAGE_SIZE,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def open_clip_config() -> dict[str, Any]:
    """The whole of `open_clip_config.json`."""
    return {
        "model_cfg": {"embed_dim": EMBED_DIM, "vision_cfg": VISION_CFG, "text_cfg": TEXT_CFG},
        "preprocess_cfg": PREPROCESS_CFG,
    }
