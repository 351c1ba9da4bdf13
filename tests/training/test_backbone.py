"""The backbone's weights, renamed for timm, give the logits of the package that carries them."""

import pytest
import timm
import torch
from torch import nn

from training.backbone import load_classifier, to_timm
from training.config import BACKBONE, IMAGE_SIZE
from training.sources import efficientnet_lite2_weights


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(efficientnet_lite2_weights(), weights_only=True)
    return loaded


def test_logits_agree_with_the_packages_own_network(weights: dict[str, torch.Tensor]) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    # Its padding is fixed for one image size, timm's follows the image.
    reference = EfficientNet.from_name("efficientnet-lite2", image_size=IMAGE_SIZE)
    reference.load_state_dict(weights)
    reference.eval()
    images = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = reference(images), load_classifier()(images)
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_weights_of_another_network_are_refused(weights: dict[str, torch.Tensor]) -> None:
    other: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    with pytest.raises(ValueError, match=r"timm's model has"):
        to_timm(weights, other)


def test_tensors_that_do_not_line_up_are_refused(weights: dict[str, torch.Tensor]) -> None:
    model: nn.Module = timm.create_model(BACKBONE, pretrained=False)
    turned = dict(reversed(weights.items()))
    with pytest.raises(ValueError, match="does not fit"):
        to_timm(turned, model)
