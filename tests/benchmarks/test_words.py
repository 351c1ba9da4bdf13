"""Made-up labels and captions, none twice."""

import pytest

from benchmarks.words import captions, labels


def test_no_label_comes_twice() -> None:
    made = list(labels())
    assert len(set(made)) == len(made) >= 40_000


def test_as_many_captions_as_asked_for() -> None:
    assert len(set(captions(100))) == 100


def test_no_fewer_than_asked_for() -> None:
    with pytest.raises(ValueError, match="captions can be made up"):
        captions(10**9)
