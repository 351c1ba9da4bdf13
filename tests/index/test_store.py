"""Captions on disk: what goes in comes out, in any order, and nothing else does."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.index.manifest import OFFSETS_FILE, TEXT_FILE, CollectionError
from app.index.store import CaptionStore, write_store

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"))


def store_of(captions: Sequence[str], directory: Path) -> CaptionStore:
    assert write_store(captions, directory) == len(captions)
    return CaptionStore.open(directory)


@given(st.lists(texts, max_size=20), st.data())
def test_any_texts_come_back_in_any_order(captions: list[str], data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        store = store_of(captions, Path(directory))
        assert len(store) == len(captions)
        assert store.texts(range(len(captions))) == captions
        if captions:
            rows = data.draw(st.lists(st.integers(0, len(captions) - 1)))
            assert store.texts(rows) == [captions[row] for row in rows]


def test_rows_may_be_an_array(tmp_path: Path) -> None:
    store = store_of(["one", "", "three"], tmp_path)
    assert store.texts(np.array([2, 0, 2, 1], np.int64)) == ["three", "one", "three", ""]
    assert store.texts(np.array([], np.int64)) == []
    assert store.texts([]) == []


@pytest.mark.parametrize("rows", [[3], [-1], [0, 1, 3], [0, -1], [2**62], [-(2**62)]])
def test_a_row_out_of_range_is_refused(tmp_path: Path, rows: list[int]) -> None:
    store = store_of(["one", "two", "three"], tmp_path)
    with pytest.raises(IndexError, match=r"0\.\.2"):
        store.texts(rows)


def test_an_empty_store_has_no_rows(tmp_path: Path) -> None:
    store = store_of([], tmp_path)
    assert len(store) == 0
    assert store.texts([]) == []
    for row in (0, -1):
        with pytest.raises(IndexError):
            store.texts([row])


def test_a_caption_with_a_line_break_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line break"):
        write_store(["fine", "not\nfine"], tmp_path)


def test_the_text_file_is_one_caption_a_line(tmp_path: Path) -> None:
    write_store(["ein Hündchen", "猫"], tmp_path)
    assert (tmp_path / TEXT_FILE).read_bytes() == "ein Hündchen\n猫\n".encode()


@pytest.mark.parametrize("captions", [["one", "two", "more"], ["one"], []])
def test_files_of_two_builds_do_not_fit(tmp_path: Path, captions: list[str]) -> None:
    write_store(["one", "two"], tmp_path)
    text = (tmp_path / TEXT_FILE).read_bytes()
    write_store(captions, tmp_path)
    (tmp_path / TEXT_FILE).write_bytes(text)
    with pytest.raises(
        CollectionError, match=f"{TEXT_FILE} and {OFFSETS_FILE} are not of the same"
    ):
        CaptionStore.open(tmp_path)


@pytest.mark.parametrize(
    "offsets",
    [
        np.array([0, 4], np.int64),
        np.array([0.0, 4.0]),
        np.array([[0, 4]], np.uint64),
        np.array([], np.uint64),
    ],
)
def test_a_table_of_something_else_is_refused(
    tmp_path: Path, offsets: np.typing.NDArray[np.generic]
) -> None:
    write_store(["one"], tmp_path)
    np.save(tmp_path / OFFSETS_FILE, offsets)
    with pytest.raises(CollectionError, match=f"{OFFSETS_FILE} is not a table of offsets"):
        CaptionStore.open(tmp_path)


def test_offsets_that_do_not_begin_at_the_beginning_are_refused(tmp_path: Path) -> None:
    write_store(["one"], tmp_path)
    np.save(tmp_path / OFFSETS_FILE, np.array([1, 4], np.uint64))
    with pytest.raises(CollectionError, match="not of the same build"):
        CaptionStore.open(tmp_path)
