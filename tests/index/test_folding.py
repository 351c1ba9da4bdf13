"""Captions are known again however they came in."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.index import folding
from app.index.folding import SeenCaptions, caption_keys


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(st.integers(0, 40)), size=st.integers(1, 20))
def test_a_key_is_new_once_in_whatever_batches_it_comes(
    monkeypatch: pytest.MonkeyPatch, keys: list[int], size: int
) -> None:
    monkeypatch.setattr(folding, "_FRESH", 3)
    seen = SeenCaptions()
    found: list[bool] = []
    for start in range(0, len(keys), size):
        found += seen.add_all(np.asarray(keys[start : start + size], np.uint64)).tolist()
    assert found == [key not in keys[:place] for place, key in enumerate(keys)]


def test_keys_fold_case_white_space_and_final_punctuation() -> None:
    first, second, third = caption_keys(["A cat.", " ", "a\n cat", "a dog"])
    assert first == second != third
