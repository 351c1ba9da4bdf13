"""Label embeddings: encoded once, kept in bounds, averaged over templates."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.clip.labels import (
    DEFAULT_TEMPLATE,
    FloatArray,
    LabelEncoder,
    LabelFileError,
    fill,
    read_labels,
)

DIM = 8


def vector(text: str) -> FloatArray:
    """A unit vector that depends on the text alone."""
    x = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIM)
    return (x / np.linalg.norm(x)).astype(np.float32)


class CountingEncoder:
    """A text tower that remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> FloatArray:
        self.calls.append(list(texts))
        return np.stack([vector(text) for text in texts])

    @property
    def encoded(self) -> list[str]:
        return [text for call in self.calls for text in call]


def test_fill_puts_the_label_in_place_and_leaves_its_braces_alone() -> None:
    assert fill(DEFAULT_TEMPLATE, "cat") == "a photo of a cat."
    assert fill("a {} here", "{}") == "a {} here"
    assert fill("{0} {}", "cat") == "{0} cat"


def test_embeddings_follow_the_order_of_the_labels() -> None:
    labels = LabelEncoder(CountingEncoder(), 100)
    for asked in (["cat", "dog", "car"], ["car", "cat"], ["dog", "fox", "cat"]):
        w = labels.embed(asked, ["{}"])
        assert w.dtype == np.float32
        np.testing.assert_allclose(w, [vector(label) for label in asked], atol=1e-6)


def test_prompts_of_like_length_come_together() -> None:
    labels = LabelEncoder(CountingEncoder(), 100)
    sought = labels.look_up(["a long label", "cat", "another label", "dog"], ["{}"])
    assert sought.missing == ["cat", "dog", "a long label", "another label"]
    w = labels.combine(sought, labels.encode(sought.missing))
    np.testing.assert_allclose(w, [vector(label) for label in sought.labels], atol=1e-6)


def test_one_call_encodes_each_prompt_once() -> None:
    tower = CountingEncoder()
    LabelEncoder(tower, 100).embed(["cat", "dog"], ["a {}", "the {}"])
    assert tower.calls == [["a cat", "a dog", "the cat", "the dog"]]


def test_a_repeated_label_is_encoded_once_and_answered_twice() -> None:
    tower = CountingEncoder()
    w = LabelEncoder(tower, 100).embed(["cat", "dog", "cat"], ["{}"])
    assert tower.calls == [["cat", "dog"]]
    np.testing.assert_array_equal(w[0], w[2])
    np.testing.assert_allclose(w, [vector(label) for label in ("cat", "dog", "cat")], atol=1e-6)


def test_a_repeated_template_changes_nothing() -> None:
    tower = CountingEncoder()
    w = LabelEncoder(tower, 100).embed(["cat"], ["a {}", "a {}"])
    assert tower.calls == [["a cat"]]
    np.testing.assert_allclose(w[0], vector("a cat"), atol=1e-6)


def test_later_calls_encode_only_what_is_new() -> None:
    tower = CountingEncoder()
    labels = LabelEncoder(tower, 100)
    first = labels.embed(["cat", "dog"], ["{}"])
    second = labels.embed(["cat", "dog"], ["{}"])
    labels.embed(["fox", "cat"], ["{}"])
    assert tower.calls == [["cat", "dog"], ["fox"]]
    np.testing.assert_array_equal(first, second)


def test_the_same_label_in_another_template_is_another_prompt() -> None:
    tower = CountingEncoder()
    labels = LabelEncoder(tower, 100)
    labels.embed(["cat"], ["a {}"])
    labels.embed(["cat"], ["a {}", "the {}"])
    assert tower.calls == [["a cat"], ["the cat"]]


