"""The properties of METHOD's step 1, on collections held in memory."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.xmore.retrieval import FloatArray, Hits, distinct, fold, rerank, retrieve
from tests.arrays import unit


class MemoryCollection:
    """Exact search over captions in memory; `answered` bounds how many a query gets."""

    def __init__(
        self, texts: list[str], embeddings: FloatArray, answered: int | None = None
    ) -> None:
        self._texts = texts
        self._embeddings = embeddings
        self._answered = len(texts) if answered is None else answered

    def __len__(self) -> int:
        return len(self._texts)

    def search(self, embeddings: FloatArray, count: int) -> list[Hits]:
        order = np.argsort(-embeddings @ self._embeddings.T, axis=1, kind="stable")
        return [
            Hits(ids, [self._texts[i] for i in ids], self._embeddings[ids])
            for ids in order[:, : min(count, self._answered)]
        ]


def numbered(rng: np.random.Generator, n: int) -> tuple[list[str], FloatArray]:
    return [f"caption {i}" for i in range(n)], unit(rng, n)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 64), st.integers(1, 128))
def test_the_best_distinct_captions_come_back_best_first(
    seed: int, size: int, k: int, candidates: int
) -> None:
    rng = np.random.default_rng(seed)
    texts, embeddings = numbered(rng, size)
    v = unit(rng, 2)
    for row, found in enumerate(
        retrieve(v, MemoryCollection(texts, embeddings), k, candidates=candidates)
    ):
        assert len(found) == min(k, size)
        best = np.sort(embeddings @ v[row])[::-1][: len(found)]
        np.testing.assert_allclose(found.similarities, best, atol=1e-6)
        assert [texts[i] for i in found.ids] == found.texts


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 8))
def test_duplicates_change_nothing_beyond_the_first(seed: int, size: int, copies: int) -> None:
    rng = np.random.default_rng(seed)
    texts, embeddings = numbered(rng, size)
    v = unit(rng, 1)
    plain = retrieve(v, MemoryCollection(texts, embeddings), 5)[0]
    repeated = MemoryCollection(
        texts + [f"  {text.upper()}. " for text in texts] * copies,
        np.concatenate([embeddings] * (copies + 1)),
    )
    found = retrieve(v, repeated, 5, candidates=5)[0]
    assert [fold(text) for text in found.texts] == [fold(text) for text in plain.texts]
    np.testing.assert_allclose(found.similarities, plain.similarities, atol=1e-6)


class DistinctCollection(MemoryCollection):
    """One that knows that none of its captions repeats another."""

    def search(self, embeddings: FloatArray, count: int) -> list[Hits]:
        return [replace(hits, are_distinct=True) for hits in super().search(embeddings, count)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 64), st.integers(1, 128))
def test_to_know_that_captions_are_distinct_changes_nothing(
    seed: int, size: int, k: int, candidates: int
) -> None:
    rng = np.random.default_rng(seed)
    texts, embeddings = numbered(rng, size)
    v = unit(rng, 1)
    (found,) = retrieve(v, DistinctCollection(texts, embeddings), k, candidates=candidates)
    (expected,) = retrieve(v, MemoryCollection(texts, embeddings), k, candidates=candidates)
    assert found.texts == expected.texts
    np.testing.assert_array_equal(found.similarities, expected.similarities)


def test_a_search_that_gives_fewer_than_there_are_is_answered_with_what_it_gives() -> None:
    rng = np.random.default_rng(0)
    texts, embeddings = numbered(rng, 10)
    found = retrieve(unit(rng, 1), MemoryCollection(texts, embeddings, answered=3), 5)[0]
    assert len(found) == 3


def test_no_captions_are_found_in_an_empty_collection_or_when_none_are_asked_for() -> None:
    rng = np.random.default_rng(0)
    texts, embeddings = numbered(rng, 4)
    v = unit(rng, 2)
    assert [len(f) for f in retrieve(v, MemoryCollection([], embeddings[:0]), 16)] == [0, 0]
    assert [len(f) for f in retrieve(v, MemoryCollection(texts, embeddings), 0)] == [0, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [("A cat.", "a cat"), ("a  cat\t!", "A CAT"), ("Straße", "STRASSE")],
)
def test_case_space_and_final_punctuation_do_not_count(one: str, other: str) -> None:
    assert fold(one) == fold(other)


def test_distinct_keeps_the_first_of_each() -> None:
    assert distinct(["a cat", "a dog", "A cat.", "a fox", "a dog!"]) == [0, 1, 3]


def test_rerank_orders_by_cosine_and_cuts_at_k() -> None:
    captions = np.array([[0, 1], [1, 0], [0.6, 0.8]], np.float32)
    order, similarities = rerank(np.array([1, 0], np.float32), captions, 2)
    assert order.tolist() == [1, 2]
    np.testing.assert_allclose(similarities, [1.0, 0.6], atol=1e-6)
