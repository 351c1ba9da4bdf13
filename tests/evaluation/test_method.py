"""The product and an independent implementation of the method agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.xmore.ensemble import Fusion, Normalization, ensemble
from app.xmore.retrieval import retrieve
from tests.arrays import unit
from tests.evaluation import method
from tests.xmore.test_retrieval import MemoryCollection

WORDS = ["a cat", "A  cat.", "a dog", "a dog!", "the sea", "The Sea…", "a tree"]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(0, 12),
    st.integers(1, 5),
    st.integers(1, 9),
    st.floats(0.01, 150),
    st.sampled_from(["image", "text", "mean", "request", "batch", "stream"]),
)
@settings(deadline=None)
def test_random_images_captions_and_labels(
    seed: int, size: int, k: int, images: int, labels: int, scale: float, name: str
) -> None:
    rng = np.random.default_rng(seed)
    texts = [str(text) for text in rng.choice(WORDS, size)]
    t, v, w = unit(rng, size), unit(rng, images), unit(rng, labels)

    found = retrieve(v, MemoryCollection(texts, t), k)
    plain = name in ("request", "batch", "stream")
    fusion = Fusion.CONFIDENCE if plain else Fusion(name)
    normalization = Normalization(name) if plain else Normalization.REQUEST
    ours = ensemble(v, [f.embeddings for f in found], w, scale, fusion, normalization)

    entries = [(vector, [row]) for row, vector in enumerate(t.tolist())]
    rows = [method.retrieved(x, entries, texts, t.tolist(), k) for x in v.tolist()]
    assert [f.ids.tolist() for f in found] == rows
    answers = [
        method.votes(x, [t[row].tolist() for row in ids], w.tolist(), scale)
        for x, ids in zip(v.tolist(), rows, strict=True)
    ]
    theirs = method.weighed(answers, [len(ids) > 0 for ids in rows], name)
    # Embeddings and their cosines are float32; the scale multiplies what that loses.
    np.testing.assert_allclose(ours.image, [a.image for a in theirs], atol=1e-4)
    np.testing.assert_allclose(ours.text, [a.text for a in theirs], atol=1e-4)
    np.testing.assert_allclose(ours.confidences, [a.confidences for a in theirs], atol=1e-4)


@pytest.mark.parametrize("name", ["request", "batch", "stream", "mean", "text", "image"])
def test_weights_and_the_fused_vote(name: str) -> None:
    rng = np.random.default_rng(5)
    t, v, w = unit(rng, 12), unit(rng, 4), unit(rng, 5)
    captions = [t[:3], t[3:3], t[3:9], t[9:]]
    confidence = name in ("request", "batch", "stream")
    ours = ensemble(
        v,
        captions,
        w,
        20.0,
        Fusion.CONFIDENCE if confidence else Fusion(name),
        Normalization(name) if confidence else Normalization.REQUEST,
    )
    answers = [
        method.votes(x, c.tolist(), w.tolist(), 20.0)
        for x, c in zip(v.tolist(), captions, strict=True)
    ]
    theirs = method.weighed(answers, [len(c) > 0 for c in captions], name)
    np.testing.assert_allclose(ours.weights, [a.weights for a in theirs], atol=1e-5)
    np.testing.assert_allclose(ours.probabilities, [a.fused for a in theirs], atol=1e-5)
