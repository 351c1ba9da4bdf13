"""Turning a tower changes how it pads, never what it answers."""

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from app.clip.padding import turn_same_padding


def images(count: int, side: int) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def padding_themselves(tower: nn.Module) -> int:
    return sum(isinstance(module, Conv2dSame) for module in tower.modules())


def small_tower() -> nn.Module:
    """Kernels and strides of the kinds that there are, one dilated; pooled at the end."""
    torch.manual_seed(0)
    return nn.Sequential(
        Conv2dSame(3, 8, 3, stride=2),
        nn.ReLU(),
        Conv2dSame(8, 8, 5, stride=2, groups=8, bias=False),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), Conv2dSame(8, 8, 2, stride=2)),
        Conv2dSame(8, 4, 3, stride=1, dilation=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).eval()


@pytest.mark.parametrize("side", [30, 32, 33, 40, 47])
def test_the_answers_stay_whatever_the_size(side: int) -> None:
    tower = small_tower()
    turned = turn_same_padding(tower, images(1, side))
    # Of an odd size a kernel of two would need a row before the image as well.
    assert (padding_themselves(tower), padding_themselves(turned)) == (4, 4 if side == 33 else 0)
    with torch.inference_mode():
        expected, actual = tower(images(3, side)), turned(images(3, side))
    assert torch.allclose(expected, actual, atol=1e-6)


def test_a_tower_of_timm_no_longer_pads_before_its_convolutions() -> None:
    tower = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    turned = turn_same_padding(tower, images(1, 64))
    assert (padding_themselves(tower), padding_themselves(turned)) == (5, 0)
    with torch.inference_mode():
        assert torch.allclose(tower(images(2, 64)), turned(images(2, 64)), rtol=1e-4, atol=1e-5)


def test_a_tower_that_looks_at_places_stays_as_it_is() -> None:
    convolution = Conv2dSame(3, 4, 3, stride=2)
    before = convolution.weight.clone()
    tower = nn.Sequential(convolution, nn.Flatten(), nn.Linear(4 * 256, 8)).eval()
    assert turn_same_padding(tower, images(1, 32)) is tower
    assert torch.equal(convolution.weight, before)


def test_a_tower_without_such_padding_stays_as_it_is() -> None:
    tower = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1)).eval()
    assert turn_same_padding(tower, images(1, 32)) is tower
