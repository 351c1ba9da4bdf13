"""Step `head`: the projection from the frozen backbone's features into the joint space.

open_clip's MLP head, started from the backbone's own classifier, then trained on cached features by
four losses: contrastive on photos and their captions, and three distillations of the classifier's
softmax, over class names, over names in WordNet's tree cut at random depths, and over the project's
own captions of the classes.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, normalize
from tqdm import tqdm

from training.config import EMBED_DIM
from training.features import FEATURE_DIM
from training.wordnet import Tree

_HIDDEN = 2 * EMBED_DIM
_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class Recipe:
    """Weights of the losses and how long to train."""

    epochs: int = 30
    batch: int = 256
    peak_lr: float = 1e-3
    contrastive: float = 0.5
    class_names: float = 1.0
    tree: float = 0.5
    class_captions: float = 0.5
    bias_shift: float = 3.0
    imagined: float = 0.5
    identity: float = 1.0


@dataclass(frozen=True, slots=True)
class Photos:
    """Training photos: features (n, views, 1280), and their captions as rows of `captions`.

    `first` and `count` say which rows belong to a photo; a photo may have none.
    """

    features: Tensor
    captions: Tensor
    first: Tensor
    count: Tensor


@dataclass(frozen=True, slots=True)
class Names:
    """Text embeddings from the text tower, unit-norm.

    Attributes:
        classes: (1000, 512).
        nodes: (nodes of the tree, 512).
        captions: own captions of ImageNet classes, (m, 512).
        captions_class: which class each of them speaks of, (m,).
    """

    classes: Tensor
    nodes: Tensor
    captions: Tensor
    captions_class: Tensor


class JointSpace(nn.Module):
    """The head, a near-identity map on text embeddings, and the logit scale."""

    def __init__(self, classifier: nn.Linear, class_names: Tensor, recipe: Recipe) -> None:
        super().__init__()
        torch.manual_seed(0)
        # The class of open_clip's own head, so that the parameters go into it as they are.
        self.head = Mlp(FEATURE_DIM, _HIDDEN, EMBED_DIM, bias=(True, True))
        self.text_map = nn.Parameter(torch.eye(EMBED_DIM))
        self.logit_scale = nn.Parameter(torch.tensor(30.0).log())
        with torch.no_grad():
            self.head.fc1.weight[:_CLASSES] = classifier.weight
            cast("Tensor", self.head.fc1.bias)[:_CLASSES] = classifier.bias - recipe.bias_shift
            self.head.fc2.weight[:, :_CLASSES] = class_names.T
            self.head.fc2.weight[:, _CLASSES:] *= 0.1
            nn.init.zeros_(cast("Tensor", self.head.fc2.bias))

    def images(self, features: Tensor) -> Tensor:
        """(n, 1280) to unit-norm (n, 512)."""
        return normalize(self.head(features), dim=1)

    def texts(self, embeddings: Tensor) -> Tensor:
        """The text tower's embeddings, (n, 512), to unit-norm ones in the joint space."""
        return normalize(embeddings @ self.text_map, dim=1)

    def drift(self) -> Tensor:
        """How far the text map is from the identity."""
        identity = torch.eye(EMBED_DIM)
        return (self.text_map - identity).square().sum() / EMBED_DIM


def imagine(features: Tensor, classifier: nn.Linear, share: float, rng: torch.Generator) -> Tensor:
    """Push a share of the features towards a random class, so that every class occurs.

    Photos of everyday scenes show few of the 1000 classes. Adding a class's own classifier weights
    to a photo's features gives features that the classifier takes for that class; they stay
    non-negative, as pooled activations are.
    """
    chosen = torch.rand(len(features), generator=rng) < share
    classes = torch.randint(_CLASSES, (len(features),), generator=rng)
    push = normalize(classifier.weight[classes], dim=1) * features.norm(dim=1, keepdim=True)
    strength = torch.rand(len(features), 1, generator=rng)
    return torch.where(chosen[:, None], (features + strength * push).clamp_min(0), features)


