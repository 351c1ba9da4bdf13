"""The frozen image backbone: EfficientNet-Lite2 with its ImageNet weights, in timm's form."""

import timm
import torch
from timm.models import EfficientNet
from torch import Tensor, nn

from training.config import BACKBONE
from training.sources import efficientnet_lite2_weights


def to_timm(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename the package's keys to timm's.

    Both list the same tensors in the order of the forward pass, so the n-th of one is the n-th of
    the other; names and shapes are compared as far as they can be.

    Raises:
        ValueError: the two do not line up.
    """
    target = model.state_dict()
    if len(weights) != len(target):
        raise ValueError(f"{len(weights)} tensors, timm's model has {len(target)}")
    renamed = {}
    for (ours, tensor), (theirs, place) in zip(weights.items(), target.items(), strict=True):
        if tensor.shape != place.shape or ours.rpartition(".")[2] != theirs.rpartition(".")[2]:
            raise ValueError(f"{ours} {tuple(tensor.shape)} does not fit {theirs}")
        renamed[theirs] = tensor
    return renamed


def load_classifier() -> EfficientNet:
    """EfficientNet-Lite2 with its 1000-way classifier, ready for inference."""
    model = timm.create_model(BACKBONE, pretrained=False)
    if not isinstance(model, EfficientNet):
        raise TypeError(f"{BACKBONE} is not an EfficientNet")
    weights = torch.load(efficientnet_lite2_weights(), map_location="cpu", weights_only=True)
    model.load_state_dict(to_timm(weights, model))
    model.eval().to(memory_format=torch.channels_last)
    return model
