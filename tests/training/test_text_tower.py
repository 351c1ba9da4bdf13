"""The text tower's batches, its trimmed encoding, and its distillation loss."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from training.config import CONTEXT_LENGTH
from training.text_tower import batches, build_text_tower, distillation_loss, embed_texts, tokenize


@given(st.lists(st.integers(2, 32), min_size=1, max_size=3000), st.integers(0, 5))
def test_an_epoch_visits_every_text_once(lengths: list[int], seed: int) -> None:
    visited = np.concatenate(list(batches(np.array(lengths), seed)))
    assert sorted(visited.tolist()) == list(range(len(lengths)))


def test_an_epoch_is_the_same_again_for_the_same_seed() -> None:
    lengths = np.random.default_rng(0).integers(2, 33, 2000)
    first, second = list(batches(lengths, 3)), list(batches(lengths, 3))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_trimming_a_batch_to_its_longest_changes_nothing() -> None:
    texts = ["a cat", "a photo of a very small dog asleep on a sofa"]
    tower = build_text_tower().eval()
    full = torch.from_numpy(tokenize(texts)).long()
    assert full.shape == (2, CONTEXT_LENGTH)
    with torch.inference_mode():
        whole = normalize(tower(full), dim=1)
    torch.testing.assert_close(embed_texts(tower, texts), whole, atol=1e-5, rtol=1e-5)


def test_the_loss_is_least_at_the_teachers_own_embeddings() -> None:
    rng = torch.Generator().manual_seed(0)
    target = normalize(torch.randn(16, 512, generator=rng), dim=1)
    other = normalize(torch.randn(16, 512, generator=rng), dim=1)
    assert distillation_loss(target, target) < distillation_loss(target + 0.3 * other, target)
