"""The properties of METHOD's step 2, for any embeddings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.xmore.ensemble import (
    IMAGE,
    TEXT,
    Ensemble,
    Fusion,
    Normalization,
    captions_vote,
    confidence,
    ensemble,
    fuse,
    modality_weights,
    vote,
)
from tests.arrays import DIM, unit


class Case:
    """Images, their captions and labels, drawn from a seed."""

    def __init__(
        self, seed: int, images: int, captions: list[int], labels: int, scale: float
    ) -> None:
        rng = np.random.default_rng(seed)
        self.images = unit(rng, images)
        self.captions = [unit(rng, k) for k in captions]
        self.labels = unit(rng, labels)
        self.scale = scale

    def run(self, fusion: Fusion, normalization: Normalization) -> Ensemble:
        return ensemble(self.images, self.captions, self.labels, self.scale, fusion, normalization)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    images = draw(st.integers(1, 4))
    return Case(
        seed=draw(st.integers(0, 2**32 - 1)),
        images=images,
        captions=draw(st.lists(st.integers(0, 6), min_size=images, max_size=images)),
        labels=draw(st.integers(1, 12)),
        scale=draw(st.floats(0.01, 200)),
    )


fusions = st.sampled_from(Fusion)
normalizations = st.sampled_from(Normalization)


@given(cases(), fusions, normalizations)
def test_every_distribution_sums_to_one_and_lies_in_the_unit_interval(
    case: Case, fusion: Fusion, normalization: Normalization
) -> None:
    out = case.run(fusion, normalization)
    for shares in (out.probabilities, out.image, out.text, out.weights):
        assert np.isfinite(shares).all()
        assert (shares >= 0).all()
        assert (shares <= 1 + 1e-9).all()
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert ((out.confidences >= 0) & (out.confidences <= 1)).all()


@given(cases(), fusions, normalizations, st.randoms(use_true_random=False))
def test_permuting_the_labels_permutes_the_answer(
    case: Case, fusion: Fusion, normalization: Normalization, random: object
) -> None:
    before = case.run(fusion, normalization)
    order = np.arange(len(case.labels))
    random.shuffle(order)  # type: ignore[attr-defined]
    case.labels = case.labels[order]
    after = case.run(fusion, normalization)
    np.testing.assert_allclose(after.probabilities, before.probabilities[:, order], atol=1e-5)


@given(cases())
def test_image_fusion_is_the_softmax_of_scaled_cosines(case: Case) -> None:
    out = case.run(Fusion.IMAGE, Normalization.REQUEST)
    logits = case.scale * case.images @ case.labels.T
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(out.probabilities, odds / odds.sum(1, keepdims=True), atol=1e-5)


@given(cases(), fusions, normalizations)
def test_an_image_without_captions_gets_plain_clip(
    case: Case, fusion: Fusion, normalization: Normalization
) -> None:
    out = case.run(fusion, normalization)
    for row, captions in enumerate(case.captions):
        if len(captions) == 0:
            assert out.weights[row].tolist() == [1.0, 0.0]
            np.testing.assert_allclose(out.probabilities[row], out.image[row])


@given(cases(), st.integers(1, 4))
def test_views_of_an_image_vote_by_the_mean_of_their_probabilities(case: Case, views: int) -> None:
    v = unit(np.random.default_rng(2), len(case.images) * views).reshape(-1, views, DIM)
    out = ensemble(v, case.captions, case.labels, case.scale)
    each = [vote(v[:, view], case.labels, case.scale) for view in range(views)]
    np.testing.assert_allclose(out.image, np.mean(each, axis=0), atol=1e-5)
    case.images = v[:, 0]
    if views == 1:
        alone = case.run(Fusion.CONFIDENCE, Normalization.REQUEST)
        np.testing.assert_allclose(out.probabilities, alone.probabilities, atol=1e-5)


@given(cases())
def test_mean_fusion_is_halfway_between_the_votes(case: Case) -> None:
    case.captions = [unit(np.random.default_rng(1), 3) for _ in case.captions]
    out = case.run(Fusion.MEAN, Normalization.REQUEST)
    np.testing.assert_allclose(out.probabilities, (out.image + out.text) / 2)


@given(cases())
def test_product_fusion_is_the_weighted_geometric_mean_of_the_votes(case: Case) -> None:
    case.captions = [unit(np.random.default_rng(1), 3) for _ in case.captions]
    out = case.run(Fusion.PRODUCT, Normalization.REQUEST)
    odds = out.image**0.9 * out.text**0.1
    np.testing.assert_allclose(out.probabilities, odds / odds.sum(1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(out.weights, [[0.9, 0.1]] * len(out.weights))


@given(cases())
def test_in_a_product_captions_that_say_nothing_leave_the_order_of_labels(case: Case) -> None:
    undecided = np.full((len(case.images), len(case.labels)), 1 / len(case.labels))
    image = vote(case.images, case.labels, case.scale)
    fused = fuse(image, undecided, np.tile((0.9, 0.1), (len(image), 1)), Fusion.PRODUCT)
    best = np.take_along_axis(fused, image.argmax(axis=1)[:, np.newaxis], axis=1)
    np.testing.assert_allclose(best[:, 0], fused.max(axis=1), rtol=1e-9)


@given(cases())
def test_text_fusion_is_the_captions_vote(case: Case) -> None:
    case.captions = [unit(np.random.default_rng(1), 3) for _ in case.captions]
    out = case.run(Fusion.TEXT, Normalization.REQUEST)
    np.testing.assert_allclose(out.probabilities, out.text)


@given(cases())
def test_the_captions_say_together_the_mean_of_what_each_says(case: Case) -> None:
    out = case.run(Fusion.CONFIDENCE, Normalization.REQUEST)
    for text, votes, captions in zip(out.text, out.captions, case.captions, strict=True):
        assert votes.shape == (len(captions), len(case.labels))
        np.testing.assert_allclose(votes.sum(axis=1), 1, atol=1e-5)
        if len(captions):
            np.testing.assert_allclose(text, votes.mean(axis=0))


@given(cases())
def test_by_request_an_image_gets_the_same_weights_alone(case: Case) -> None:
    together = case.run(Fusion.CONFIDENCE, Normalization.REQUEST)
    for row in range(len(case.images)):
        alone = ensemble(case.images[[row]], [case.captions[row]], case.labels, case.scale)
        np.testing.assert_allclose(alone.weights[0], together.weights[row], atol=1e-5)


def test_captions_vote_is_the_mean_of_probabilities_not_of_embeddings() -> None:
    labels = np.eye(2, DIM, dtype=np.float32)
    captions = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    captions = np.pad(captions, ((0, 0), (0, DIM - 2)))
    p = captions_vote(vote(captions, labels, 100.0))
    np.testing.assert_allclose(p, [2 / 3, 1 / 3], atol=1e-6)


def test_a_single_label_has_probability_one_and_full_confidence() -> None:
    rng = np.random.default_rng(0)
    out = ensemble(unit(rng, 2), [unit(rng, 3), unit(rng, 0)], unit(rng, 1), 100.0)
    assert out.probabilities.tolist() == [[1.0], [1.0]]
    assert out.confidences[:, IMAGE].tolist() == [1.0, 1.0]


def test_an_uninformative_modality_has_no_say() -> None:
    labels = np.eye(4, DIM, dtype=np.float32)
    undecided = np.zeros((1, DIM), np.float32)
    undecided[0, DIM - 1] = 1
    out = ensemble(labels[[0]], [undecided], labels, 100.0)
    assert out.weights[0, TEXT] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(out.probabilities, out.image, atol=1e-9)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [([1.0], 1.0), ([0.5, 0.5], 0.0), ([1.0, 0.0], 1.0), ([0.9, 0.1], 1 - 0.46899559)],
)
def test_confidence_is_one_minus_relative_entropy(
    probabilities: list[float], expected: float
) -> None:
    assert confidence(np.array(probabilities)) == pytest.approx(expected, abs=1e-7)


def test_request_weights_are_shares_of_confidence() -> None:
    weights = modality_weights(
        np.array([[0.6, 0.2], [0.0, 0.0]]), Fusion.CONFIDENCE, Normalization.REQUEST
    )
    np.testing.assert_allclose(weights, [[0.75, 0.25], [0.5, 0.5]])


def test_batch_weights_divide_by_each_modalitys_mean_first() -> None:
    weights = modality_weights(
        np.array([[0.8, 0.1], [0.4, 0.3]]), Fusion.CONFIDENCE, Normalization.BATCH
    )
    # Means are 0.6 and 0.2: (4/3, 1/2) and (2/3, 3/2).
    np.testing.assert_allclose(weights[0], [8 / 11, 3 / 11])
    np.testing.assert_allclose(weights[1], [4 / 13, 9 / 13])


def test_stream_weights_divide_by_each_modalitys_sum_so_far() -> None:
    weights = modality_weights(
        np.array([[0.8, 0.1], [0.4, 0.3]]), Fusion.CONFIDENCE, Normalization.STREAM
    )
    # The first image divides by itself; sums are then 1.2 and 0.4: (1/3, 3/4).
    np.testing.assert_allclose(weights, [[0.5, 0.5], [4 / 13, 9 / 13]])


def test_vote_survives_a_large_logit_scale() -> None:
    p = vote(np.eye(1, DIM, dtype=np.float32), np.eye(3, DIM, dtype=np.float32), 1e5)
    assert p.tolist() == [[1.0, 0.0, 0.0]]
