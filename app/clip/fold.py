"""Fold batch normalisation into the convolution before it: the same function in fewer passes."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_TOLERANCE = 1e-3


def fold_batch_norm(tower: nn.Module, example: torch.Tensor) -> nn.Module:
    """A copy of an image tower with its batch norms folded, or the tower itself.

    A module does not tell in which order it calls its children, so convolutions are paired with
    the batch norm registered after them, and the copy is used only if it answers like the
    original.

    Args:
        tower: in eval mode, float32.
        example: one preprocessed image, (1, 3, H, W).
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in tower.modules()):
        return tower
    folded = copy.deepcopy(tower)
    _fold_children(folded)
    return folded if answers_alike(tower, folded, example) else tower


def answers_alike(tower: nn.Module, other: nn.Module, example: torch.Tensor) -> bool:
    """Whether two image towers give the same features, up to a thousandth of the largest.

    Args:
        tower: whose answer counts.
        other: the one that is to replace it.
        example: one preprocessed image, (1, 3, H, W).
    """
    with torch.inference_mode():
        expected, actual = tower(example), other(example)
    far = (expected - actual).abs().max() > _TOLERANCE * expected.abs().max()
    return bool(torch.isfinite(actual).all() and not far)


def _fold_children(module: nn.Module) -> None:
    children = list(module.named_children())
    for (_, first), (name, second) in pairwise(children):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            if second.running_mean is None or second.running_var is None:
                continue
            if first.out_channels != second.num_features:
                continue
            first.weight, first.bias = fuse_conv_bn_weights(
                first.weight,
                first.bias,
                second.running_mean,
                second.running_var,
                second.eps,
                second.weight,
                second.bias,
            )
            # timm's batch norms carry the activation that follows them.
            setattr(module, name, getattr(second, "act", nn.Identity()))
    for _, child in children:
        _fold_children(child)