def train_head(
    photos: Photos, names: Names, tree: Tree, classifier: nn.Linear, recipe: Recipe
) -> JointSpace:
    """Train head, text map and logit scale; half a minute to a few on two cores."""
    space = JointSpace(classifier, names.classes, recipe)
    rng = torch.Generator().manual_seed(0)
    np_rng = np.random.default_rng(0)
    steps = recipe.epochs * (len(photos.features) // recipe.batch)
    optimizer = torch.optim.AdamW(space.parameters(), lr=recipe.peak_lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_lr, total_steps=steps)
    by_class = class_rows(names.captions_class)
    progress = tqdm(range(steps), desc="head")
    for _ in progress:
        rows = torch.randint(len(photos.features), (recipe.batch,), generator=rng)
        views = torch.randint(photos.features.shape[1], (recipe.batch,), generator=rng)
        real = photos.features[rows, views].float()
        with torch.no_grad():
            seen = imagine(real, classifier, recipe.imagined, rng)
            target = classifier(seen).softmax(1)
        v = space.images(seen)
        scale = space.logit_scale.exp()
        nodes, members = tree.cut(np_rng.random(len(tree.names)), np_rng.uniform(0.05, 0.7))
        spoken = pick(by_class, rng)
        losses = {
            "names": recipe.class_names * distill(scale * v @ space.texts(names.classes).T, target),
            "tree": recipe.tree
            * distill(
                scale * v @ space.texts(names.nodes[nodes]).T,
                gather_nodes(target, torch.from_numpy(members), len(nodes)),
            ),
            "said": recipe.class_captions
            * distill(scale * v @ space.texts(names.captions[spoken]).T, target),
            "pairs": recipe.contrastive * contrastive(space, photos, rows, real, rng),
            "drift": recipe.identity * space.drift(),
        }
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        scheduler.step()
        progress.set_postfix({name: f"{loss.item():.3f}" for name, loss in losses.items()})
    return space.eval()


def distill(logits: Tensor, target: Tensor) -> Tensor:
    """KL divergence between a target distribution and the softmax of logits."""
    return kl_div(log_softmax(logits, dim=1), target, reduction="batchmean")


def gather_nodes(target: Tensor, members: Tensor, nodes: int) -> Tensor:
    """Sum class probabilities (n, 1000) under the nodes of a cut: (n, nodes)."""
    return torch.zeros(len(target), nodes).index_add_(1, members, target)


def class_rows(captions_class: Tensor) -> list[Tensor]:
    """For each class, the rows of its captions."""
    return [torch.nonzero(captions_class == c).flatten() for c in range(_CLASSES)]


def pick(by_class: list[Tensor], rng: torch.Generator) -> Tensor:
    """One random row a class, (1000,)."""
    draws = torch.rand(len(by_class), generator=rng).tolist()
    return torch.stack([rows[int(d * len(rows))] for d, rows in zip(draws, by_class, strict=True)])


def contrastive(
    space: JointSpace, photos: Photos, rows: Tensor, features: Tensor, rng: torch.Generator
) -> Tensor:
    """Symmetric cross-entropy between photos and captions, both captions of a photo positive."""
    has = photos.count[rows] > 0
    rows, features = rows[has], features[has]
    draws = torch.rand(len(rows), 2, generator=rng)
    picked = photos.first[rows, None] + (draws * photos.count[rows, None]).long()
    v = space.images(features)
    t = space.texts(photos.captions[picked.flatten()])
    logits = space.logit_scale.exp() * v @ t.T
    same = (rows[:, None] == rows.repeat_interleave(2)[None, :]).float()
    to_text = distill(logits, same / same.sum(1, keepdim=True))
    to_image = distill(logits.T, same.T / same.T.sum(1, keepdim=True))
    return (to_text + to_image) / 2
