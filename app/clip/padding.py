"""TensorFlow's padding without a padded copy of what each convolution reads.

Its `SAME` padding with stride 2 has one row and column more after the image than before it.
PyTorch's convolutions pad both ends alike, so timm copies each input into a larger one first.
Turned by half a turn, image and kernels both, the odd row comes first; and a convolution that pads
both ends alike stops before it needs the one at the other end. So it computes the same, without a
copy.
"""

import copy

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from app.clip.fold import answers_alike


def turn_same_padding(tower: nn.Module, example: Tensor) -> nn.Module:
    """A copy of an image tower that turns its images and pads both ends alike, or the tower itself.

    A tower that also looks at where something is, by position embeddings say, answers otherwise
    when turned; the copy is used only if it answers like the original.

    Args:
        tower: in eval mode, float32.
        example: one preprocessed image, (1, 3, H, W), of the size that all images will have.
    """
    if not any(isinstance(module, Conv2dSame) for module in tower.modules()):
        return tower
    turned = copy.deepcopy(tower)
    _turn_convolutions(turned)
    turned.register_forward_pre_hook(_turn_image)
    return turned if answers_alike(tower, turned, example) else tower


def _turn_image(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    image, *others = inputs
    return (image.flip(2, 3), *others)


def _turn_convolutions(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Conv2dSame):
            setattr(module, name, _padding_alike(child))
        _turn_convolutions(child)
    for child in module.children():
        if isinstance(child, nn.Conv2d):
            with torch.no_grad():
                child.weight.copy_(child.weight.flip(2, 3))


def _padding_alike(convolution: nn.Conv2d) -> nn.Conv2d:
    size, step = _pair(convolution.kernel_size), _pair(convolution.dilation)
    alike = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        size,
        _pair(convolution.stride),
        (step[0] * (size[0] - 1) // 2, step[1] * (size[1] - 1) // 2),
        step,
        convolution.groups,
        bias=False,
        device="meta",
    )
    alike.weight, alike.bias = convolution.weight, convolution.bias
    return alike.train(convolution.training)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    first, second = values
    return first, second
