"""Folding batch norms changes the passes of a tower, never its answers."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from app.clip.fold import fold_batch_norm


def randomise(tower: nn.Module) -> nn.Module:
    """Weights and statistics as training leaves them: not zeros and ones."""
    generator = torch.Generator().manual_seed(0)
    for module in tower.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.5, generator=generator)
    return tower.eval().requires_grad_(requires_grad=False)


def images(count: int, side: int = 32) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def batch_norms(tower: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in tower.modules())


class Small(nn.Module):
    """Convolutions with and without bias and groups, each with its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.act = nn.ReLU()
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, stride=2, groups=8), nn.BatchNorm2d(8), nn.SiLU()
        )
        self.conv2 = nn.Conv2d(8, 4, 1)
        self.bn2 = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.act(self.bn1(self.conv1(x))))
        out: Tensor = self.bn2(self.conv2(x)).mean((2, 3))
        return out


class Misleading(nn.Module):
    """Registers each convolution before the other one's batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.bn2(self.conv2(x))
        return out


class ActivationBetween(nn.Module):
    """Neighbours by registration that do not follow each other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(torch.relu(self.conv(x)))
        return out


def efficientnet() -> nn.Module:
    torch.manual_seed(0)
    tower: nn.Module = timm.create_model("test_efficientnet", pretrained=False, num_classes=0)
    return tower


def resnet() -> nn.Module:
    torch.manual_seed(0)
    tower: nn.Module = timm.create_model("test_resnet", pretrained=False, num_classes=0)
    return tower


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small()


@pytest.mark.parametrize("make", [small, efficientnet, resnet])
def test_a_folded_tower_answers_the_same(make: Callable[[], nn.Module]) -> None:
    tower = randomise(make())
    x = images(4)
    with torch.inference_mode():
        before = tower(x)
        folded = fold_batch_norm(tower, images(1))
        after = folded(x)
    assert folded is not tower
    assert batch_norms(folded) <= batch_norms(tower) // 4
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * before.abs().max().item())


def test_the_tower_given_is_left_as_it_was() -> None:
    tower = randomise(small())
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    assert fold_batch_norm(tower, images(1)) is not tower
    after = tower.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("make", [Misleading, ActivationBetween])
def test_a_misleading_order_is_not_folded(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    tower = randomise(make())
    assert fold_batch_norm(tower, images(1)) is tower


def test_a_tower_without_batch_norm_is_returned_as_it_is() -> None:
    tower = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()).eval()
    assert fold_batch_norm(tower, images(1)) is tower


def test_a_batch_norm_without_statistics_stays() -> None:
    tower = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    folded = fold_batch_norm(tower, images(1))
    assert batch_norms(folded) == 1
    with torch.inference_mode():
        torch.testing.assert_close(folded(images(2)), tower(images(2)))


def test_a_batch_norm_of_another_width_stays() -> None:
    tower = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PixelShuffle(2), nn.BatchNorm2d(1))
    unrelated = randomise(nn.ModuleList([nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)]))

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = tower
            self.unused = unrelated

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.used(x)
            return out

    whole = randomise(Wrapped())
    folded = fold_batch_norm(whole, images(1))
    assert batch_norms(folded) == batch_norms(whole) == 2
