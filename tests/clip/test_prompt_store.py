"""Embeddings of prompts survive a restart, within bounds, and never those of another model."""

import logging
from pathlib import Path

import numpy as np
import pytest

from app.clip.labels import FloatArray, LabelEncoder, LabelFileError
from app.clip.prompt_store import SqlitePrompts
from tests.clip.test_labels import DIM, CountingEncoder, vector


def open_store(path: Path, model: str = "a model", limit: int = 100) -> SqlitePrompts:
    return SqlitePrompts(path, model, DIM, limit)


def some(*prompts: str) -> dict[str, FloatArray]:
    return {prompt: vector(prompt) for prompt in prompts}


def test_a_restarted_encoder_knows_what_the_first_one_encoded(tmp_path: Path) -> None:
    for expected in ([["a cat", "a dog"]], []):
        tower = CountingEncoder()
        store = open_store(tmp_path / "labels.db")
        w = LabelEncoder(tower, 100, store).embed(["cat", "dog"], ["a {}"])
        np.testing.assert_allclose(w, [vector("a cat"), vector("a dog")], atol=1e-6)
        assert tower.calls == expected
        store.close()


def test_two_servers_share_a_file(tmp_path: Path) -> None:
    one, other = open_store(tmp_path / "labels.db"), open_store(tmp_path / "labels.db")
    one.save(some("cat"))
    other.save(some("dog"))
    assert set(one.load(10)) == {"cat", "dog"}


def test_another_models_embeddings_are_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path / "labels.db").save(some("cat"))
    other = open_store(tmp_path / "labels.db", "another model")
    assert not other.load(10)
    other.save(some("dog"))
    assert set(open_store(tmp_path / "labels.db").load(10)) == {"cat"}


def test_the_newest_stay(tmp_path: Path) -> None:
    store = open_store(tmp_path / "labels.db", limit=3)
    for number in range(10):
        store.save(some(f"label {number}"))
    assert list(store.load(10)) == ["label 7", "label 8", "label 9"]
    assert list(store.load(2)) == ["label 8", "label 9"]


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 100])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.db"
    path.write_bytes(content)
    with pytest.raises(LabelFileError, match=r"XMORE_LABEL_CACHE_FILE=.*cannot be used"):
        open_store(path)
    assert path.read_bytes() == content


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelFileError, match="directory must exist"):
        open_store(tmp_path / "missing" / "labels.db")


def test_a_failing_disk_is_logged_and_the_encoder_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path / "labels.db")
    labels = LabelEncoder(CountingEncoder(), 100, store)
    store.close()
    with caplog.at_level(logging.WARNING):
        w = labels.embed(["cat"], ["{}"])
    np.testing.assert_allclose(w, [vector("cat")], atol=1e-6)
    assert "not kept on disk" in caplog.text
