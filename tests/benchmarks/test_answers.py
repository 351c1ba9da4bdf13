"""Wrong answers are noticed, rounding is not."""

import json

from benchmarks.answers import TopLabel, UnitEmbedding, acceptable

EXPECTED = [{"cat": 0.9, "dog": 0.1}, {"cat": 0.505, "dog": 0.495}]


def test_labels_that_are_nearly_as_probable_may_come_first() -> None:
    assert acceptable(EXPECTED) == (frozenset({"cat"}), frozenset({"cat", "dog"}))


def test_the_first_label_is_looked_up_for_the_photo_asked_about() -> None:
    check = TopLabel(("predictions", 0), acceptable(EXPECTED))
    dog = json.dumps({"predictions": ["dog", "cat"]}).encode()
    assert not check(0, dog)
    assert check(1, dog)


def test_an_embedding_has_the_dimension_and_length_1() -> None:
    def answer(*vector: float) -> bytes:
        return json.dumps({"data": [{"embedding": vector}]}).encode()

    check = UnitEmbedding(2)
    assert check(0, answer(0.6, 0.8))
    assert not check(0, answer(0.6, 0.7))
    assert not check(0, answer(1.0, 0.0, 0.0))