def test_the_least_recently_used_prompt_leaves_first() -> None:
    tower = CountingEncoder()
    labels = LabelEncoder(tower, 2)
    for prompt in ("cat", "dog", "cat", "fox"):
        labels.encode([prompt])
    assert tower.encoded == ["cat", "dog", "fox"]
    labels.encode(["cat"])
    assert tower.encoded == ["cat", "dog", "fox"]
    labels.encode(["dog"])
    assert tower.encoded == ["cat", "dog", "fox", "dog"]


@pytest.mark.parametrize("cache_size", [0, 1, 3])
def test_more_labels_than_the_cache_holds_are_answered_rightly(cache_size: int) -> None:
    tower = CountingEncoder()
    labels = LabelEncoder(tower, cache_size)
    asked = [f"label {i}" for i in range(10)]
    for _ in range(2):
        w = labels.embed(asked, ["{}"])
        np.testing.assert_allclose(w, [vector(label) for label in asked], atol=1e-6)
    assert len(labels._prompts) == cache_size


def test_without_a_cache_every_call_encodes() -> None:
    tower = CountingEncoder()
    labels = LabelEncoder(tower, 0)
    labels.embed(["cat"], ["{}"])
    labels.embed(["cat"], ["{}"])
    assert tower.calls == [["cat"], ["cat"]]


def test_templates_are_averaged_and_normalised() -> None:
    templates = ["a {}", "the {}", "one {} more"]
    w = LabelEncoder(CountingEncoder(), 100).embed(["cat", "dog"], templates)
    for row, label in zip(w, ("cat", "dog"), strict=True):
        mean = np.mean([vector(fill(template, label)) for template in templates], axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1, atol=1e-6)


def test_an_answer_cannot_be_changed_under_the_cache() -> None:
    labels = LabelEncoder(CountingEncoder(), 100)
    with pytest.raises(ValueError, match="read-only"):
        labels.embed(["cat"], ["{}"])[:] = 0


def test_a_label_set_seen_before_is_one_matrix() -> None:
    labels = LabelEncoder(CountingEncoder(), 100)
    first = labels.embed(["cat", "dog"], ["a {}", "the {}"])
    assert labels.embed(["cat", "dog"], ["a {}", "the {}"]) is first
    assert labels.embed(["dog", "cat"], ["a {}", "the {}"]) is not first
    assert labels.embed(["cat", "dog"], ["the {}", "a {}"]) is not first


def test_what_two_requests_miss_at_once_is_encoded_once() -> None:
    tower = CountingEncoder()
    labels = LabelEncoder(tower, 100)
    one, other = labels.look_up(["cat", "dog"], ["{}"]), labels.look_up(["dog", "fox"], ["{}"])
    both = labels.encode([*one.missing, *other.missing])
    assert tower.calls == [["cat", "dog", "fox"]]
    np.testing.assert_allclose(
        labels.combine(one, both[:2]), [vector("cat"), vector("dog")], atol=1e-6
    )
    np.testing.assert_allclose(
        labels.combine(other, both[2:]), [vector("dog"), vector("fox")], atol=1e-6
    )


def test_what_came_into_the_cache_meanwhile_is_not_encoded_again() -> None:
    tower = CountingEncoder()
    labels = LabelEncoder(tower, 100)
    one, other = labels.look_up(["cat"], ["{}"]), labels.look_up(["cat"], ["{}"])
    labels.combine(one, labels.encode(one.missing))
    labels.combine(other, labels.encode(other.missing))
    assert tower.calls == [["cat"]]


def test_a_label_file_holds_a_label_a_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffcat\n\n  dog \r\ncat\nfox", encoding="utf-8")
    assert read_labels(path) == ["cat", "dog", "fox"]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabelFileError, match=r"labels\.txt cannot be read as UTF-8 text"):
        read_labels(path)


def test_hits_and_misses_are_counted() -> None:
    encoder = LabelEncoder(CountingEncoder(), 100)
    encoder.embed(["cat", "dog"], ["{}"])
    encoder.embed(["cat", "car"], ["{}"])
    assert (encoder.hits, encoder.misses) == (1, 3)
