"""The head starts as the backbone's classifier, and its losses are what they claim to be."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from training.config import EMBED_DIM
from training.features import FEATURE_DIM
from training.head import JointSpace, Recipe, class_rows, distill, gather_nodes, imagine, pick


@pytest.fixture(scope="module")
def classifier() -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(FEATURE_DIM, 1000)
    with torch.no_grad():
        layer.weight *= 20
    return layer


@pytest.fixture(scope="module")
def names() -> Tensor:
    return normalize(torch.randn(1000, EMBED_DIM, generator=torch.Generator().manual_seed(1)))


def test_an_untrained_head_finds_the_classifiers_class(
    classifier: nn.Linear, names: Tensor
) -> None:
    space = JointSpace(classifier, names, Recipe())
    rng = torch.Generator().manual_seed(2)
    features = torch.rand(64, FEATURE_DIM, generator=rng)
    wanted = torch.randint(1000, (64,), generator=rng)
    features = (features + normalize(classifier.weight[wanted], dim=1) * 40).clamp_min(0)
    with torch.inference_mode():
        said = classifier(features).argmax(1)
        found = (space.images(features) @ names.T).argmax(1)
    assert (found == said).float().mean() > 0.9


def test_both_modalities_are_unit_norm(classifier: nn.Linear, names: Tensor) -> None:
    space = JointSpace(classifier, names, Recipe())
    for embeddings in (space.images(torch.rand(3, FEATURE_DIM)), space.texts(names[:3])):
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_the_text_map_starts_as_the_identity(classifier: nn.Linear, names: Tensor) -> None:
    space = JointSpace(classifier, names, Recipe())
    torch.testing.assert_close(space.texts(names), names)
    assert space.drift().item() == 0


def test_imagined_features_stay_non_negative_and_some_stay_real(classifier: nn.Linear) -> None:
    rng = torch.Generator().manual_seed(3)
    features = torch.rand(200, FEATURE_DIM, generator=rng)
    with torch.inference_mode():
        seen = imagine(features, classifier, 0.5, rng)
    assert float(seen.min()) >= 0
    real = (seen == features).all(1).float().mean()
    assert 0.3 < float(real) < 0.7


def test_distillation_is_zero_where_the_distributions_agree() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(4))
    assert float(distill(logits, logits.softmax(1))) == pytest.approx(0, abs=1e-6)
    assert float(distill(logits, logits.flip(1).softmax(1))) > 0.1


def test_probabilities_are_summed_under_the_nodes_of_a_cut() -> None:
    target = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    members = torch.from_numpy(np.array([0, 1, 1, 0]))
    torch.testing.assert_close(gather_nodes(target, members, 2), torch.tensor([[0.5, 0.5]]))


def test_one_caption_of_each_class_is_picked() -> None:
    caption_class = torch.arange(1000).repeat_interleave(3)
    picked = pick(class_rows(caption_class), torch.Generator().manual_seed(5))
    assert caption_class[picked].tolist() == list(range(1000))
